"""A whole lookup table as a picture: how its architectures lie over cost and prediction, and which are the best."""

import uuid
from dataclasses import replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.db import atlas as atlas_db
from app.db import lookup as lookup_db
from app.db.lookup import TableHeader
from app.domain.ranked_table import RankedTable
from app.errors import UnknownPathError
from app.schemas.atlas import Density, Within
from app.services import device_latencies, lookup
from app.services.callers import Caller
from app.services.lifecycle import require
from app.services.limits import AskedLimits, in_units
from app.services.lookup_errors import nothing_to_ask
from app.services.space_cache import searched_space

COST_BINS, ACCURACY_BINS = 112, 72
MAX_BAND_ROWS = 3000
"""More dots than this are a cloud, and the cloud is drawn already."""


class _Pictures:
    """Pictures by their table: a published table never changes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.density = lru_cache(maxsize=64)(self._density)

    def _density(self, header: TableHeader) -> Density:
        with lookup_db.reading(self._engine) as connection:
            found = atlas_db.accuracy_range(connection, header.table_id)
            if found is None:  # deleted since its header was read
                raise nothing_to_ask(header.search_id)
            cells = atlas_db.density(
                connection,
                header.table_id,
                costs=_widened(header.min_multi_adds, header.max_multi_adds),
                accuracies=_wide_enough(*found),
                bins=(COST_BINS, ACCURACY_BINS),
            )
            band = atlas_db.band_rows(connection, header.table_id, MAX_BAND_ROWS)
        return Density(
            search_id=header.search_id,
            round_index=header.round_index,
            num_rows=header.num_rows,
            min_multi_adds=header.min_multi_adds,
            max_multi_adds=header.max_multi_adds,
            min_params=header.min_params,
            max_params=header.max_params,
            min_accuracy=found[0],
            max_accuracy=found[1],
            cost_bins=COST_BINS,
            accuracy_bins=ACCURACY_BINS,
            cells=[(c.cost_bin, c.accuracy_bin, c.num_rows, c.min_params, c.min_multi_adds) for c in cells],
            band=[(r.subspace_index, round(r.predicted_accuracy, 6), r.multi_adds, r.params, r.band) for r in band],
            num_front=sum(row.band == 0 for row in band),
        )


@lru_cache(maxsize=8)
def _pictures(engine: Engine) -> _Pictures:
    return _Pictures(engine)


def density(engine: Engine, caller: Caller, search_id: uuid.UUID, round_index: int) -> Density:
    """Return the picture of a round's table.

    Raises:
        SearchNotFoundError, RoundNotFoundError, TableNotReadyError: If there is no such table (yet).
    """
    header, _ = lookup.open_table(engine, caller, search_id, round_index)
    return _pictures(engine).density(header)


def code_of_row(engine: Engine, caller: Caller, search_id: uuid.UUID, round_index: int, subspace_index: int) -> str:
    """Return the code of a table's row.

    Raises:
        SearchNotFoundError, RoundNotFoundError, TableNotReadyError: If there is no such table (yet).
        UnknownPathError: If the table has no such row.
    """
    header, subspace = lookup.open_table(engine, caller, search_id, round_index)
    if not 0 <= subspace_index < header.num_rows:
        raise UnknownPathError(detail=f"this table has the rows 0 to {header.num_rows - 1}, not {subspace_index}")
    return subspace.codes([subspace_index])[0]


def devices_of(session: Session, caller: Caller, search_id: uuid.UUID) -> list[str]:
    """Return the names of the devices whose latency can be limited in a search's tables.

    Raises:
        SearchNotFoundError: If there is no search of that id.
    """
    search = require(session, search_id, caller)
    space = searched_space(search.id, search.search_space, search.config).space
    return device_latencies.names_for(session, caller, search, space)


def within(engine: Engine, caller: Caller, search_id: uuid.UUID, round_index: int, asked: AskedLimits) -> Within:
    """Return what of a table meets limits.

    Raises:
        SearchNotFoundError, RoundNotFoundError, TableNotReadyError: If there is no such table (yet).
        DeviceNotFoundError: If there is no such device, or it is not known for these networks.
    """
    if asked.latencies:
        return _within_latencies(engine, caller, search_id, round_index, asked)
    header, _ = lookup.open_table(engine, caller, search_id, round_index)
    limits = [lookup_db.MAX_BIGINT if (n := in_units(m)) is None else n for m in (asked.max_madds, asked.max_params)]
    with lookup_db.reading(engine) as connection:
        num = atlas_db.num_rows_within(connection, header.table_id, max_multi_adds=limits[0], max_params=limits[1])
    return Within(within=num, num_rows=header.num_rows)


def _within_latencies(
    engine: Engine, caller: Caller, search_id: uuid.UUID, round_index: int, asked: AskedLimits
) -> Within:
    """Latencies are no columns of the stored table, so a page cannot tell from its dots which of them are within."""
    names = [name for name, _ in asked.latencies]
    table, latency = lookup.open_ranked(engine, caller, search_id, round_index, names)
    within_N = table.within(lookup.limits_of(table, latency, asked))
    front = table.front(table.costs["multi_adds"], within_N)
    choices_NL = table.subspace.architectures(front)
    multi_adds, params = (table.costs[name].of(choices_NL).astype(int).tolist() for name in ("multi_adds", "params"))
    accuracies = [round(accuracy, 6) for accuracy in table.predicted_accuracy[front].tolist()]
    picture = density(engine, caller, search_id, round_index)
    # the chart shows the multi-adds' limit by a line; what is beyond it is not paler for that
    unlined_N = table.within(lookup.limits_of(table, latency, replace(asked, max_madds=None)))
    return Within(
        within=int(within_N.sum()),
        num_rows=len(within_N),
        front=list(zip(front, accuracies, multi_adds, params, strict=True)),
        band=[row[0] for row in picture.band if within_N[row[0]]],
        cells=_cells_with(picture, table, unlined_N),
    )


def _cells_with(picture: Density, table: RankedTable, chosen_N: npt.NDArray[np.bool_]) -> list[int]:
    """The places of a picture's cells that hold any of the chosen rows."""

    def bins(values_K: npt.NDArray[np.floating], low: float, high: float, num: int) -> npt.NDArray[np.int64]:
        # as the database's width_bucket, by which the cells were made
        bins_K = np.floor((values_K.astype(np.float64) - low) / (high - low) * num).astype(np.int64)
        return np.clip(bins_K, 0, num - 1)

    costs_K = table.subspace.sums(table.costs["multi_adds"])[chosen_N]
    costs = _widened(picture.min_multi_adds, picture.max_multi_adds)
    accuracies = _wide_enough(picture.min_accuracy, picture.max_accuracy)
    holds = np.zeros((COST_BINS, ACCURACY_BINS), dtype=bool)
    holds[bins(costs_K, *costs, COST_BINS), bins(table.predicted_accuracy[chosen_N], *accuracies, ACCURACY_BINS)] = True
    return [place for place, (cost_bin, accuracy_bin, *_) in enumerate(picture.cells) if holds[cost_bin, accuracy_bin]]


def _widened(low: int, high: int) -> tuple[int, int]:
    """A range that has a width, also where all architectures cost the same."""
    return low, max(high, low + 1)


def _wide_enough(low: float, high: float) -> tuple[float, float]:
    """A range of accuracies that has a width, also where all predictions are the same."""
    return low, max(high, low + 1e-6)
