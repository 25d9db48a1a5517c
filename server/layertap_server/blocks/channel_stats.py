"""The block ``channel_stats``: statistics of each channel of each image, so that profiles need no feature maps."""

from __future__ import annotations

import numpy as np

from layertap.blocks import BoundBlock
from layertap.types import Layout
from layertap_server.blocks.builder import Builder, require_channel_axis
from layertap_server.blocks.layouts import as_nchw
from layertap_server.tensor import Tensor

COLUMNS = 10
"""Number of statistics per channel."""
_POSITIONS = 2
"""Index of the axis of positions in N×C×positions."""


def emit_channel_stats(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit the statistics of each channel, N×C×10 float32; see the catalogue for the columns.

    The mean is emitted with its own rounding error, so that a caller can add both in float64.

    Raises:
        ShapeMismatchError: The layout of the tensor is not known.
    """
    channels = tensor.shape[require_channel_axis(tensor, block)]
    flat = _flatten_positions(builder, tensor, block)
    zero, infinity = (builder.constant(value, "float32") for value in (0.0, np.inf))
    is_nan, is_inf = builder.op("IsNaN", flat), builder.op("IsInf", flat)
    is_finite = builder.op("Not", builder.op("Or", is_nan, is_inf))

    def over(op_type: str, name: str) -> str:
        return builder.reduce(op_type, name, [_POSITIONS], keepdims=True)

    def total(condition: str) -> str:
        return over("ReduceSum", builder.cast(condition, "float32"))

    finite = total(is_finite)
    count = builder.op("Max", finite, builder.constant(1.0, "float32"))
    known = builder.op("Where", is_finite, flat, zero)
    mean = builder.op("Div", over("ReduceSum", known), count)
    centred = builder.op("Where", is_finite, builder.op("Sub", known, mean), zero)
    low = builder.op("Where", is_finite, flat, infinity)
    high = builder.op("Where", is_finite, flat, builder.op("Neg", infinity))
    position = builder.op("ArgMax", high, axis=_POSITIONS, keepdims=1)
    columns = [
        *(finite, mean, builder.op("Div", over("ReduceSum", centred), count)),
        builder.op("Div", over("ReduceSum", builder.op("Mul", centred, centred)), count),
        *(over("ReduceMin", low), over("ReduceMax", high), total(builder.op("Equal", flat, zero))),
        *(total(is_nan), total(is_inf), builder.cast(position, "float32")),
    ]
    name = builder.op("Concat", *columns, axis=_POSITIONS)
    return Tensor(name, "float32", (tensor.shape[0], channels, COLUMNS), Layout.OTHER)


def _flatten_positions(builder: Builder, tensor: Tensor, block: BoundBlock) -> str:
    """Emit the tensor as float32 N×C×positions; a vector has one position."""
    name = tensor.name
    if tensor.layout is Layout.TOKENS:
        name = builder.op("Transpose", name, perm=[0, 2, 1])
    elif tensor.layout is Layout.NHWC:
        name = as_nchw(builder, tensor, block).name
    flat = builder.op("Reshape", name, builder.constant([0, 0, -1], "int64"))
    return flat if tensor.dtype == "float32" else builder.cast(flat, "float32")
