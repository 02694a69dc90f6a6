"""PostgreSQL's binary COPY format, to and from numpy: per row a field count, per field its length and its bytes."""

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

HEADER = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0)
TRAILER = struct.pack(">h", -1)


def rows(columns: Sequence[tuple[str, str]], values: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.void]:
    """Return rows as their bytes between header and trailer; no field is NULL.

    Args:
        columns: Names and numpy types, big-endian, in the order of the COPY statement.
        values: An array of one length for each of them.
    """
    fields: list[tuple[str, str]] = [("num_fields", ">i2")]
    for name, dtype in columns:
        fields += [(f"{name}_bytes", ">i4"), (name, dtype)]
    buffer = np.empty(len(values[columns[0][0]]), dtype=np.dtype(fields))
    buffer["num_fields"] = len(columns)
    for name, dtype in columns:
        buffer[f"{name}_bytes"] = np.dtype(dtype).itemsize
        buffer[name] = values[name]
    return buffer


def column(data: bytes, dtype: str) -> npt.NDArray[Any]:
    """Return the only column, without NULLs, of a whole COPY's bytes.

    Args:
        data: The bytes, header and trailer included.
        dtype: Its numpy type, big-endian.
    """
    row = np.dtype([("num_fields", ">i2"), ("num_bytes", ">i4"), ("value", dtype)])
    assert data.startswith(HEADER), "COPY ... BINARY begins with its signature"
    assert data.endswith(TRAILER), "and ends with its trailer"
    return np.frombuffer(data[len(HEADER) : len(data) - len(TRAILER)], dtype=row)["value"]
