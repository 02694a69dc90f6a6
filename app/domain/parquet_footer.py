"""The column chunks of a strange parquet file, read from its footer without pyarrow.

pyarrow ends the whole process where a column chunk's metadata contradicts itself (sizes of histograms, for one): its
C++ throws in a place that Python cannot catch. Source: the Apache Parquet format, ``parquet.thrift``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from app.domain.images import DataSetError

T = TypeVar("T")

_MAX_FOOTER_BYTES = 8 * 2**20
"""A thousand row groups of ten columns take 2 MB."""

_MAX_VALUES = 1_000_000
"""Of a footer or header, some 70 bytes each. A thousand row groups of ten columns have a third as many."""

_MAX_NESTING = 8


@dataclass(frozen=True)
class ColumnChunk:
    """Where the pages of a column lie in one row group.

    Attributes:
        name: Names from the schema's root to the column, with dots between.
        offset: Of the first page's header, in bytes.
        num_bytes: Of all pages as they are stored, with their headers.
        num_unpacked_bytes: What they claim to unpack to.
    """

    name: str
    offset: int
    num_bytes: int
    num_unpacked_bytes: int


@dataclass(frozen=True)
class RowGroup:
    """Some rows of the file."""

    num_rows: int
    columns: tuple[ColumnChunk, ...]


def read_row_groups(path: Path) -> list[RowGroup]:
    """Return a file's row groups.

    Raises:
        OSError: If the file cannot be read.
        DataSetError: If it is no parquet file, or a damaged one.
    """
    try:
        return [_row_group(group) for group in _of(list, _footer(path), 4)]
    except (IndexError, ValueError) as error:
        raise DataSetError(f"{path.name} is a truncated, damaged or no parquet file ({error})") from error


def _footer(path: Path) -> dict[int, Any]:
    with path.open("rb") as file:
        end = file.seek(0, 2) - 8
        if end < 0:
            raise IndexError("too few bytes")
        file.seek(end)
        num_bytes, mark = int.from_bytes(file.read(4), "little"), file.read(4)
        if mark != b"PAR1" or num_bytes > end:
            raise ValueError("no footer of a parquet file")
        if num_bytes > _MAX_FOOTER_BYTES:
            raise ValueError(f"a footer of {num_bytes:,} bytes; at most {_MAX_FOOTER_BYTES:,} are read")
        file.seek(end - num_bytes)
        return ThriftStruct(file.read(num_bytes)).read()[0]


def _row_group(group: object) -> RowGroup:
    if not isinstance(group, dict):
        raise ValueError("a row group that is no struct")
    return RowGroup(_of(int, group, 3), tuple(_column_chunk(chunk) for chunk in _of(list, group, 1)))


def _column_chunk(chunk: object) -> ColumnChunk:
    if not isinstance(chunk, dict) or 1 in chunk:
        raise ValueError("a column chunk that is no struct, or lies in another file")
    metadata = _of(dict, chunk, 3)
    names = [name for name in _of(list, metadata, 3) if isinstance(name, bytes)]
    offset, dictionary_offset = _of(int, metadata, 9), metadata.get(11)
    # as Arrow's reader: an offset of 0 stands for none
    if isinstance(dictionary_offset, int) and 0 < dictionary_offset < offset:
        offset = dictionary_offset
    name = b".".join(names).decode(errors="replace")
    return ColumnChunk(name, offset, _of(int, metadata, 7), _of(int, metadata, 6))


def _of(kind: type[T], struct: Mapping[int, Any], field: int) -> T:
    value = struct.get(field)
    if not isinstance(value, kind):
        raise ValueError(f"a footer whose field {field} is no {kind.__name__}")
    return value


class ThriftStruct:
    """A struct in Thrift's compact protocol: integers, texts, lists and structs by field number."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._at = self._num_values = 0

    def read(self, depth: int = 0) -> tuple[dict[int, Any], int]:
        """Return the fields, and how many bytes have been read.

        Raises:
            IndexError: If the bytes end before the struct does.
            ValueError: If they are no struct.
        """
        if depth > _MAX_NESTING:
            raise ValueError("a header that is nested too deeply")
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._integer()
            kind = head & 15
            # a boolean lies in the kind itself
            fields[number] = None if kind in (1, 2) else self._value(kind, depth)
        return fields, self._at

    def _value(self, kind: int, depth: int) -> Any:
        self._num_values += 1
        if self._num_values > _MAX_VALUES:
            raise ValueError(f"a header of more than {_MAX_VALUES:,} values")
        match kind:
            case 1 | 2 | 3:
                return self._byte()
            case 4 | 5 | 6:
                return self._integer()
            case 7:
                self._bytes(8)
            case 8:
                return self._bytes(self._varint())
            case 9 | 10:
                return self._list(depth + 1)
            case 12:
                return self.read(depth + 1)[0]
            case _:
                # neither page headers nor footers have maps
                raise ValueError(f"a header with a field of kind {kind}")
        return None

    def _list(self, depth: int) -> list[Any]:
        if depth > _MAX_NESTING:
            raise ValueError("a header that is nested too deeply")
        head = self._byte()
        # no element takes less than a byte, so that the payload bounds a list of whatever length
        return [self._value(head & 15, depth) for _ in range(head >> 4 if head < 0xF0 else self._varint())]

    def _byte(self) -> int:
        value = self._payload[self._at]
        self._at += 1
        return value

    def _bytes(self, num_bytes: int) -> bytes:
        self._at += num_bytes
        if self._at > len(self._payload):
            raise IndexError("a header that does not end")
        return self._payload[self._at - num_bytes : self._at]

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
