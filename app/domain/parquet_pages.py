"""What the pages of a strange parquet file unpack to, read from their headers before anything unpacks them.

A file's footer states sizes too, but nothing holds a hostile one to them: readers allocate what the page headers say.
A page of zeros takes a kilobyte; a cell that a dictionary holds once is copied for every row that names it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from app.domain.images import DataSetError

MAX_PAGE_BYTES = 256 * 2**20
"""Writers aim at 1 MiB, but put many large images into one page."""

MAX_DICTIONARY_BYTES = 16 * 2**20
"""Writers give up a dictionary at 1 MiB."""

MAX_PAGES = 200_000

_HEADER_BYTES = 2**16
_DELTA_BYTE_ARRAY = 7
"""Front coding: every cell may repeat the one before, so that pages say nothing about the cells' sizes."""

_DICTIONARY_PAGE = 2
_MAX_NESTING = 8


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
        metadata = pq.read_metadata(path)
        with path.open("rb") as file:
            _check_columns(metadata, file, path.name)
    except (pa.ArrowException, OSError, IndexError, ValueError) as error:
        if isinstance(error, DataSetError):
            raise
        raise DataSetError(f"{path.name} is a truncated, damaged or no parquet file ({error})") from error
    return int(metadata.num_rows)


def _check_columns(metadata: pq.FileMetaData, file: BinaryIO, name: str) -> None:
    num_pages = 0
    for group in range(metadata.num_row_groups):
        for position in range(metadata.num_columns):
            column, num_bytes = metadata.row_group(group).column(position), 0
            for page in _pages(file, column):
                num_pages += 1
                num_bytes += page.num_bytes
                _check_page(page, name)
                if num_pages > MAX_PAGES:
                    raise DataSetError(f"{name} has more than {MAX_PAGES:,} pages; write pages of about 1 MiB")
            # the footer's size bounds what is read of the labels
            if num_bytes > column.total_uncompressed_size:
                raise ValueError(
                    f"a column unpacks to {num_bytes:,} bytes and claims {column.total_uncompressed_size:,}"
                )


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


def _pages(file: BinaryIO, column: pq.ColumnChunkMetaData) -> Iterator[_Page]:
    """The headers of a column chunk's pages, one after the other, as readers walk along them."""
    offset: int = column.data_page_offset
    # as Arrow's reader: an offset of 0 stands for none
    if column.has_dictionary_page and 0 < column.dictionary_page_offset < offset:
        offset = column.dictionary_page_offset
    end = offset + column.total_compressed_size
    while offset < end:
        file.seek(offset)
        header, num_header_bytes = _Struct(file.read(_HEADER_BYTES)).read()
        num_unpacked, num_packed = header.get(2), header.get(3)
        if not isinstance(num_unpacked, int) or not isinstance(num_packed, int) or min(num_unpacked, num_packed) < 0:
            raise ValueError("a page without a size")
        encodings = (_inner(header, 5).get(2), _inner(header, 8).get(4))
        yield _Page(header.get(1) == _DICTIONARY_PAGE, num_unpacked, _DELTA_BYTE_ARRAY in encodings)
        offset += num_header_bytes + num_packed


def _inner(header: Mapping[int, Any], field: int) -> Mapping[int, Any]:
    value = header.get(field)
    return value if isinstance(value, dict) else {}


class _Struct:
    """A struct in Thrift's compact protocol: integers and structs by field number, everything else skipped."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._at = 0

    def read(self, depth: int = 0) -> tuple[dict[int, Any], int]:
        """Return the fields, and how many bytes have been read.

        Raises:
            IndexError: If the bytes end before the struct does.
            ValueError: If they are no struct.
        """
        if depth > _MAX_NESTING:
            raise ValueError("a page header that is nested too deeply")
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._integer()
            fields[number] = self._value(head & 15, depth)
        return fields, self._at

    def _value(self, kind: int, depth: int) -> Any:
        match kind:
            case 1 | 2:
                return None  # a boolean, in the kind itself
            case 3:
                return self._byte()
            case 4 | 5 | 6:
                return self._integer()
            case 7:
                self._skip(8)
            case 8:
                self._skip(self._varint())
            case 12:
                return self.read(depth + 1)[0]
            case _:
                # page headers have no lists or maps
                raise ValueError(f"a page header with a field of kind {kind}")
        return None

    def _byte(self) -> int:
        value = self._payload[self._at]
        self._at += 1
        return value

    def _skip(self, num_bytes: int) -> None:
        self._at += num_bytes
        if self._at > len(self._payload):
            raise IndexError("a page header that does not end")

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number that does not end")

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
