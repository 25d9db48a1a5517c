"""The block ``channel_stats``: statistics of each channel of each image, so that profiles need no feature maps."""

from __future__ import annotations

from layertap.blocks import BoundBlock
from layertap.blocks.shape import CHANNEL_STATISTICS
from layertap.types import Layout
from layertap_server.blocks.builder import Builder, require_channel_axis
from layertap_server.blocks.layouts import as_nchw
from layertap_server.blocks.moments import emit_moments
from layertap_server.tensor import Tensor

_POSITIONS = 2
"""Index of the axis of positions in N×C×positions."""


def emit_channel_stats(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit the statistics of each channel, N×C×10 float32; see the catalogue for the columns.

    The mean is emitted with its own rounding error, so that a caller can add both in float64.

    Raises:
        ShapeMismatchError: The layout of the tensor is not known.
    """
    channels = tensor.shape[require_channel_axis(tensor, block)]
    moments = emit_moments(builder, _flatten_positions(builder, tensor, block), _POSITIONS)
    remainder = builder.reduce("ReduceSum", moments.centred, [_POSITIONS], keepdims=True)
    position = builder.op("ArgMax", moments.high, axis=_POSITIONS, keepdims=1)
    columns = {
        "finite": moments.finite,
        "mean": moments.mean,
        "remainder": builder.op("Div", remainder, moments.divisor),
        "variance": moments.variance,
        "min": moments.minimum,
        "max": moments.maximum,
        "zeros": moments.zeros,
        "nan": moments.nan,
        "inf": moments.inf,
        "position": builder.cast(position, "float32"),
    }
    name = builder.op("Concat", *(columns[column] for column in CHANNEL_STATISTICS), axis=_POSITIONS)
    return Tensor(name, "float32", (tensor.shape[0], channels, len(CHANNEL_STATISTICS)), Layout.OTHER)


def _flatten_positions(builder: Builder, tensor: Tensor, block: BoundBlock) -> str:
    """Emit the tensor as float32 N×C×positions; a vector has one position."""
    name = tensor.name
    if tensor.layout is Layout.TOKENS:
        name = builder.op("Transpose", name, perm=[0, 2, 1])
    elif tensor.layout is Layout.NHWC:
        name = as_nchw(builder, tensor, block).name
    flat = builder.op("Reshape", name, builder.constant([0, 0, -1], "int64"))
    return flat if tensor.dtype == "float32" else builder.cast(flat, "float32")
