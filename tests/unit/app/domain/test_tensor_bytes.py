"""The bytes are those of safetensors, and damaged ones are refused."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from app.domain.tensor_bytes import pack, unpack

TENSORS = {
    "weights": np.arange(6, dtype=np.float32).reshape(2, 3),
    "scalar": np.array(0.25),
    "sizes": np.array([6, 3], dtype=np.int64),
    "codes": np.zeros((0, 19), dtype=np.uint8),
}


def test_arrays_and_texts_come_back():
    tensors, texts = unpack(pack(TENSORS, {"version": "1", "costs": "[]"}))
    assert texts == {"version": "1", "costs": "[]"}
    assert set(tensors) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert (tensors[name].dtype, tensors[name].shape) == (tensor.dtype, tensor.shape)
        np.testing.assert_array_equal(tensors[name], tensor)


def test_the_same_give_the_same_bytes_in_any_order():
    texts = {str(number): str(number) for number in range(20)}
    backwards = (dict(reversed(given.items())) for given in (TENSORS, texts))
    assert pack(*backwards) == pack(TENSORS, texts)


def test_a_transposed_array_comes_back_as_it_was():
    transposed = np.arange(6.0).reshape(2, 3).T
    np.testing.assert_array_equal(unpack(pack({"a": transposed}, {}))[0]["a"], transposed)


def test_safetensors_of_others_are_refused():
    with pytest.raises(ValueError, match="not safetensors of NAS Atlas"):
        unpack(save(TENSORS, {"format": "pt"}))


@given(st.integers(0, 400))
def test_bytes_cut_short_are_refused(length):
    data = pack(TENSORS, {})
    with pytest.raises(ValueError, match="cut short"):
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
    with pytest.raises(ValueError, match="not safetensors"):
        unpack(with_header(header))
