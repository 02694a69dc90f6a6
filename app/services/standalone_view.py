"""What the service says about architectures trained by themselves, and how far the search agrees with them."""

import datetime as dt
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from sqlalchemy.orm import Session

from app.db import searches, standalone, tables
from app.db.models import StandaloneAccuracyRow
from app.domain.rank_correlation import kendall_interval, kendall_tau
from app.domain.search_space import SearchSpace
from app.domain.standalone_recipe import Retraining
from app.domain.subspace import Subspace
from app.schemas.retraining import RoundAgreement, StandaloneAgreement, StandaloneGroup, StandaloneView

MIN_ARCHITECTURES = 3
"""Fewer say nothing about a ranking."""

AGREEMENT_LASTS_S = 60.0
"""For so long an answer need not know of an architecture that was trained by itself meanwhile."""


def moment(number: int) -> int:
    """Return what changes every :data:`AGREEMENT_LASTS_S`, not for all numbers (of tables) at once."""
    return int(time.monotonic() / AGREEMENT_LASTS_S + number / 7)


def of_architecture(session: Session, search_id: uuid.UUID, code: str) -> list[StandaloneView]:
    """Return an architecture's stand-alone accuracies, the latest first."""
    return [
        StandaloneView.model_validate(
            {
                **{name: getattr(row, name) for name in StandaloneView.model_fields if name != "images"},
                "images": Retraining.model_validate(row.retraining).images,
            }
        )
        for row in standalone.of_architecture(session, search_id, code)
    ]


def agreement(session: Session, search_id: uuid.UUID, space: SearchSpace) -> StandaloneAgreement | None:
    """Return how predictions and sampled accuracies rank the architectures that were trained by themselves.

    Accuracies of one architecture with several seeds are averaged.
    """
    groups = _groups(standalone.of_search(session, search_id))
    if not groups or len(_mean_accuracies(groups[0])) < MIN_ARCHITECTURES:
        return None
    codes = sorted({row.code for group in groups for row in group})
    predicted = _predicted(session, search_id, space, codes)
    sampled = {pair.code: pair.accuracy for pair in searches.pairs_of_architectures(session, search_id, codes)}
    largest, *others = (_group_view(group, predicted, sampled) for group in groups)
    return StandaloneAgreement(**dict(largest), others=others, num_not_counted=sum(len(group) for group in groups[1:]))


def _group_view(
    rows: Sequence[StandaloneAccuracyRow], predicted: Mapping[str, float], sampled: Mapping[str, float]
) -> StandaloneGroup:
    truth = _mean_accuracies(rows)
    predicted = {code: predicted[code] for code in truth if code in predicted}
    sampled = {code: sampled[code] for code in truth if code in sampled}
    return StandaloneGroup(
        num_architectures=len(truth),
        recipe=rows[-1].recipe,
        network=rows[-1].network,
        from_supernet=rows[-1].from_supernet,
        epochs=rows[-1].epochs,
        images=Retraining.model_validate(rows[-1].retraining).images,
        num_predicted=len(predicted),
        tau_predicted=_tau(predicted, truth),
        tau_predicted_interval=kendall_interval(list(predicted.values()), [truth[code] for code in predicted]),
        num_sampled=len(sampled),
        tau_sampled=_tau(sampled, truth),
    )


def _groups(rows: Sequence[StandaloneAccuracyRow]) -> list[list[StandaloneAccuracyRow]]:
    """The rows by how they were trained, whatever their seeds; most architectures first, of equals the latest way."""
    groups: dict[Retraining, list[StandaloneAccuracyRow]] = defaultdict(list)
    for row in rows:
        groups[Retraining.model_validate(row.retraining).way()].append(row)

    def rank(group: list[StandaloneAccuracyRow]) -> tuple[int, dt.datetime]:
        return len({row.code for row in group}), group[-1].finished_at

    return sorted(groups.values(), key=rank, reverse=True)


def agreement_of_rounds(
    session: Session, search_id: uuid.UUID, space: SearchSpace, round_index: int | None = None
) -> dict[int, RoundAgreement]:
    """Return how each round's table ranks the architectures that were trained by themselves, where there are enough.

    Args:
        session: The database.
        search_id: The search.
        space: Its search space.
        round_index: The only round that is asked for; None: all.
    """
    groups = _groups(standalone.of_search(session, search_id))
    truth = _mean_accuracies(groups[0] if groups else [])
    if len(truth) < MIN_ARCHITECTURES:
        return {}
    agreements = {
        index: _agreement(predicted, truth)
        for index, predicted in _predicted_by_rounds(session, search_id, space, list(truth))
        if round_index in (None, index)
    }
    return {index: found for index, found in agreements.items() if found is not None}


def agreement_of_space(
    session: Session, search_id: uuid.UUID, predict: Callable[[list[str]], list[float]]
) -> RoundAgreement | None:
    """Return how a predictor of the whole space ranks those architectures trained by themselves that it never saw.

    The true labels of the rounds have corrected it, and do not count.

    Args:
        session: The database.
        search_id: The search.
        predict: The predictor, for codes.
    """
    groups = _groups(standalone.of_search(session, search_id))
    reports = [row.fit_report or {} for row in searches.rounds_of(session, [search_id])]
    corrected_by = {code for report in reports for code in (report.get("standalone") or {}).get("left_out", {})}
    truth = _mean_accuracies([row for row in (groups[0] if groups else []) if row.code not in corrected_by])
    if len(truth) < MIN_ARCHITECTURES:
        return None
    return _agreement(dict(zip(truth, predict(list(truth)), strict=True)), truth)


def _agreement(predicted: Mapping[str, float], truth: Mapping[str, float]) -> RoundAgreement | None:
    if len(predicted) < MIN_ARCHITECTURES:
        return None
    values = list(predicted.values()), [truth[code] for code in predicted]
    return RoundAgreement(
        num_architectures=len(predicted), tau=kendall_tau(*values), tau_interval=kendall_interval(*values)
    )


def _mean_accuracies(rows: Sequence[StandaloneAccuracyRow]) -> dict[str, float]:
    accuracies: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        accuracies[row.code].append(row.accuracy)
    return {code: fmean(values) for code, values in accuracies.items()}


def _predicted(session: Session, search_id: uuid.UUID, space: SearchSpace, codes: list[str]) -> dict[str, float]:
    """What the latest table that may be judged by an architecture predicts for it."""
    found = _predicted_by_rounds(session, search_id, space, codes)
    return {code: value for _, predicted in found for code, value in predicted.items()}


def _predicted_by_rounds(
    session: Session, search_id: uuid.UUID, space: SearchSpace, codes: list[str]
) -> list[tuple[int, dict[str, float]]]:
    """For every round with a table what it predicts for those architectures that may judge it.

    The round's own true labels have corrected the table; what counts of them is what the others alone would predict.
    Those of earlier rounds have corrected it as well, and do not count.
    """
    rounds = {row.round_index: row for row in searches.rounds_of(session, [search_id])}
    found, corrected_by = [], set[str]()
    for table in searches.tables_of(session, [search_id]):
        row = rounds[table.round_index]
        left_out = ((row.fit_report or {}).get("standalone") or {}).get("left_out", {})
        corrected_by |= left_out.keys()
        subspace = Subspace.from_dict(space, row.subspace)
        judging = [code for code in codes if code not in corrected_by]
        index_of = {code: index for code in judging if (index := _index(subspace, code)) is not None}
        rows = tables.predictions(session, table.id, list(index_of.values()))
        # a table that is replaced right now has no rows any more
        predicted = {code: rows[index] for code, index in index_of.items() if index in rows}
        predicted |= {code: left_out[code] for code in codes if code in left_out}
        found.append((table.round_index, predicted))
    return found


def _index(subspace: Subspace, code: str) -> int | None:
    try:
        return subspace.index(subspace.space.parse_code(code))
    except ValueError:  # not in this round's subspace
        return None


def _tau(values: Mapping[str, float], truth: Mapping[str, float]) -> float | None:
    if len(values) < MIN_ARCHITECTURES:
        return None
    return kendall_tau([values[code] for code in values], [truth[code] for code in values])
