"""Activation statistics as ONNX nodes, so that the session returns a few numbers per layer and image, and no maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from layertap.types import Layout
from layertap_server.blocks import Builder
from layertap_server.blocks.moments import count_true, emit_moments
from layertap_server.graph.saturation import Saturation
from layertap_server.tensor import Tensor

COLUMNS = ("finite", "min", "max", "mean", "variance", "zeros", "saturated", "nan", "inf", "norm")
"""Columns of the summary, N×10 float32: counts of values, and moments of the finite values."""


def emit_inspection(builder: Builder, tensor: Tensor, saturation: Saturation) -> tuple[Tensor, Tensor]:
    """Emit the statistics of a layer.

    Returns:
        The summary, N×10 float32 with the columns `COLUMNS`, and the largest absolute value of each channel, N×C
        float32 (N×0 if the channel axis is not known).
    """
    x = tensor.name if tensor.dtype == "float32" else builder.cast(tensor.name, "float32")
    real = replace(tensor, name=x, dtype="float32")
    columns = builder.op("Concat", *_columns(builder, real, saturation), axis=1)
    vector = replace(real, layout=Layout.VECTOR)
    return replace(vector, name=columns, shape=(tensor.shape[0], len(COLUMNS))), _channels(builder, real)


def _columns(builder: Builder, tensor: Tensor, saturation: Saturation) -> Iterator[str]:
    """Yield the columns of the summary in the order of `COLUMNS`, each N×1 float32."""
    flat = builder.op("Reshape", tensor.name, builder.constant([0, -1], "int64"))
    moments = emit_moments(builder, flat, 1)
    yield moments.finite
    yield moments.minimum
    yield moments.maximum
    yield moments.mean
    yield moments.variance
    yield moments.zeros
    yield count_true(builder, _saturated(builder, tensor, flat, moments.is_finite, saturation), 1)
    yield moments.nan
    yield moments.inf
    yield builder.reduce("ReduceL2", moments.known, [1], keepdims=True)


def _saturated(builder: Builder, tensor: Tensor, flat: str, is_finite: str, saturation: Saturation) -> str:
    """Emit a boolean mask of the saturated values, of the shape of ``flat``; non-finite values are never saturated."""
    judged = flat if saturation.axis is None else _largest_along(builder, tensor, saturation.axis)
    saturated = builder.op("And", is_finite, builder.constant(False, "bool"))
    for op_type, end in (("LessOrEqual", saturation.low), ("GreaterOrEqual", saturation.high)):
        if end is not None:
            beyond = builder.op(op_type, judged, builder.constant(end, "float32"))
            saturated = builder.op("Or", saturated, builder.op("And", is_finite, beyond))
    return saturated


def _largest_along(builder: Builder, tensor: Tensor, axis: int) -> str:
    """Emit for each value the maximum along an axis at its position, flattened to N×values."""
    largest = builder.reduce("ReduceMax", tensor.name, [axis % tensor.rank], keepdims=True)
    spread = builder.op("Expand", largest, builder.op("Shape", tensor.name))
    return builder.op("Reshape", spread, builder.constant([0, -1], "int64"))


def _channels(builder: Builder, tensor: Tensor) -> Tensor:
    """Emit the largest absolute value of each channel, N×C, or N×0 if the channel axis is not known."""
    batch = tensor.shape[0]
    if tensor.layout is Layout.OTHER:  # the channel axis is not known, so no channel can be reported as dead
        flat = builder.op("Reshape", tensor.name, builder.constant([0, -1], "int64"))
        return Tensor(builder.slice(flat, 1, 0, 0), "float32", (batch, 0), Layout.VECTOR)
    axes: Sequence[int] = tensor.spatial_axes
    absolute = builder.op("Abs", tensor.name)
    name = builder.reduce("ReduceMax", absolute, axes, keepdims=False) if axes else absolute
    return Tensor(name, "float32", (batch, tensor.shape[tensor.channel_axis]), Layout.VECTOR)
