"""Test the decoding of inputs and the encoding of outputs of the Open Inference Protocol."""

from __future__ import annotations

import numpy as np
import pytest

from layertap.errors import BadTensorError
from layertap_server.rpc.oip.messages import message_class
from layertap_server.rpc.oip.tensors import (
    DATATYPES,
    check_tensor,
    datatype_name,
    decode_contents,
    decode_raw,
    encode_raw,
)

NUMBERS = [name for name in DATATYPES if name not in {"BYTES", "BF16"}]


@pytest.mark.parametrize("datatype", NUMBERS)
def test_raw_contents_of_each_datatype(datatype: str) -> None:
    array = np.array([[0, 1], [1, 0]]).astype(DATATYPES[datatype].dtype)
    assert datatype_name(array.dtype.name) == datatype
    np.testing.assert_array_equal(decode_raw("x", datatype, (2, 2), encode_raw(array)), array)


@pytest.mark.parametrize("datatype", [name for name in NUMBERS if DATATYPES[name].contents])
def test_typed_contents_of_each_datatype(datatype: str) -> None:
    contents = message_class("InferTensorContents")(**{DATATYPES[datatype].contents: [1, 0]})
    array = decode_contents("x", datatype, (2,), contents)
    assert array.dtype.name == DATATYPES[datatype].dtype
    assert array.tolist() == [1, 0]


def test_brain_floats_become_float32() -> None:
    expected = np.array([1.5, -2.0], np.float32)
    data = (expected.view(np.uint32) >> 16).astype("<u2").tobytes()
    np.testing.assert_array_equal(decode_raw("x", "BF16", (2,), data), expected)


def test_elements_of_bytes() -> None:
    data = b"\x02\0\0\0ab\x00\0\0\0"
    assert decode_raw("x", "BYTES", (2, 1), data).ravel().tolist() == [b"ab", b""]
    with pytest.raises(BadTensorError, match="ends after byte"):
        decode_raw("x", "BYTES", (1,), b"\x09\0\0\0ab")
    with pytest.raises(BadTensorError, match="expected 3 elements"):
        decode_raw("x", "BYTES", (3,), data)


def test_wrong_contents() -> None:
    kind = message_class("InferTensorContents")
    with pytest.raises(BadTensorError, match="got 3"):
        decode_raw("x", "FP32", (1,), b"123")
    with pytest.raises(BadTensorError, match="in fp32_contents, got int_contents"):
        decode_contents("x", "FP32", (1,), kind(int_contents=[1]))
    with pytest.raises(BadTensorError, match="in raw_input_contents"):
        decode_contents("x", "FP16", (1,), kind(fp32_contents=[1]))
    with pytest.raises(BadTensorError, match="outside the range"):
        decode_contents("x", "INT8", (1,), kind(int_contents=[300]))


@pytest.mark.parametrize(
    ("datatype", "shape"), [("TYPE", (1,)), ("FP32", (-1,)), ("FP32", (1,) * 17), ("FP32", (2**50,))]
)
def test_wrong_types(datatype: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(BadTensorError):
        check_tensor("x", datatype, shape)
