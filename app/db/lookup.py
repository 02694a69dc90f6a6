"""Reads lookup tables: the best rows under limits, the Pareto front, and what is known of them besides.

Plain SQL on autocommit connections: these are the queries that people wait for. The rows come from the band alone, by
an index-only scan of ``lookup_rows_band`` in the order of the answer.
"""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, Engine, text

from app.db import binary_copy

MAX_BIGINT = 2**63 - 1
"""Stands for no limit."""

_held: ContextVar[Connection | None] = ContextVar("held", default=None)


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


@dataclass(frozen=True)
class FoundSpace:
    """The search that was asked, and the predictor of its whole space if that is fitted."""

    search_id: uuid.UUID
    state: str
    space: dict[str, Any]
    config: dict[str, Any]
    num_rounds: int
    model_id: int | None


_COLUMNS = "subspace_index, predicted_accuracy, multi_adds, params"

_FIND = """
    select s.id as search_id, s.state, s.num_rounds, t.id as table_id, t.round_index, t.num_rows, t.digest,
           t.min_multi_adds, t.max_multi_adds, t.min_params, t.max_params
    from searches s
    left join lookup_tables t
        on t.search_id = s.id and t.round_index = coalesce(cast(:round_index as integer), s.num_rounds - 1)
    where s.id = {search} and (cast(:owner as text) is null or s.owner = :owner)
"""
_LATEST = """(
    select id from searches where state = 'succeeded' and kind = 'search'
        and (cast(:owner as text) is null or owner = :owner)
    order by finished_at desc, id limit 1
)"""
_FIND_SPACE = """
    select s.id, s.state, s.search_space, s.config, s.num_rounds, m.id
    from searches s left join space_models m on m.search_id = s.id
    where s.id = {search} and (cast(:owner as text) is null or s.owner = :owner)
"""
_FIND_SPACE_GIVEN = text(_FIND_SPACE.format(search=":search_id"))
_FIND_SPACE_LATEST = text(_FIND_SPACE.format(search=_LATEST))
_SPACE_MODEL = text("select model from space_models where id = :id")
_FIND_GIVEN = text(_FIND.format(search=":search_id"))
_FIND_LATEST = text(_FIND.format(search=_LATEST))
_TOP = text(f"""
    select {_COLUMNS} from lookup_rows
    where table_id = :table_id and band is not null and band < :num_rows
        and multi_adds <= :max_multi_adds and params <= :max_params
    order by predicted_accuracy desc, subspace_index
    limit :num_rows
""")  # noqa: S608 - constants only
_PREDICTIONS = """
    COPY (select predicted_accuracy from lookup_rows where table_id = %s order by subspace_index)
    TO STDOUT (FORMAT BINARY)
"""
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
_KNOWN = """
    select source, code, accuracy from pairs
    where search_id = :search_id and source in ('sampled', 'reevaluated') {among}
    order by round_index
"""
_KNOWN_ALL, _KNOWN_AMONG = text(_KNOWN.format(among="")), text(_KNOWN.format(among="and code = any(:codes)"))
_FIT = text("""
    select fit_report, held_out_tau from rounds where search_id = :search_id and round_index = :round_index
""")
# those of all, in an order that has nothing to do with their architectures
_HELD_OUT = text("""
    select code, accuracy from pairs
    where search_id = :search_id and round_index = :round_index and source = 'sampled' and held_out
    order by md5(code), code limit :num_pairs
""")
_ROWS_AT = text(f"""
    select {_COLUMNS} from lookup_rows where table_id = :table_id and subspace_index = any(:subspace_indices)
""")  # noqa: S608 - constants only
_SPACE_REPORT = text("select report from space_models where id = :id")
_SUBSPACE = text("""
    select s.search_space, s.config, r.subspace
    from searches s join rounds r on r.search_id = s.id
    where s.id = :search_id and r.round_index = :round_index
""")


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Open a connection without a transaction: each query is one round trip.

    A block inside another one has the same connection: requests that wait for a second one while they hold one would
    wait for each other.
    """
    held = _held.get()
    if held is not None and held.engine is engine:
        yield held
        return
    with engine.connect() as connection:
        token = _held.set(connection.execution_options(isolation_level="AUTOCOMMIT"))
        try:
            yield connection
        finally:
            _held.reset(token)


def find_table(
    connection: Connection, search_id: uuid.UUID | None, round_index: int | None, owner: str | None
) -> FoundTable | None:
    """Return a search, by default the latest succeeded one, with the table of a round, by default of its last one.

    With an owner only that owner's searches are looked at.
    """
    parameters = {"round_index": round_index, "owner": owner}
    if search_id is None:
        row = connection.execute(_FIND_LATEST, parameters).one_or_none()
    else:
        row = connection.execute(_FIND_GIVEN, parameters | {"search_id": search_id}).one_or_none()
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


def read_predictions(connection: Connection, table_id: int) -> npt.NDArray[np.float32]:
    """Return the predicted accuracies of a whole table in the order of its subspace: float32 [num_rows]."""
    driver = connection.connection.driver_connection
    assert driver is not None
    with driver.cursor() as cursor, cursor.copy(_PREDICTIONS, (table_id,)) as copy:
        data = b"".join(copy)
    return binary_copy.column(data, ">f4").astype(np.float32)


def rows_between(connection: Connection, table_id: int, start: int, stop: int) -> list[TableRow]:
    """Return the rows of a table from one index to before another, in order."""
    parameters = {"table_id": table_id, "start": start, "stop": stop}
    return [TableRow(*row) for row in connection.execute(_BETWEEN, parameters)]


def pareto_front(connection: Connection, table_id: int, cost: Literal["multi_adds", "params"]) -> list[TableRow]:
    """Return the rows that no other beats in both predicted accuracy and a cost, most accurate first."""
    return [TableRow(*row) for row in connection.execute(_FRONTS[cost], {"table_id": table_id})]


def accuracies(
    connection: Connection, search_id: uuid.UUID, codes: Sequence[str] | None = None
) -> dict[tuple[str, str], float]:
    """Return the accuracies of a search's evaluated architectures by source and code, the latest of any round.

    Args:
        connection: The database.
        search_id: The search.
        codes: The architectures; None: all.
    """
    if codes is None:
        found = connection.execute(_KNOWN_ALL, {"search_id": search_id})
    else:
        found = connection.execute(_KNOWN_AMONG, {"search_id": search_id, "codes": list(codes)})
    # thousands of rows are fetched together several times faster than one by one
    return {(source, code): accuracy for source, code, accuracy in found.all()}


def find_space(connection: Connection, search_id: uuid.UUID | None, owner: str | None) -> FoundSpace | None:
    """Return a search, by default the latest succeeded one, with the id of its whole space's predictor.

    With an owner only that owner's searches are looked at.
    """
    if search_id is None:
        row = connection.execute(_FIND_SPACE_LATEST, {"owner": owner}).one_or_none()
    else:
        row = connection.execute(_FIND_SPACE_GIVEN, {"owner": owner, "search_id": search_id}).one_or_none()
    return None if row is None else FoundSpace(*row)


def read_space_model(connection: Connection, model_id: int) -> bytes | None:
    """Return the bytes of a whole space's predictor; None if there is no such."""
    model = connection.execute(_SPACE_MODEL, {"id": model_id}).scalar_one_or_none()
    return None if model is None else bytes(model)


def read_space_report(connection: Connection, model_id: int) -> dict[str, Any] | None:
    """Return the figures of a whole space's fit; None if there is no such."""
    report: dict[str, Any] | None = connection.execute(_SPACE_REPORT, {"id": model_id}).scalar_one_or_none()
    return report


def read_fit(
    connection: Connection, search_id: uuid.UUID, round_index: int
) -> tuple[dict[str, Any] | None, float | None]:
    """Return the figures of a round's fit and its held-out tau; None where there are none."""
    row = connection.execute(_FIT, {"search_id": search_id, "round_index": round_index}).one_or_none()
    return (None, None) if row is None else (row[0], row[1])


def held_out_accuracies(
    connection: Connection, search_id: uuid.UUID, round_index: int, num_pairs: int
) -> dict[str, float]:
    """Return z by code of a round's held-out pairs, of no more than ``num_pairs`` of them."""
    parameters = {"search_id": search_id, "round_index": round_index, "num_pairs": num_pairs}
    return {row.code: row.accuracy for row in connection.execute(_HELD_OUT, parameters).all()}


def rows_at(connection: Connection, table_id: int, subspace_indices: Sequence[int]) -> list[TableRow]:
    """Return the rows of some architectures, in any order."""
    parameters = {"table_id": table_id, "subspace_indices": list(subspace_indices)}
    return [TableRow(*row) for row in connection.execute(_ROWS_AT, parameters).all()]


def read_subspace(
    connection: Connection, search_id: uuid.UUID, round_index: int
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]] | None:
    """Return the JSON of a search's space and configuration, and of a round's subspace; None if there is no such."""
    row = connection.execute(_SUBSPACE, {"search_id": search_id, "round_index": round_index}).one_or_none()
    return None if row is None else (row[0], row[1], row[2])
