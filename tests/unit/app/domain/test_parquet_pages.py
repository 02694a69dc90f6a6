"""Pages of strange parquet files: refused by their own headers, before anything unpacks them."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain import parquet_pages
from app.domain.images import DataSetError
from app.domain.parquet_pages import check_pages

IMAGES = [{"bytes": bytes([i]) * 100, "path": f"{i}.png"} for i in range(50)]
TABLE = pa.table({"image": IMAGES, "label": ["a", "b"] * 25, "extra": [[1.5, None]] * 50})


@pytest.mark.parametrize("column", ["image", "label"])
def test_a_dictionary_that_unpacks_to_too_much(
    tmp_path: Path, write_cell_bomb: Callable[..., None], column: str
) -> None:
    """By the pages' own headers, whatever the footer says; and nothing is unpacked for it."""
    path = tmp_path / "a.parquet"
    write_cell_bomb(path, column, 20 * 2**20, 1000)
    assert path.stat().st_size < 2**16
    before = pa.total_allocated_bytes()
    with pytest.raises(DataSetError, match=r"a dictionary page of a\.parquet unpacks to 20,9"):
        check_pages(path)
    assert pa.total_allocated_bytes() <= before


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd", "gzip"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("use_dictionary", [True, False])
def test_honest_files_of_every_writer_pass(
    tmp_path: Path, compression: str, version: str, use_dictionary: bool
) -> None:
    options = {"compression": compression, "data_page_version": version, "use_dictionary": use_dictionary}
    pq.write_table(TABLE, tmp_path / "a.parquet", row_group_size=20, data_page_size=500, **options)
    assert check_pages(tmp_path / "a.parquet") == 50


def test_every_page_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all columns and row groups, and not the first only."""
    large = pa.table({"image": [b"x"] * 9 + [b"x" * 3000]})
    pq.write_table(large, tmp_path / "a.parquet", row_group_size=5, use_dictionary=False, compression="none")
    monkeypatch.setattr(parquet_pages, "MAX_PAGE_BYTES", 3100)
    assert check_pages(tmp_path / "a.parquet") == 10
    monkeypatch.setattr(parquet_pages, "MAX_PAGE_BYTES", 3000)
    with pytest.raises(DataSetError, match=r"a page of a\.parquet unpacks to 3,0.. bytes, and at most 3,000 are read"):
        check_pages(tmp_path / "a.parquet")
    monkeypatch.setattr(parquet_pages, "MAX_PAGES", 1)
    monkeypatch.setattr(parquet_pages, "MAX_PAGE_BYTES", 3100)
    with pytest.raises(DataSetError, match="has more than 1 pages; write pages of about 1 MiB"):
        check_pages(tmp_path / "a.parquet")


def test_front_coded_files_are_refused(tmp_path: Path) -> None:
    """Every cell may repeat the one before: pages say nothing about the cells' sizes."""
    columns = {"label": "DELTA_BYTE_ARRAY"}
    pq.write_table(TABLE.select(["label"]), tmp_path / "a.parquet", use_dictionary=False, column_encoding=columns)
    with pytest.raises(DataSetError, match="write it as PLAIN"):
        check_pages(tmp_path / "a.parquet")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1PAR1", b"no parquet file" * 20])
def test_what_is_no_parquet_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(DataSetError, match=r"a\.parquet is a truncated, damaged or no parquet file"):
        check_pages(tmp_path / "a.parquet")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6))
def test_damage_anywhere_is_said_or_does_no_harm(tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    """No header, however damaged, is any other error than ours, or has the reader walk for ever."""
    path = tmp_path / "whole.parquet"
    if not path.exists():
        pq.write_table(TABLE, path, row_group_size=20)
    content = bytearray(path.read_bytes())
    for position, value in changes:
        content[position % len(content)] = value
    (tmp_path / "a.parquet").write_bytes(content)
    try:
        check_pages(tmp_path / "a.parquet")
    except DataSetError as error:
        assert "a.parquet" in str(error)  # noqa: PT017 - either is right
