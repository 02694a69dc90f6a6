"""Reads lookup tables: the best rows under limits, the Pareto front, and what is known of them besides.

Plain SQL on autocommit connections: these are the queries that people wait for. The rows come from the band alone, by
an index-only scan of ``lookup_rows_band`` in the order of the answer.
"""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Engine, text

MAX_BIGINT = 2**63 - 1
"""Stands for no limit."""


@dataclass(frozen=True)
class TableHeader:
    """A published lookup table.

    Attributes:
        table_id: Its key.
        search_id: The search it belongs to.
        round_index: The round it belongs to.
        num_rows: Its number of architectures.
        digest: SHA-256 of its bytes.
        min_multi_adds, max_multi_adds, min_params, max_params: The ranges of its costs.
    """

    table_id: int
    search_id: uuid.UUID
    round_index: int
    num_rows: int
    digest: str
    min_multi_adds: int
    max_multi_adds: int
    min_params: int
    max_params: int


@dataclass(frozen=True)
class FoundTable:
    """The search that was asked, and its table if that is published."""

    search_id: uuid.UUID
    state: str
    num_rounds: int
    header: TableHeader | None


@dataclass(frozen=True)
class TableRow:
    """One architecture of a table."""

    subspace_index: int
    predicted_accuracy: float
    multi_adds: int
    params: int


_COLUMNS = "subspace_index, predicted_accuracy, multi_adds, params"

_FIND = """
    select s.id as search_id, s.state, s.num_rounds, t.id as table_id, t.round_index, t.num_rows, t.digest,
           t.min_multi_adds, t.max_multi_adds, t.min_params, t.max_params
    from searches s
    left join lookup_tables t
        on t.search_id = s.id and t.round_index = coalesce(cast(:round_index as integer), s.num_rounds - 1)
    where s.id = {search}
"""
_FIND_GIVEN = text(_FIND.format(search=":search_id"))
_LATEST = "select id from searches where state = 'succeeded' and kind = 'search' order by finished_at desc, id limit 1"
_FIND_LATEST = text(_FIND.format(search=f"({_LATEST})"))
_TOP = text(f"""
    select {_COLUMNS} from lookup_rows
    where table_id = :table_id and band is not null and band < :num_rows
        and multi_adds <= :max_multi_adds and params <= :max_params
    order by predicted_accuracy desc, subspace_index
    limit :num_rows
""")  # noqa: S608 - constants only
_BETWEEN = text(f"""
    select {_COLUMNS} from lookup_rows
    where table_id = :table_id and subspace_index >= :start and subspace_index < :stop
    order by subspace_index
""")  # noqa: S608 - constants only
# a row of the front is beaten by none in accuracy and this cost, so by none in everything: its band is 0
_FRONT = """
    select {columns} from (
        select {columns}, min({cost}) over (
            order by predicted_accuracy desc, subspace_index rows between unbounded preceding and 1 preceding
        ) as cheapest_before
        from lookup_rows where table_id = :table_id and band is not null and band < 1
    ) as ordered
    where cheapest_before is null or {cost} < cheapest_before
    order by predicted_accuracy desc, subspace_index
"""
_FRONTS = {cost: text(_FRONT.format(columns=_COLUMNS, cost=cost)) for cost in ("multi_adds", "params")}
_PAIRS = text("""
    select source, code, accuracy from pairs
    where search_id = :search_id and round_index = :round_index and source in ('sampled', 'reevaluated')
        and code = any(:codes)
""")
_SUBSPACE = text("""
    select s.search_space, s.config, r.subspace
    from searches s join rounds r on r.search_id = s.id
    where s.id = :search_id and r.round_index = :round_index
""")


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Open a connection without a transaction: each query is one round trip."""
    with engine.connect() as connection:
        yield connection.execution_options(isolation_level="AUTOCOMMIT")


def find_table(connection: Connection, search_id: uuid.UUID | None, round_index: int | None) -> FoundTable | None:
    """Return a search, by default the latest succeeded one, with the table of a round, by default of its last one."""
    if search_id is None:
        row = connection.execute(_FIND_LATEST, {"round_index": round_index}).one_or_none()
    else:
        row = connection.execute(_FIND_GIVEN, {"round_index": round_index, "search_id": search_id}).one_or_none()
    if row is None:
        return None
    found_id, state, num_rounds, table_id, *columns = row
    header = None if table_id is None else TableHeader(table_id, found_id, *columns)
    return FoundTable(found_id, state, num_rounds, header)


def top_rows(
    connection: Connection, table_id: int, num_rows: int, *, max_multi_adds: int | None, max_params: int | None
) -> list[TableRow]:
    """Return the best rows under the limits by predicted accuracy, then by index; up to the band's depth."""
    parameters = {
        "table_id": table_id,
        "num_rows": num_rows,
        "max_multi_adds": MAX_BIGINT if max_multi_adds is None else min(max_multi_adds, MAX_BIGINT),
        "max_params": MAX_BIGINT if max_params is None else min(max_params, MAX_BIGINT),
    }
    return [TableRow(*row) for row in connection.execute(_TOP, parameters)]


def rows_between(connection: Connection, table_id: int, start: int, stop: int) -> list[TableRow]:
    """Return the rows of a table from one index to before another, in order."""
    parameters = {"table_id": table_id, "start": start, "stop": stop}
    return [TableRow(*row) for row in connection.execute(_BETWEEN, parameters)]


def pareto_front(connection: Connection, table_id: int, cost: Literal["multi_adds", "params"]) -> list[TableRow]:
    """Return the rows that no other beats in both predicted accuracy and a cost, most accurate first."""
    return [TableRow(*row) for row in connection.execute(_FRONTS[cost], {"table_id": table_id})]


def accuracies(
    connection: Connection, search_id: uuid.UUID, round_index: int, codes: Sequence[str]
) -> dict[tuple[str, str], float]:
    """Return the accuracies of architectures that were evaluated in a round, by source and code."""
    parameters = {"search_id": search_id, "round_index": round_index, "codes": list(codes)}
    return {(source, code): accuracy for source, code, accuracy in connection.execute(_PAIRS, parameters)}


def read_subspace(
    connection: Connection, search_id: uuid.UUID, round_index: int
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return the JSON of a search's space and configuration, and of a round's subspace."""
    space, config, subspace = connection.execute(_SUBSPACE, {"search_id": search_id, "round_index": round_index}).one()
    return space, config, subspace
