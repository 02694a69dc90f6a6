"""The best architecture under these limits, from a stored table (section 4.5)."""

import uuid
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

from sqlalchemy import Connection, Engine

from app.db import lookup as lookup_db
from app.db.lookup import TableHeader, TableRow
from app.domain.multi_adds import Cost
from app.domain.subspace import Subspace, codes_of
from app.errors import RoundNotFoundError
from app.schemas.lookup import CostRanges, LookupAnswer, LookupItem, ParetoAnswer
from app.schemas.search import Range
from app.services.callers import Caller
from app.services.limits import in_units, infeasible
from app.services.lookup_errors import not_ready, nothing_to_ask
from app.services.lookup_items import lookup_items
from app.services.space_cache import searched_space


class _Tables:
    """What is kept of published tables. A table never changes, and one that takes its place has another id."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.subspace = lru_cache(maxsize=256)(self._read_subspace)
        self.finished = lru_cache(maxsize=1024)(self._find_finished)
        self._known = lru_cache(maxsize=256)(self._read_known)

    def _read_subspace(self, header: TableHeader) -> tuple[Subspace, tuple[Cost, Cost]]:
        with lookup_db.reading(self._engine) as connection:
            found = lookup_db.read_subspace(connection, header.search_id, header.round_index)
        if found is None:  # deleted since its header was read
            raise nothing_to_ask(header.search_id)
        space, config, subspace = found
        searched = searched_space(header.search_id, space, config)
        return Subspace.from_dict(searched.space, subspace), searched.target_costs

    def _find_finished(self, search_id: uuid.UUID, round_index: int | None, owner: str | None) -> TableHeader:
        with lookup_db.reading(self._engine) as connection:
            found = lookup_db.find_table(connection, search_id, round_index, owner)
        if found is None or found.header is None or found.state != "succeeded":
            raise _NotFinishedError
        return found.header

    def _read_known(self, header: TableHeader) -> dict[tuple[str, str], float]:
        with lookup_db.reading(self._engine) as connection:
            return lookup_db.accuracies(connection, header.search_id, header.round_index)

    def known(
        self, header: TableHeader, connection: Connection, codes: Sequence[str]
    ) -> Mapping[tuple[str, str], float]:
        """Return accuracies of evaluated architectures; of a finished search, whose pairs stay, those kept."""
        try:
            self.finished(header.search_id, header.round_index, None)
        except _NotFinishedError:
            return lookup_db.accuracies(connection, header.search_id, header.round_index, codes)
        return self._known(header)


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
    max_madds: float | None,
    max_params: float | None,
    limit: int,
) -> LookupAnswer:
    """Return the best architectures of a table under limits given in millions.

    Raises:
        SearchNotFoundError, NoTableError, RoundNotFoundError, TableNotReadyError: If there is no such table (yet).
    """
    with lookup_db.reading(engine) as connection:
        header = _kept_header(engine, caller, search_id, round_index) or _table(
            engine, connection, caller, search_id, round_index
        )
        limits = {"max_multi_adds": in_units(max_madds), "max_params": in_units(max_params)}
        rows = lookup_db.top_rows(connection, header.table_id, limit, **limits)
        if not rows:
            # nothing meets the limits, or the table is gone and its header was kept
            header = _table(engine, connection, caller, search_id, round_index)
            rows = lookup_db.top_rows(connection, header.table_id, limit, **limits)
        subspace, space_costs = _tables(engine).subspace(header)
        items = _items(engine, connection, header, subspace, rows)
    fields = _header_fields(header)
    message = None if items else infeasible("table", fields["feasible"], space_costs[0], max_madds, max_params)
    return LookupAnswer(**fields, scope="table", is_exact=True, items=items, message=message)


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
        subspace, _ = _tables(engine).subspace(header)
        items = _items(engine, connection, header, subspace, rows)
    return ParetoAnswer(**_header_fields(header), items=items[::-1])


def table_header(
    engine: Engine, caller: Caller, *, search_id: uuid.UUID | None, round_index: int | None
) -> TableHeader:
    """Return the header of a table.

    Raises:
        SearchNotFoundError, NoTableError, RoundNotFoundError, TableNotReadyError: If there is no such table (yet).
    """
    with lookup_db.reading(engine) as connection:
        return _kept_header(engine, caller, search_id, round_index) or _table(
            engine, connection, caller, search_id, round_index
        )


def table_subspace(engine: Engine, header: TableHeader) -> Subspace:
    """Return the subspace whose architectures a table holds."""
    return _tables(engine).subspace(header)[0]


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
    if round_index is not None and round_index >= found.num_rounds:
        raise RoundNotFoundError(
            detail=f"search {found.search_id} has the rounds 0 to {found.num_rounds - 1}, not {round_index}"
        )
    if found.header is None or (round_index is None and found.state != "succeeded"):
        raise not_ready(engine, caller, found.search_id, "that table")
    return found.header


def _items(
    engine: Engine, connection: Connection, header: TableHeader, subspace: Subspace, rows: Sequence[TableRow]
) -> list[LookupItem]:
    if not rows:
        return []
    choices_NL = subspace.architectures([row.subspace_index for row in rows])
    known = _tables(engine).known(header, connection, codes_of(choices_NL))
    costs = [(row.multi_adds, row.params) for row in rows]
    return lookup_items(subspace.space, choices_NL, [row.predicted_accuracy for row in rows], costs, known)


def _header_fields(header: TableHeader) -> dict[str, Any]:
    return {
        "search_id": header.search_id,
        "round_index": header.round_index,
        "num_rows": header.num_rows,
        "table_digest": header.digest,
        "feasible": CostRanges(
            multi_adds=Range(min=header.min_multi_adds, max=header.max_multi_adds),
            params=Range(min=header.min_params, max=header.max_params),
        ),
    }
