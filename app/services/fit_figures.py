"""What a stored fit says of itself: its interval and its quality, read from the report that the worker left.

Reports are JSON and grow with versions: what an earlier one did not write is null.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection

from app.db import lookup as lookup_db
from app.db.lookup import TableHeader
from app.domain.hamming_graph import Float64Array
from app.domain.held_out_pairs import MAX_PAIRS, HeldOutPairs
from app.domain.lookup_table import Limits
from app.domain.prediction_interval import PredictionInterval
from app.domain.subspace import Subspace, choices_of
from app.domain.whole_space.additive_function import AdditiveFunction
from app.schemas.retraining import RoundAgreement
from app.schemas.search import Interval, PredictorQuality


@dataclass(frozen=True, eq=False)
class TableFigures:
    """What is known of a published table's predictor; it does not change.

    Attributes:
        quality: Over all limits; None where no figures were stored.
        interval: Of z around its predictions.
        held_out: What a tau under limits comes from.
    """

    quality: PredictorQuality | None
    interval: PredictionInterval | None
    held_out: HeldOutPairs

    def quality_within(
        self,
        limits: Limits,
        latencies: Sequence[tuple[AdditiveFunction, float]] = (),
        standalone: RoundAgreement | None = None,
    ) -> PredictorQuality | None:
        """Return the quality of an answer.

        Args:
            limits: On multi-adds and parameters.
            latencies: Limits on devices' latencies.
            standalone: How the predictor ranks what was trained by itself up to now; None: as far as the fit knew.
        """
        if self.quality is None:
            return None
        band_tau, num_in_band = self.held_out.tau_within(limits, latencies)
        known: dict[str, Any] = {"band_tau": band_tau, "num_in_band": num_in_band}
        if standalone is not None and standalone.tau is not None:
            known |= {"standalone_tau": standalone.tau, "standalone_tau_interval": standalone.tau_interval}
        return self.quality.model_copy(update=known)


def read_table_figures(connection: Connection, header: TableHeader, subspace: Subspace) -> TableFigures:
    """Read what the fit of a table's round left in the database."""
    report, held_out_tau = lookup_db.read_fit(connection, header.search_id, header.round_index)
    return TableFigures(
        None if report is None else quality_of(report, held_out_tau),
        None if report is None else interval_in(report),
        _held_out(connection, header, subspace),
    )


def _held_out(connection: Connection, header: TableHeader, subspace: Subspace) -> HeldOutPairs:
    accuracies = lookup_db.held_out_accuracies(connection, header.search_id, header.round_index, MAX_PAIRS)
    choices_NL = choices_of(list(accuracies), subspace.space.num_cells)
    index_N = subspace.indices(choices_NL)
    by_index = {row.subspace_index: row for row in lookup_db.rows_at(connection, header.table_id, index_N.tolist())}
    # none are there when the table was replaced since its header was read
    found = [number for number, index in enumerate(index_N.tolist()) if index in by_index]
    rows = [by_index[index] for index in index_N[found].tolist()]
    return HeldOutPairs(
        np.array([row.predicted_accuracy for row in rows], dtype=np.float64),
        np.array(list(accuracies.values()), dtype=np.float64)[found],
        np.array([row.multi_adds for row in rows], dtype=np.int64),
        np.array([row.params for row in rows], dtype=np.int64),
        choices_NL[found].astype(np.int64),
    )


def quality_of(report: Mapping[str, Any], held_out_tau: float | None) -> PredictorQuality:
    """Return what a fit's report says of the predictor's quality."""
    labels: Mapping[str, Any] = report.get("standalone") or {}
    return PredictorQuality(
        predictor=report.get("predictor"),
        held_out_tau=held_out_tau,
        num_held_out=report.get("num_held_out"),
        additive_tau=report.get("additive_tau"),
        label_noise=report.get("label_noise"),
        standalone_tau=labels.get("tau"),
        standalone_tau_interval=labels.get("tau_interval"),
    )


def interval_in(report: Mapping[str, Any]) -> PredictionInterval | None:
    """Return the interval that a fit's report brings."""
    return None if report.get("interval") is None else PredictionInterval.from_dict(report["interval"])


def intervals_of(
    interval: PredictionInterval | None, predicted: Sequence[float], stretch_N: Float64Array | float = 1.0
) -> list[Interval | None]:
    """Return the interval around each prediction, as much wider than usual as ``stretch_N`` says."""
    if interval is None:
        return [None] * len(predicted)
    lower_N, upper_N = interval.bounds(np.asarray(predicted, dtype=np.float64), stretch_N)
    return [
        Interval(level=interval.level, lower=lower, upper=upper)
        for lower, upper in zip(lower_N.tolist(), upper_N.tolist(), strict=True)
    ]
