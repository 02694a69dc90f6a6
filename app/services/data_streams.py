"""Tables and pairs as streams of CSV or Parquet: read and written part by part, so that memory stays flat.

No database connection is held while a slow reader takes its time: every part is a short query of its own.
"""

import uuid
from collections.abc import Iterator
from typing import Any, Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from sqlalchemy import Engine

from app.db import lookup as lookup_db
from app.db import searches
from app.db.engine import transaction
from app.db.lookup import TableHeader
from app.domain.subspace import Subspace

StreamFormat = Literal["csv", "parquet"]
MEDIA_TYPES: dict[StreamFormat, str] = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}

_ROWS = 16_384
"""Per part; a row group of Parquet."""

_TABLE_SCHEMA = pa.schema(
    [
        ("subspace_index", pa.int32()),
        ("code", pa.string()),
        ("predicted_accuracy", pa.float32()),
        ("multi_adds", pa.int64()),
        ("params", pa.int64()),
    ]
)
_PAIR_SCHEMA = pa.schema(
    [
        ("round_index", pa.int32()),
        ("source", pa.string()),
        ("code", pa.string()),
        ("accuracy", pa.float64()),
        ("held_out", pa.bool_()),
    ]
)


class TableGoneError(RuntimeError):
    """The table was replaced while it was read: the search was resumed. The stream breaks off."""


def stream_table(
    engine: Engine, header: TableHeader, subspace: Subspace, stream_format: StreamFormat
) -> Iterator[bytes]:
    """Yield a published lookup table, one row per architecture in the order of the subspace."""
    return _encoded(_table_parts(engine, header, subspace), _TABLE_SCHEMA, stream_format)


def stream_pairs(
    engine: Engine, search_id: uuid.UUID, round_index: int | None, source: str | None, stream_format: StreamFormat
) -> Iterator[bytes]:
    """Yield the arch-accuracy pairs of a search, by round, source and code."""
    return _encoded(_pair_parts(engine, search_id, round_index, source), _PAIR_SCHEMA, stream_format)


def _table_parts(engine: Engine, header: TableHeader, subspace: Subspace) -> Iterator[pa.RecordBatch]:
    for start in range(0, header.num_rows, _ROWS):
        stop = min(start + _ROWS, header.num_rows)
        with lookup_db.reading(engine) as connection:
            rows = lookup_db.rows_between(connection, header.table_id, start, stop)
        if len(rows) != stop - start:
            raise TableGoneError(f"table {header.table_id} of search {header.search_id} was replaced while it was read")
        columns: list[list[Any]] = [
            [row.subspace_index for row in rows],
            subspace.codes(range(start, stop)),
            [row.predicted_accuracy for row in rows],
            [row.multi_adds for row in rows],
            [row.params for row in rows],
        ]
        yield _batch(columns, _TABLE_SCHEMA)


def _pair_parts(
    engine: Engine, search_id: uuid.UUID, round_index: int | None, source: str | None
) -> Iterator[pa.RecordBatch]:
    last: tuple[int, str, str] | None = None
    while True:
        with transaction(engine) as session:
            pairs = searches.pairs_after(session, search_id, round_index, source, last, _ROWS)
        if pairs:
            last = (pairs[-1].round_index, pairs[-1].source, pairs[-1].code)
            yield _batch([[getattr(pair, name) for pair in pairs] for name in _PAIR_SCHEMA.names], _PAIR_SCHEMA)
        if len(pairs) < _ROWS:
            return


def _batch(columns: list[list[Any]], schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )


class _Outbox:
    """A file to pyarrow; what was written to it waits to be taken."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: Any) -> int:
        """Take bytes from pyarrow."""
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def flush(self) -> None:
        """Nothing waits anywhere else."""

    def close(self) -> None:
        """End; what was written stays to be taken."""
        self.closed = True

    def take(self) -> bytes:
        """Return what was written since the last call."""
        taken, self._parts = b"".join(self._parts), []
        return taken


def _encoded(parts: Iterator[pa.RecordBatch], schema: pa.Schema, stream_format: StreamFormat) -> Iterator[bytes]:
    outbox = _Outbox()
    sink = pa.PythonFile(outbox, mode="w")
    if stream_format == "csv":
        writer = pyarrow.csv.CSVWriter(sink, schema)
    else:
        writer = pyarrow.parquet.ParquetWriter(sink, schema, compression="zstd")
    with writer:
        for batch in parts:
            writer.write_batch(batch)
            if taken := outbox.take():
                yield taken
    yield outbox.take()
