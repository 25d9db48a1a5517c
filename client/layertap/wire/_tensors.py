"""Arrays, dtypes and layouts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from layertap.errors import BadTensorError
from layertap.types import Array, Layout
from layertap.v1 import types_pb2 as pb

_DTYPE_PREFIX = "DATA_TYPE_"
_LAYOUT_PREFIX = "LAYOUT_"


HIGHEST_RANK = 16
LARGEST_SIZE = 2**31 - 1
LARGEST_BYTES = 2**62
"""Bytes that the axes of a tensor may span, an empty axis counted as 1, as NumPy does when it computes strides."""


def encode_dtype(dtype: str) -> str:
    """``"float32"`` -> ``"DATA_TYPE_FLOAT32"``; a type that the contract lacks is unspecified."""
    name = _DTYPE_PREFIX + dtype.upper()
    return name if name in pb.DataType.keys() else _DTYPE_PREFIX + "UNSPECIFIED"  # noqa: SIM118 - no mapping


def decode_dtype(dtype: int) -> str:
    """``DATA_TYPE_FLOAT32`` -> ``"float32"``; empty where it is unspecified or newer than this program."""
    if dtype == pb.DATA_TYPE_UNSPECIFIED or dtype not in pb.DataType.values():
        return ""
    return pb.DataType.Name(dtype).removeprefix(_DTYPE_PREFIX).lower()


def encode_layout(layout: Layout) -> str:
    return _LAYOUT_PREFIX + layout.name


def decode_layout(layout: int) -> Layout:
    if layout == pb.LAYOUT_UNSPECIFIED or layout not in pb.Layout.values():
        return Layout.OTHER
    return Layout[pb.Layout.Name(layout).removeprefix(_LAYOUT_PREFIX)]


def encode_tensor(array: Array, name: str = "") -> pb.Tensor:
    message = encode_tensor_header(array, name)
    message.data = little_endian(array).tobytes()
    return message


def encode_tensor_header(array: Array, name: str = "") -> pb.Tensor:
    """All of a tensor but its data."""
    dtype = encode_dtype(array.dtype.name)
    if dtype.endswith("UNSPECIFIED"):
        raise BadTensorError(f"arrays of {array.dtype} cannot be sent", got=array.dtype.name)
    return pb.Tensor(name=name, dtype=dtype, shape=array.shape)


def little_endian(array: Array) -> Array:
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def decode_tensor(tensor: pb.Tensor) -> Array:
    """The array, a read-only view on the message's bytes.

    Raises:
        BadTensorError: no dtype, a negative size, or another number of bytes than dtype and shape ask for.
    """
    return tensor_from(tensor, tensor.data)


def tensor_from(header: pb.Tensor, data: bytes | memoryview) -> Array:
    """As `decode_tensor`, of data that lies beside the message."""
    dtype, shape = _type_of(header)
    expected = math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        message = f"a {dtype.name} tensor of shape {list(shape)} has {expected} bytes, not {len(data)}"
        raise BadTensorError(message, expected=expected, got=len(data), shape=shape)
    return np.frombuffer(data, dtype).reshape(shape)


def empty_tensor(tensor: pb.Tensor) -> Array:
    """An array for the tensor's data, which come by themselves.

    Raises:
        BadTensorError: no dtype, or sizes that cannot be.
    """
    dtype, shape = _type_of(tensor)
    return np.empty(shape, dtype)


def shared_tensor(tensor: pb.Tensor, region: Array) -> Array:
    """The array, a view on the region's bytes.

    Raises:
        BadTensorError: its place lies outside the region, or its size is another than the type says.
    """
    dtype, shape = _type_of(tensor)
    offset, size = tensor.shared.offset, tensor.shared.byte_size
    if offset < 0 or size != math.prod(shape) * dtype.itemsize or offset + size > region.nbytes:
        raise BadTensorError("the tensor's place in shared memory is not its own", got=[offset, size])
    return region[offset : offset + size].view(dtype).reshape(shape)


def _type_of(tensor: pb.Tensor) -> tuple[np.dtype[Any], tuple[int, ...]]:
    name = decode_dtype(tensor.dtype)
    if not name:
        raise BadTensorError("the tensor says no dtype that this program knows", got=str(tensor.dtype))
    if len(tensor.shape) > HIGHEST_RANK:
        message = f"a tensor has at most {HIGHEST_RANK} axes, not {len(tensor.shape)}"
        raise BadTensorError(message, limit=HIGHEST_RANK, got=len(tensor.shape))
    dtype, shape = np.dtype(name).newbyteorder("<"), tuple(tensor.shape)
    if any(size < 0 for size in shape):
        raise BadTensorError(f"the tensor has a negative size in its shape {list(shape)}", got=shape)
    span = math.prod(max(size, 1) for size in shape) * dtype.itemsize
    if span > LARGEST_BYTES or max(shape, default=0) > LARGEST_SIZE:
        message = (
            f"the tensor's shape {list(shape)} is too large: axes of at most {LARGEST_SIZE}, {LARGEST_BYTES} bytes"
        )
        raise BadTensorError(message, limit=LARGEST_BYTES, got=shape)
    return dtype, shape
