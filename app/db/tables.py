"""Publishing lookup tables: a header, and its rows by binary COPY from a numpy buffer."""

import uuid
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

_COLUMNS: tuple[tuple[str, str], ...] = (
    ("table_id", ">i4"),
    ("subspace_index", ">i4"),
    ("predicted_accuracy", ">f4"),
    ("multi_adds", ">i8"),
    ("params", ">i8"),
    ("band", ">i2"),
)
_CHUNK_BYTES = 2**22


def publish(session: Session, search_id: uuid.UUID, round_index: int, table: LookupTable) -> int:
    """Store a table and its rows in the session's transaction; a table of the same round is replaced.

    Returns:
        The table's id.
    """
    # VACUUM marks a page as visible only if the commit of its rows is on disk. After an asynchronous commit it would
    # mark none, and every index-only scan would read the heap.
    session.execute(text("set local synchronous_commit = on"))
    old = select(LookupTableRow.id).where(
        LookupTableRow.search_id == search_id, LookupTableRow.round_index == round_index
    )
    session.execute(delete(LookupRow).where(LookupRow.table_id.in_(old)).execution_options(synchronize_session=False))
    session.execute(
        delete(LookupTableRow).where(LookupTableRow.id.in_(old)).execution_options(synchronize_session=False)
    )
    header = LookupTableRow(
        search_id=search_id,
        round_index=round_index,
        num_rows=table.num_rows,
        digest=table.digest(),
        min_multi_adds=int(table.multi_adds.min()),
        max_multi_adds=int(table.multi_adds.max()),
        min_params=int(table.params.min()),
        max_params=int(table.params.max()),
    )
    session.add(header)
    session.flush()
    band = table.band()
    values = {
        "table_id": np.full(table.num_rows, header.id),
        "subspace_index": np.arange(table.num_rows),
        "predicted_accuracy": table.predicted_accuracy,
        "multi_adds": table.multi_adds,
        "params": table.params,
        "band": band,
    }
    # a NULL has no bytes in COPY's format, so rows without a band are loaded without the column
    _copy(session, _COLUMNS, values, band >= 0)
    _copy(session, _COLUMNS[:-1], values, band < 0)
    return header.id


def _copy(
    session: Session,
    columns: tuple[tuple[str, str], ...],
    values: dict[str, npt.NDArray[Any]],
    chosen_N: npt.NDArray[np.bool_],
) -> None:
    """Load the chosen rows with COPY ... BINARY."""
    buffer = binary_copy.rows(columns, {name: values[name][chosen_N] for name, _ in columns})
    connection = session.connection().connection.driver_connection
    assert connection is not None
    statement = f"COPY lookup_rows ({', '.join(name for name, _ in columns)}) FROM STDIN (FORMAT BINARY)"
    try:
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(binary_copy.HEADER)
            data = buffer.view(np.uint8).data if buffer.size else memoryview(b"")
            for start in range(0, len(data), _CHUNK_BYTES):
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
