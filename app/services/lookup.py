"""The best architecture under these limits, from a stored table (section 4.5)."""

import uuid
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session

from app.db import lookup as lookup_db
from app.db.lookup import TableHeader, TableRow
from app.domain.lookup_table import Limits
from app.domain.multi_adds import Cost
from app.domain.ranked_table import RankedTable
from app.domain.subspace import Subspace, codes_of
from app.domain.whole_space.additive_function import AdditiveFunction
from app.errors import RoundNotFoundError
from app.schemas.lookup import LookupAnswer, LookupItem, ParetoAnswer
from app.schemas.retraining import RoundAgreement
from app.services import device_latencies, standalone_view
from app.services.callers import Caller
from app.services.device_latencies import DeviceLatency
from app.services.fit_figures import TableFigures, intervals_of, read_table_figures
from app.services.limits import AskedLimits, in_units, infeasible
from app.services.lookup_errors import not_ready, nothing_to_ask, only_a_job
from app.services.lookup_items import cost_ranges, latency_of_space, limited_latencies, lookup_items
from app.services.space_cache import searched_space


class _Tables:
    """What is kept of published tables. A table never changes, and one that takes its place has another id."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.subspace = lru_cache(maxsize=256)(self._read_subspace)
        self.finished = lru_cache(maxsize=1024)(self._find_finished)
        # half a megabyte each for the paper's 200 held-out pairs; without them a question takes milliseconds more
        self.figures = lru_cache(maxsize=256)(self._read_figures)
        self._known = lru_cache(maxsize=128)(self._read_known)
        self._asked: set[uuid.UUID] = set()
        self._of_finished: set[int] = set()
        self._agreement = lru_cache(maxsize=256)(self._read_agreement)
        # 2 MB each for 279,936 rows
        self.table = lru_cache(maxsize=128)(self._read_table)

    def _read_subspace(self, header: TableHeader) -> tuple[Subspace, tuple[Cost, Cost]]:
        with lookup_db.reading(self._engine) as connection:
            found = lookup_db.read_subspace(connection, header.search_id, header.round_index)
        if found is None:  # deleted since its header was read
            raise nothing_to_ask(header.search_id)
        space, config, subspace = found
        searched = searched_space(header.search_id, space, config)
        return Subspace.from_dict(searched.space, subspace), searched.target_costs

    def _read_table(self, header: TableHeader) -> RankedTable:
        subspace, _ = self.subspace(header)
        with lookup_db.reading(self._engine) as connection:
            predicted_N = lookup_db.read_predictions(connection, header.table_id)
        if predicted_N.size != subspace.size:  # deleted since its header was read
            raise nothing_to_ask(header.search_id)
        return RankedTable.from_predictions(subspace, predicted_N)

    def _read_figures(self, header: TableHeader) -> TableFigures:
        subspace, _ = self.subspace(header)
        with lookup_db.reading(self._engine) as connection:
            return read_table_figures(connection, header, subspace)

    def agreement(self, header: TableHeader) -> RoundAgreement | None:
        """Return how a table ranks what was trained by itself, as of a minute ago: retrainings come any time."""
        return self._agreement(header, standalone_view.moment(header.table_id))

    def _read_agreement(self, header: TableHeader, _moment: int) -> RoundAgreement | None:
        subspace, _ = self.subspace(header)
        with lookup_db.reading(self._engine) as connection, Session(connection) as session:
            found = standalone_view.agreement_of_rounds(session, header.search_id, subspace.space, header.round_index)
        return found.get(header.round_index)

    def _find_finished(self, search_id: uuid.UUID, round_index: int | None, owner: str | None) -> TableHeader:
        with lookup_db.reading(self._engine) as connection:
            found = lookup_db.find_table(connection, search_id, round_index, owner)
        if found is None or found.header is None or found.state != "succeeded":
            raise _NotFinishedError
        self._of_finished.add(found.header.table_id)
        return found.header

    def _read_known(self, search_id: uuid.UUID) -> dict[tuple[str, str], float]:
        with lookup_db.reading(self._engine) as connection:
            return lookup_db.accuracies(connection, search_id)

    def known(
        self, header: TableHeader, connection: Connection, codes: Sequence[str]
    ) -> Mapping[tuple[str, str], float]:
        """Return accuracies of evaluated architectures; of a finished search, whose pairs stay, those kept.

        The first question about a search does not wait for all its pairs, from which the later ones are answered.
        """
        try:
            if header.table_id not in self._of_finished:
                self.finished(header.search_id, header.round_index, None)
        except _NotFinishedError:
            return lookup_db.accuracies(connection, header.search_id, codes)
        if header.search_id not in self._asked:
            self._asked.add(header.search_id)
            return lookup_db.accuracies(connection, header.search_id, codes)
        return self._known(header.search_id)


class _NotFinishedError(Exception):
    """The search may still change; raised so that it is not kept."""


@lru_cache(maxsize=8)
def _tables(engine: Engine) -> _Tables:
    return _Tables(engine)


def look_up(
    engine: Engine,
    caller: Caller,
    *,
    search_id: uuid.UUID | None,
    round_index: int | None,
    asked: AskedLimits,
    limit: int,
) -> LookupAnswer:
    """Return the best architectures of a table under limits.

    Without a device the band's index answers. A latency is no column of the database: it is a sum over cells of a
    device's latencies, added up for the whole table at the moment of the question, so any device will do, also one
    that came after the search, and several at once.

    Raises:
        SearchNotFoundError, NoTableError, RoundNotFoundError, TableNotReadyError: If there is no such table (yet).
        DeviceNotFoundError: If there is no such device, or it is not known for these networks.
    """
    with lookup_db.reading(engine) as connection:
        if asked.latencies:
            header = _table(engine, connection, caller, search_id, round_index)
            table = _tables(engine).table(header)
            latency = device_latencies.latencies_on(
                connection, caller, [name for name, _ in asked.latencies], table.subspace.space, header.search_id
            )
            rows, ranges = _rows_with_latency(table, latency, asked, limit)
        else:
            header, rows = _banded_rows(engine, connection, caller, search_id, round_index, asked, limit)
            latency, ranges = (), {}
        subspace, space_costs = _tables(engine).subspace(header)
        items = _items(engine, connection, header, subspace, rows, latency, asked)
        agreement = _tables(engine).agreement(header)
    fields = _header_fields(header, ranges)
    message = None
    if not items:
        message = infeasible("table", fields["feasible"], cost_ranges(space_costs, latency_of_space(latency)), asked)
    figures = _tables(engine).figures(header)
    quality = figures.quality_within(_counts(asked), limited_latencies(latency, asked), agreement)
    return LookupAnswer(**fields, scope="table", is_exact=True, quality=quality, items=items, message=message)


def tau_within(
    engine: Engine, caller: Caller, search_id: uuid.UUID, round_index: int, asked: AskedLimits
) -> tuple[float | None, int]:
    """Return Kendall's tau of a round's table against z over the held-out pairs within limits, and their number.

    Raises:
        SearchNotFoundError, NoTableError, RoundNotFoundError, TableNotReadyError: If there is no such table (yet).
        DeviceNotFoundError: If there is no such device, or it is not known for these networks.
    """
    with lookup_db.reading(engine) as connection:
        header = _table(engine, connection, caller, search_id, round_index)
        subspace, _ = _tables(engine).subspace(header)
        latency = device_latencies.latencies_on(
            connection, caller, [name for name, _ in asked.latencies], subspace.space, search_id
        )
    limits = limited_latencies(latency, asked)
    return _tables(engine).figures(header).held_out.tau_within(_counts(asked), limits)


def _counts(asked: AskedLimits) -> Limits:
    """The limits that are on counts, in units."""
    return Limits(in_units(asked.max_madds), in_units(asked.max_params))


def _banded_rows(
    engine: Engine,
    connection: Connection,
    caller: Caller,
    search_id: uuid.UUID | None,
    round_index: int | None,
    asked: AskedLimits,
    limit: int,
) -> tuple[TableHeader, list[TableRow]]:
    """The best rows of a table under limits on multi-adds and parameters, from the band."""
    kept = _kept_header(engine, caller, search_id, round_index)
    header = kept or _table(engine, connection, caller, search_id, round_index)
    limits = {"max_multi_adds": in_units(asked.max_madds), "max_params": in_units(asked.max_params)}
    rows = lookup_db.top_rows(connection, header.table_id, limit, **limits)
    if not rows:
        # nothing meets the limits, or the table is gone and its header was kept
        header = _table(engine, connection, caller, search_id, round_index)
        rows = lookup_db.top_rows(connection, header.table_id, limit, **limits)
    return header, rows


def _rows_with_latency(
    table: RankedTable, latency: Sequence[DeviceLatency], asked: AskedLimits, limit: int
) -> tuple[list[TableRow], dict[str, tuple[float, float]]]:
    """The best rows of a table under limits that include latencies, and the range of each latency there."""
    own = table.costs
    best = table.top(limit, limits_of(table, latency, asked))
    choices_NL = table.subspace.architectures(best)
    multi_adds, params = (own[name].of(choices_NL).astype(int).tolist() for name in ("multi_adds", "params"))
    accuracies = table.predicted_accuracy[best].tolist()
    rows = [TableRow(*row) for row in zip(best, accuracies, multi_adds, params, strict=True)]
    ranges = {}
    for device in latency:
        least, most = table.range(device.function)
        ranges[device.name] = device.function.shortest(least), device.function.shortest(most)
    return rows, ranges


def limits_of(
    table: RankedTable, latency: Sequence[DeviceLatency], asked: AskedLimits
) -> list[tuple[AdditiveFunction, float]]:
    """Return the limits that were given, each with what it limits."""
    own = (
        (table.costs["multi_adds"], in_units(asked.max_madds)),
        (table.costs["params"], in_units(asked.max_params)),
    )
    limited = [(cost, float(value)) for cost, value in own if value is not None]
    return limited + limited_latencies(latency, asked)


def open_ranked(
    engine: Engine, caller: Caller, search_id: uuid.UUID, round_index: int, names: Sequence[str]
) -> tuple[RankedTable, tuple[DeviceLatency, ...]]:
    """Return a round's published table in memory, and the latencies of devices on its networks.

    Raises:
        SearchNotFoundError, NoTableError, RoundNotFoundError, TableNotReadyError: If there is no such table (yet).
        DeviceNotFoundError: If there is no such device, or it is not known for these networks.
    """
    with lookup_db.reading(engine) as connection:
        header = _table(engine, connection, caller, search_id, round_index)
        table = _tables(engine).table(header)
        return table, device_latencies.latencies_on(connection, caller, names, table.subspace.space, header.search_id)


def pareto(
    engine: Engine,
    caller: Caller,
    *,
    search_id: uuid.UUID | None,
    round_index: int | None,
    cost: Literal["multi_adds", "params"],
) -> ParetoAnswer:
    """Return the Pareto front of a table's predicted accuracy over a cost, cheapest first.

    Raises:
        SearchNotFoundError, NoTableError, RoundNotFoundError, TableNotReadyError: If there is no such table (yet).
    """
    with lookup_db.reading(engine) as connection:
        header = _table(engine, connection, caller, search_id, round_index)
        rows = lookup_db.pareto_front(connection, header.table_id, cost)
        if not rows:  # every table has a front: this one was replaced since its header was read
            header = _table(engine, connection, caller, search_id, round_index)
            rows = lookup_db.pareto_front(connection, header.table_id, cost)
        subspace, _ = _tables(engine).subspace(header)
        items = _items(engine, connection, header, subspace, rows)
        agreement = _tables(engine).agreement(header)
    quality = _tables(engine).figures(header).quality_within(Limits(), standalone=agreement)
    return ParetoAnswer(**_header_fields(header), quality=quality, items=items[::-1])


def open_table(engine: Engine, caller: Caller, search_id: uuid.UUID, round_index: int) -> tuple[TableHeader, Subspace]:
    """Return the header and the subspace of a round's published table.

    Raises:
        SearchNotFoundError, NoTableError, RoundNotFoundError, TableNotReadyError: If there is no such table (yet).
    """
    with lookup_db.reading(engine) as connection:
        header = _table(engine, connection, caller, search_id, round_index)
    return header, _tables(engine).subspace(header)[0]


def _kept_header(
    engine: Engine, caller: Caller, search_id: uuid.UUID | None, round_index: int | None
) -> TableHeader | None:
    """Return the header of a finished search's table without asking the database, if it was asked before."""
    try:
        return None if search_id is None else _tables(engine).finished(search_id, round_index, caller.visible_owner)
    except _NotFinishedError:
        return None


def _table(
    engine: Engine, connection: Connection, caller: Caller, search_id: uuid.UUID | None, round_index: int | None
) -> TableHeader:
    found = lookup_db.find_table(connection, search_id, round_index, caller.visible_owner)
    if found is None:
        raise nothing_to_ask(search_id)
    if not found.num_rounds:
        raise only_a_job(found.search_id)
    if round_index is not None and round_index >= found.num_rounds:
        raise RoundNotFoundError(
            detail=f"search {found.search_id} has the rounds 0 to {found.num_rounds - 1}, not {round_index}"
        )
    if found.header is None or (round_index is None and found.state != "succeeded"):
        raise not_ready(engine, caller, found.search_id, "that table")
    return found.header


def _items(
    engine: Engine,
    connection: Connection,
    header: TableHeader,
    subspace: Subspace,
    rows: Sequence[TableRow],
    latency: Sequence[DeviceLatency] = (),
    asked: AskedLimits | None = None,
) -> list[LookupItem]:
    if not rows:
        return []
    choices_NL = subspace.architectures([row.subspace_index for row in rows])
    known = _tables(engine).known(header, connection, codes_of(choices_NL))
    costs = [(row.multi_adds, row.params) for row in rows]
    predicted = [row.predicted_accuracy for row in rows]
    interval = _tables(engine).figures(header).interval
    intervals = intervals_of(interval, predicted)
    return lookup_items(subspace.space, choices_NL, predicted, costs, known, intervals, latency, asked)


def _header_fields(header: TableHeader, latency: Mapping[str, tuple[float, float]] | None = None) -> dict[str, Any]:
    smallest = Cost(header.min_multi_adds, header.min_params)
    return {
        "search_id": header.search_id,
        "round_index": header.round_index,
        "num_rows": header.num_rows,
        "table_digest": header.digest,
        "feasible": cost_ranges((smallest, Cost(header.max_multi_adds, header.max_params)), latency or {}),
    }
