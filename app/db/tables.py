"""Publishing lookup tables: a header, and its rows by binary COPY from a numpy buffer."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from sqlalchemy import Engine, Row, delete, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.db import binary_copy
from app.db.models import LookupRow, LookupTableRow
from app.domain.lookup_table import LookupTable

Columns = tuple[tuple[str, str], ...]
Check = Callable[[], None]

_COLUMNS: Columns = (
    ("table_id", ">i4"),
    ("subspace_index", ">i4"),
    ("predicted_accuracy", ">f4"),
    ("multi_adds", ">i8"),
    ("params", ">i8"),
    ("band", ">i2"),
)
_CHUNK_BYTES = 2**22


@dataclass(frozen=True)
class PreparedTable:
    """A table as PostgreSQL takes it: all that takes long is done before a transaction begins.

    Attributes:
        header: Columns of its header, but for the search and round it belongs to.
        buffers: Columns and bytes of one COPY each; their ``table_id`` is not known yet.
    """

    header: Mapping[str, Any]
    buffers: tuple[tuple[Columns, npt.NDArray[np.void]], ...]


def prepare(table: LookupTable, check: Check = lambda: None) -> PreparedTable:
    """Compute digest, band and COPY's bytes of a table; ``check`` is called now and then and may raise to stop."""
    band = table.band(on_block=check)
    values: dict[str, npt.NDArray[Any]] = {
        "table_id": np.zeros(table.num_rows, dtype=np.int32),
        "subspace_index": np.arange(table.num_rows),
        "predicted_accuracy": table.predicted_accuracy,
        "multi_adds": table.multi_adds,
        "params": table.params,
        "band": band,
    }
    buffers = []
    # a NULL has no bytes in COPY's format, so rows without a band are loaded without the column
    for columns, chosen_N in ((_COLUMNS, band >= 0), (_COLUMNS[:-1], band < 0)):
        check()
        buffers.append((columns, binary_copy.rows(columns, {name: values[name][chosen_N] for name, _ in columns})))
    header = {
        "num_rows": table.num_rows,
        "digest": table.digest(),
        "min_multi_adds": int(table.multi_adds.min()),
        "max_multi_adds": int(table.multi_adds.max()),
        "min_params": int(table.params.min()),
        "max_params": int(table.params.max()),
    }
    return PreparedTable(header, tuple(buffers))


def load(session: Session, prepared: PreparedTable, check: Check = lambda: None) -> int:
    """Store a table's rows in the session's transaction, without a header; no row of another table is locked.

    Whoever loads has to :func:`put_header` in the same transaction, or to roll it back: nothing else would ever delete
    rows that no header names.

    Returns:
        The table's id, taken for it.
    """
    # VACUUM marks a page as visible only if the commit of its rows is on disk. After an asynchronous commit it would
    # mark none, and every index-only scan would read the heap.
    session.execute(text("set local synchronous_commit = on"))
    table_id: int = session.execute(text("select nextval(pg_get_serial_sequence('lookup_tables', 'id'))")).scalar_one()
    for columns, buffer in prepared.buffers:
        buffer["table_id"] = table_id
        _copy(session, columns, buffer, check)
    return table_id


def put_header(
    session: Session, search_id: uuid.UUID, round_index: int, prepared: PreparedTable, table_id: int
) -> None:
    """Make loaded rows the table of a round; the round's table of before is deleted."""
    old = select(LookupTableRow.id).where(
        LookupTableRow.search_id == search_id, LookupTableRow.round_index == round_index
    )
    session.execute(delete(LookupRow).where(LookupRow.table_id.in_(old)).execution_options(synchronize_session=False))
    session.execute(
        delete(LookupTableRow).where(LookupTableRow.id.in_(old)).execution_options(synchronize_session=False)
    )
    session.add(LookupTableRow(id=table_id, search_id=search_id, round_index=round_index, **prepared.header))
    session.flush()


def publish(session: Session, search_id: uuid.UUID, round_index: int, table: LookupTable) -> int:
    """Store a table and its rows in the session's transaction; a table of the same round is replaced.

    Returns:
        The table's id.
    """
    prepared = prepare(table)
    table_id = load(session, prepared)
    put_header(session, search_id, round_index, prepared, table_id)
    return table_id


def _copy(session: Session, columns: Columns, buffer: npt.NDArray[np.void], check: Check) -> None:
    """Load rows with COPY ... BINARY."""
    connection = session.connection().connection.driver_connection
    assert connection is not None
    statement = f"COPY lookup_rows ({', '.join(name for name, _ in columns)}) FROM STDIN (FORMAT BINARY)"
    try:
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(binary_copy.HEADER)
            data = buffer.view(np.uint8).data if buffer.size else memoryview(b"")
            for start in range(0, len(data), _CHUNK_BYTES):
                check()
                copy.write(data[start : start + _CHUNK_BYTES])
            copy.write(binary_copy.TRAILER)
    except psycopg.OperationalError as error:
        # as any other statement's: whoever waits for a database that restarts need not know that this one was COPY
        raise OperationalError(statement, None, error) from error


def vacuum(engine: Engine) -> None:
    """Let planner and index-only scans know of freshly loaded rows; without it a lookup takes ten times as long."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM (ANALYZE) lookup_rows")


def header(session: Session, search_id: uuid.UUID, round_index: int) -> LookupTableRow | None:
    """Return the header of a round's table, or None where none is published."""
    return session.execute(
        select(LookupTableRow).where(LookupTableRow.search_id == search_id, LookupTableRow.round_index == round_index)
    ).scalar_one_or_none()


def all_predictions(session: Session, table_id: int) -> npt.NDArray[np.float32]:
    """Return the predicted accuracies of a whole table in the order of its rows, float32."""
    rows = session.scalars(
        select(LookupRow.predicted_accuracy).where(LookupRow.table_id == table_id).order_by(LookupRow.subspace_index)
    )
    return np.fromiter(rows, dtype=np.float32)


def predictions(session: Session, table_id: int, subspace_indices: list[int]) -> dict[int, float]:
    """Return the predicted accuracies of some rows of a table by their index."""
    rows: list[Row[Any]] = list(
        session.execute(
            select(LookupRow.subspace_index, LookupRow.predicted_accuracy).where(
                LookupRow.table_id == table_id, LookupRow.subspace_index.in_(subspace_indices)
            )
        )
    )
    return {row.subspace_index: row.predicted_accuracy for row in rows}
