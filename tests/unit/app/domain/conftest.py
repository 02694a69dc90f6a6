"""Files that unpack to much more than they are."""

import io
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image


@pytest.fixture
def write_cell_bomb() -> Callable[[Path, str, int, int], None]:
    """Writes a parquet file in which one large cell of a column, stored once, stands in all rows but the first."""

    def write(path: Path, column: str, num_bytes: int, num_rows: int) -> None:
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8)).save(buffer, "PNG")
        cells = {"image": [buffer.getvalue()] * num_rows, "label": ["0", "1"] * (num_rows // 2)}
        large = cells[column][0] + (bytes(num_bytes) if column == "image" else "a" * num_bytes)
        indices = pa.array([0, *[1] * (num_rows - 1)], pa.int32())
        cells[column] = pa.DictionaryArray.from_arrays(indices, pa.array([cells[column][0], large]))
        pq.write_table(pa.table(cells), path, compression="zstd", store_schema=False, dictionary_pagesize_limit=2**30)

    return write
