"""Named arrays as bytes in the safetensors format, without the library: what a worker stores, the API image can read.

Eight bytes of header length (little endian), a JSON header with type, shape and place of every array, then the raw
numbers. Nothing in it is ever executed, unlike a pickle.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "I64": np.dtype("<i8"),
    "U8": np.dtype("u1"),
}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}
_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 1 << 20

Tensors = dict[str, NDArray[Any]]


def pack(tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    """Return arrays and metadata as safetensors bytes.

    Raises:
        ValueError: If an array is not of float32, float64, int64 or uint8.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    parts, end = [], 0
    for name, tensor in tensors.items():
        dtype = tensor.dtype.newbyteorder("<")
        if dtype not in _NAMES:
            raise ValueError(f"{name} is of {tensor.dtype}; only float32, float64, int64 and uint8 can be stored")
        part = np.ascontiguousarray(tensor, dtype=dtype).tobytes()
        header[name] = {
            "dtype": _NAMES[dtype],
            "shape": list(tensor.shape),
            "data_offsets": [end, end + len(part)],
        }
        end += len(part)
        parts.append(part)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)
    return b"".join([len(text).to_bytes(_LENGTH_BYTES, "little"), text, *parts])


def unpack(data: bytes) -> tuple[Tensors, dict[str, str]]:
    """Return the arrays (read-only views of ``data``) and metadata of :func:`pack`.

    Raises:
        ValueError: If the bytes are not what :func:`pack` writes, or cut short.
    """
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    start = _LENGTH_BYTES + length
    if len(data) < start or length > _MAX_HEADER_BYTES:
        raise ValueError("these bytes are not a safetensors file, or are cut short")
    try:
        header = json.loads(data[_LENGTH_BYTES:start])
        metadata = {str(key): str(value) for key, value in header.pop("__metadata__", {}).items()}
        return {name: _tensor(entry, memoryview(data)[start:]) for name, entry in header.items()}, metadata
    except (AttributeError, KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError("the header of these safetensors bytes cannot be read") from error


def _tensor(entry: Mapping[str, Any], buffer: memoryview) -> NDArray[Any]:
    dtype, shape = _TYPES[entry["dtype"]], tuple(int(size) for size in entry["shape"])
    first, last = (int(offset) for offset in entry["data_offsets"])
    if min((0, *shape)) < 0 or not 0 <= first <= last <= len(buffer):
        raise ValueError("an array of these safetensors bytes lies outside of them")
    if last - first != math.prod(shape) * dtype.itemsize:
        raise ValueError("an array of these safetensors bytes is not as long as its shape says")
    tensor: NDArray[Any] = np.frombuffer(buffer[first:last], dtype=dtype).reshape(shape)
    return tensor
