"""Footers of parquet files: what pyarrow reads in honest ones, and an error for every other."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.domain.image_archives import ParquetSource
from app.domain.images import DataSetError
from app.domain.parquet_footer import read_row_groups
from app.domain.parquet_pages import check_pages

IMAGES = [{"bytes": bytes([i]) * 100, "path": f"{i}.png"} for i in range(50)]
TABLE = pa.table({"image": IMAGES, "label": ["a", "b"] * 25, "extra": [[1.5, None]] * 50})


@pytest.mark.parametrize("use_dictionary", [True, False])
@pytest.mark.parametrize("statistics", [True, False])
def test_honest_footers_are_read_as_pyarrow_reads_them(tmp_path: Path, use_dictionary: bool, statistics: bool) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(TABLE, path, row_group_size=20, use_dictionary=use_dictionary, write_statistics=statistics)
    metadata = pq.read_metadata(path)
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    found = read_row_groups(path)
    assert [group.num_rows for group in found] == [group.num_rows for group in groups] == [20, 20, 10]
    for ours, group in zip(found, groups, strict=True):
        columns = [group.column(index) for index in range(group.num_columns)]
        assert [(c.name, c.num_bytes, c.num_unpacked_bytes) for c in ours.columns] == [
            (c.path_in_schema, c.total_compressed_size, c.total_uncompressed_size) for c in columns
        ]
        assert [c.offset for c in ours.columns] == [
            c.dictionary_page_offset if c.has_dictionary_page else c.data_page_offset for c in columns
        ]


def test_a_footer_at_which_pyarrow_would_end_the_process(tmp_path: Path) -> None:
    """One byte makes a histogram of levels longer than its column has levels."""
    path = tmp_path / "a.parquet"
    pq.write_table(TABLE.select(["label"]), path)
    content = bytearray(path.read_bytes())
    size = int.from_bytes(content[-8:-4], "little")
    schema = content.index(b"label", len(content) - 8 - size)
    # the column becomes a required one, whose pages hold no levels
    optional = content.rindex(b"\x25\x02", 0, schema)
    content[optional + 1] = 0
    path.write_bytes(content)
    assert check_pages(path) == 50
    with pytest.raises(DataSetError, match=r"a\.parquet"):
        ParquetSource([path]).decode(pa.array([0]).to_numpy(), 8)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PAR1",
        b"PAR1" + bytes(4) + b"PAR1",
        b"PAR1" + b"\xff" * 4 + b"PAR1",
        b"PAR1" + b"\x1c" * 100 + b"\x64\x00\x00\x00PAR1",  # structs in structs
        b"PAR1" + b"\x49\xfc" + b"\xff" * 8 + b"\x00" + b"\x0b\x00\x00\x00PAR1",  # a list of 2^56 structs
    ],
)
def test_no_footers(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(DataSetError, match=r"a\.parquet is a truncated, damaged or no parquet file"):
        read_row_groups(tmp_path / "a.parquet")


def test_a_footer_of_a_million_empty_structs(tmp_path: Path) -> None:
    """A byte each in the file, and some seventy in memory."""
    footer = b"\x49\xfc\xc1\x84\x3d" + bytes(1_000_001) + b"\x00"
    (tmp_path / "a.parquet").write_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(DataSetError, match="more than 1,000,000 values"):
        read_row_groups(tmp_path / "a.parquet")
