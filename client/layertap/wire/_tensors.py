"""Encode and decode arrays, dtypes and layouts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from layertap.errors import BadTensorError
from layertap.types import Array, Layout
from layertap.v1 import types_pb2 as pb

_DTYPE_PREFIX = "DATA_TYPE_"
"""Prefix of the values of the enumeration ``DataType``."""
_LAYOUT_PREFIX = "LAYOUT_"
"""Prefix of the values of the enumeration ``Layout``."""


HIGHEST_RANK = 16
"""Maximum number of axes of a tensor."""
LARGEST_SIZE = 2**31 - 1
"""Maximum size of an axis."""
LARGEST_BYTES = 2**62
"""Maximum number of bytes that the axes of a tensor span, with an empty axis counted as 1, as in NumPy's strides."""


def encode_dtype(dtype: str) -> str:
    """Convert ``"float32"`` to ``"DATA_TYPE_FLOAT32"``; a dtype without a counterpart becomes unspecified."""
    name = _DTYPE_PREFIX + dtype.upper()
    return name if name in pb.DataType.keys() else _DTYPE_PREFIX + "UNSPECIFIED"  # noqa: SIM118 - no mapping


def decode_dtype(dtype: int) -> str:
    """Convert ``DATA_TYPE_FLOAT32`` to ``"float32"``; an unspecified or unknown one becomes an empty text."""
    if dtype == pb.DATA_TYPE_UNSPECIFIED or dtype not in pb.DataType.values():
        return ""
    return pb.DataType.Name(dtype).removeprefix(_DTYPE_PREFIX).lower()


def encode_layout(layout: Layout) -> str:
    """Return the name of a layout's enumeration value."""
    return _LAYOUT_PREFIX + layout.name


def decode_layout(layout: int) -> Layout:
    """Decode a layout; an unspecified or unknown one becomes `Layout.OTHER`."""
    if layout == pb.LAYOUT_UNSPECIFIED or layout not in pb.Layout.values():
        return Layout.OTHER
    return Layout[pb.Layout.Name(layout).removeprefix(_LAYOUT_PREFIX)]


def encode_tensor(array: Array, name: str = "") -> pb.Tensor:
    """Encode an array.

    Raises:
        BadTensorError: the protocol has no such dtype.
    """
    message = encode_tensor_header(array, name)
    message.data = little_endian(array).tobytes()
    return message


def encode_tensor_header(array: Array, name: str = "") -> pb.Tensor:
    """Encode an array without its data.

    Raises:
        BadTensorError: the protocol has no such dtype.
    """
    dtype = encode_dtype(array.dtype.name)
    if dtype.endswith("UNSPECIFIED"):
        raise BadTensorError(
            f"arrays of {array.dtype} cannot be sent; convert the array to another dtype", got=array.dtype.name
        )
    return pb.Tensor(name=name, dtype=dtype, shape=array.shape)


def little_endian(array: Array) -> Array:
    """Return the array in little-endian byte order; copy only if necessary."""
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def decode_tensor(tensor: pb.Tensor) -> Array:
    """Decode an array as a read-only view of the message's bytes.

    Raises:
        BadTensorError: the dtype is missing, the shape is invalid, or the number of bytes does not fit dtype and shape.
    """
    return tensor_from(tensor, tensor.data)


def tensor_from(header: pb.Tensor, data: bytes | memoryview) -> Array:
    """Decode an array like `decode_tensor`, with data that are not part of the message."""
    dtype, shape = _type_of(header)
    expected = math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        message = f"expected {expected} bytes for a {dtype.name} tensor of shape {list(shape)}, got {len(data)}"
        raise BadTensorError(message, expected=expected, got=len(data), shape=shape)
    return np.frombuffer(data, dtype).reshape(shape)


def empty_tensor(tensor: pb.Tensor) -> Array:
    """Allocate an array for a tensor whose data arrive separately.

    Raises:
        BadTensorError: the dtype is missing or the shape is invalid.
    """
    dtype, shape = _type_of(tensor)
    return np.empty(shape, dtype)


def shared_tensor(tensor: pb.Tensor, region: Array) -> Array:
    """Return an array as a view of the shared memory region.

    Raises:
        BadTensorError: its range exceeds the region, or its size does not fit dtype and shape.
    """
    dtype, shape = _type_of(tensor)
    offset, size = tensor.shared.offset, tensor.shared.byte_size
    if offset < 0 or size != math.prod(shape) * dtype.itemsize or offset + size > region.nbytes:
        raise BadTensorError(
            "the tensor's range in shared memory does not fit its shape or the region", got=[offset, size]
        )
    return region[offset : offset + size].view(dtype).reshape(shape)


def _type_of(tensor: pb.Tensor) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Return the dtype and shape of a tensor; raise `BadTensorError` if they are invalid."""
    name = decode_dtype(tensor.dtype)
    if not name:
        raise BadTensorError(
            f"the tensor has no dtype, or one unknown to this version: {tensor.dtype}", got=str(tensor.dtype)
        )
    if len(tensor.shape) > HIGHEST_RANK:
        message = f"expected a tensor of at most {HIGHEST_RANK} axes, got {len(tensor.shape)}"
        raise BadTensorError(message, limit=HIGHEST_RANK, got=len(tensor.shape))
    dtype, shape = np.dtype(name).newbyteorder("<"), tuple(tensor.shape)
    if any(size < 0 for size in shape):
        raise BadTensorError(f"the tensor has a negative size in its shape {list(shape)}", got=shape)
    span = math.prod(max(size, 1) for size in shape) * dtype.itemsize
    if span > LARGEST_BYTES or max(shape, default=0) > LARGEST_SIZE:
        message = (
            f"the tensor's shape {list(shape)} is too large: expected at most {LARGEST_SIZE} per axis and "
            f"{LARGEST_BYTES} bytes"
        )
        raise BadTensorError(message, limit=LARGEST_BYTES, got=shape)
    return dtype, shape
