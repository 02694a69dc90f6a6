"""What the pages of a strange parquet file unpack to, read from their headers before anything unpacks them.

A file's footer states sizes too, but nothing holds a hostile one to them: readers allocate what the page headers say.
A page of zeros takes a kilobyte; a cell that a dictionary holds once is copied for every row that names it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from app.domain.images import DataSetError
from app.domain.parquet_footer import ColumnChunk, RowGroup, ThriftStruct, read_row_groups

MAX_PAGE_BYTES = 256 * 2**20
"""Writers aim at 1 MiB, but put many large images into one page."""

MAX_DICTIONARY_BYTES = 16 * 2**20
"""Writers give up a dictionary at 1 MiB."""

MAX_PAGES = 200_000

_HEADER_BYTES = 2**16
_DELTA_BYTE_ARRAY = 7
"""Front coding: every cell may repeat the one before, so that pages say nothing about the cells' sizes."""

_DICTIONARY_PAGE = 2


@dataclass(frozen=True)
class _Page:
    is_dictionary: bool
    num_bytes: int
    is_front_coded: bool


def check_pages(path: Path) -> int:
    """Check that no page of a parquet file unpacks to more than may be read.

    Returns:
        The file's number of rows.

    Raises:
        DataSetError: If one does, or the file is damaged.
    """
    try:
        num_rows = int(pq.read_metadata(path).num_rows)
        row_groups = read_row_groups(path)
        if num_rows != sum(group.num_rows for group in row_groups):
            raise ValueError("a number of rows that is not that of its row groups")
        with path.open("rb") as file:
            _check_columns(row_groups, file, path.name)
    except (pa.ArrowException, OSError, IndexError, ValueError) as error:
        if isinstance(error, DataSetError):
            raise
        raise DataSetError(f"{path.name} is a truncated, damaged or no parquet file ({error})") from error
    return num_rows


def _check_columns(row_groups: Sequence[RowGroup], file: BinaryIO, name: str) -> None:
    num_pages = 0
    for group in row_groups:
        for column in group.columns:
            num_bytes = 0
            for page in _pages(file, column):
                num_pages += 1
                num_bytes += page.num_bytes
                _check_page(page, name)
                if num_pages > MAX_PAGES:
                    raise DataSetError(f"{name} has more than {MAX_PAGES:,} pages; write pages of about 1 MiB")
            # the footer's size bounds what is read of the labels
            if num_bytes > column.num_unpacked_bytes:
                raise ValueError(f"a column unpacks to {num_bytes:,} bytes and claims {column.num_unpacked_bytes:,}")


def _check_page(page: _Page, name: str) -> None:
    most = MAX_DICTIONARY_BYTES if page.is_dictionary else MAX_PAGE_BYTES
    if page.num_bytes > most:
        kind = "dictionary page" if page.is_dictionary else "page"
        raise DataSetError(
            f"a {kind} of {name} unpacks to {page.num_bytes:,} bytes, and at most {most:,} are read; write it again "
            "with smaller pages and without a dictionary of images"
        )
    if page.is_front_coded:
        raise DataSetError(f"{name} is encoded as DELTA_BYTE_ARRAY, which is not read; write it as PLAIN")


def _pages(file: BinaryIO, column: ColumnChunk) -> Iterator[_Page]:
    """The headers of a column chunk's pages, one after the other, as readers walk along them."""
    offset, end = column.offset, column.offset + column.num_bytes
    while offset < end:
        file.seek(offset)
        header, num_header_bytes = ThriftStruct(file.read(_HEADER_BYTES)).read()
        num_unpacked, num_packed = header.get(2), header.get(3)
        if not isinstance(num_unpacked, int) or not isinstance(num_packed, int) or min(num_unpacked, num_packed) < 0:
            raise ValueError("a page without a size")
        encodings = (_inner(header, 5).get(2), _inner(header, 8).get(4))
        yield _Page(header.get(1) == _DICTIONARY_PAGE, num_unpacked, _DELTA_BYTE_ARRAY in encodings)
        offset += num_header_bytes + num_packed


def _inner(header: Mapping[int, Any], field: int) -> Mapping[int, Any]:
    value = header.get(field)
    return value if isinstance(value, dict) else {}
