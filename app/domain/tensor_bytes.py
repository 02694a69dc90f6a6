"""Named arrays and texts as safetensors bytes: what a worker stores, the API image can read, and nobody executes."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

_LENGTH_BYTES = 8
_TEXTS = "nasatlas"

Tensors = dict[str, NDArray[Any]]


def pack(tensors: Mapping[str, NDArray[Any]], texts: Mapping[str, str]) -> bytes:
    """Return arrays and texts as safetensors bytes; the same ones give the same bytes."""
    # one entry: the library writes several in an order that changes from run to run
    metadata = {_TEXTS: json.dumps(texts, sort_keys=True)}
    return save({name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}, metadata)


def unpack(data: bytes) -> tuple[Tensors, dict[str, str]]:
    """Return the arrays and texts of :func:`pack`.

    Raises:
        ValueError: If the bytes are not what :func:`pack` returns, or cut short.
    """
    try:
        tensors: Tensors = load(data)
        texts: dict[str, str] = json.loads(header_metadata(data)[_TEXTS])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"these bytes are not safetensors of NAS Atlas, or are cut short: {error}") from error
    return tensors, texts


def header_metadata(data: bytes) -> dict[str, str]:
    """Return the texts in the header of safetensors bytes, which the library gives for files only.

    The header is 8 bytes of length, then JSON with the texts under ``__metadata__``.
    """
    header: dict[str, Any] = json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + int.from_bytes(data[:8], "little")])
    return dict(header.get("__metadata__", {}))
