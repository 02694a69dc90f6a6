"""The bytes are those of safetensors, and damaged ones are refused."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.tensor_bytes import pack, unpack

TENSORS = {
    "weights": np.arange(6, dtype=np.float32).reshape(2, 3),
    "scalar": np.array(0.25),
    "sizes": np.array([6, 3], dtype=np.int64),
    "codes": np.zeros((0, 19), dtype=np.uint8),
}


def test_arrays_and_metadata_come_back():
    tensors, metadata = unpack(pack(TENSORS, {"version": "1"}))
    assert metadata == {"version": "1"}
    assert list(tensors) == list(TENSORS)
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        np.testing.assert_array_equal(tensors[name], tensor)


def test_the_safetensors_library_reads_them():
    safetensors = pytest.importorskip("safetensors.numpy")
    read = safetensors.load(pack(TENSORS, {"version": "1"}))
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(read[name], tensor)


def test_other_types_are_refused():
    with pytest.raises(ValueError, match="float16"):
        pack({"half": np.zeros(2, dtype=np.float16)}, {})


@given(st.integers(0, 400))
def test_bytes_cut_short_are_refused(length):
    data = pack(TENSORS, {})
    with pytest.raises(ValueError, match=r"cut short|lies outside|cannot be read"):
        unpack(data[: min(length, len(data) - 1)])


def with_header(header):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(16)


@pytest.mark.parametrize(
    "header",
    [
        b"\xff\xfe",
        b"[]",
        {"a": {"dtype": "F32", "shape": [4]}},
        {"a": {"dtype": "pickle", "shape": [4], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": [-2, -2], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]}},
        {"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}},
    ],
)
def test_headers_that_lie_are_refused(header):
    with pytest.raises(ValueError):
        unpack(with_header(header))
