"""Activation statistics as nodes: a few numbers a layer and image leave the session, and no map does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from onnx import numpy_helper

from layertap.types import Layout
from layertap_server.blocks import Builder, Tensor
from layertap_server.graph.model_graph import ModelGraph

COLUMNS = ("finite", "min", "max", "mean", "variance", "zeros", "saturated", "nan", "inf", "norm")
"""Of the summary, N×10 float32: counts, and moments of the finite values."""
NEAR = 0.01
"""A value is saturated within this part of the range from an end of it."""
_BOUNDS = {
    **dict.fromkeys(
        ("Sigmoid", "sigmoid", "HardSigmoid", "hard_sigmoid", "hard_logistic", "Softmax", "softmax"), (0, 1)
    ),
    **dict.fromkeys(("Tanh", "tanh", "Softsign", "softsign", "Erf", "erf"), (-1, 1)),
}
"""Operators and blocks -> where their answers end."""

Ends = tuple[float | None, float | None]
NO_ENDS: Ends = (None, None)


def ends_of(graph: ModelGraph, layer: str) -> Ends:
    """Below and above which values a layer's values count as saturated; None where it has no such end.

    A lower bound of 0 is where a rectifier is off, and no saturation: the fraction of zeros tells it.
    """
    operator = next((info.op_type for info in graph.layers if info.name == layer), "")
    low, high = _BOUNDS.get(operator, NO_ENDS)
    if operator == "Clip":
        low, high = _clip_bounds(graph, layer)
    if low is None or high is None or not low < high:
        return None, high
    near = NEAR * (high - low)
    return (None if operator == "Clip" and low == 0 else low + near), high - near


def _clip_bounds(graph: ModelGraph, layer: str) -> Ends:
    node = next(node for node in graph.proto.graph.node if layer in node.output)
    bounds: list[float | None] = []
    for name in [*node.input[1:3], "", ""][:2]:
        weight = graph.weights.get(name)
        value = float(numpy_helper.to_array(weight).reshape(-1)[0]) if weight is not None else None
        bounds.append(value if value is None or abs(value) < np.finfo(np.float32).max else None)
    return bounds[0], bounds[1]


def emit_inspection(builder: Builder, tensor: Tensor, ends: Ends) -> tuple[Tensor, Tensor]:
    """The summary of a layer, N×10, and the largest absolute value of each channel, N×C (N×0 where it has none)."""
    x = tensor.name if tensor.dtype == "float32" else builder.cast(tensor.name, "float32")
    real = replace(tensor, name=x, dtype="float32")
    columns = builder.op("Concat", *_columns(builder, real, ends), axis=1)
    vector = replace(real, layout=Layout.VECTOR)
    return replace(vector, name=columns, shape=(tensor.shape[0], len(COLUMNS))), _channels(builder, real)


def _columns(builder: Builder, tensor: Tensor, ends: Ends) -> Iterator[str]:
    """Each N×1."""
    flat = builder.op("Reshape", tensor.name, builder.constant([0, -1], "int64"))
    zero, infinity = (builder.constant(value, "float32") for value in (0.0, np.inf))

    def total(condition: str) -> str:
        return builder.reduce("ReduceSum", builder.cast(condition, "float32"), [1], keepdims=True)

    is_nan = builder.op("IsNaN", flat)
    is_inf = builder.op("IsInf", flat)
    is_finite = builder.op("Not", builder.op("Or", is_nan, is_inf))
    finite = total(is_finite)
    known = builder.op("Where", is_finite, flat, zero)
    count = builder.op("Max", finite, builder.constant(1.0, "float32"))
    mean = builder.op("Div", builder.reduce("ReduceSum", known, [1], keepdims=True), count)
    centred = builder.op("Where", is_finite, builder.op("Sub", known, mean), zero)
    squares = builder.reduce("ReduceSum", builder.op("Mul", centred, centred), [1], keepdims=True)
    yield finite
    low = builder.op("Where", is_finite, flat, infinity)
    yield builder.reduce("ReduceMin", low, [1], keepdims=True)
    high = builder.op("Where", is_finite, flat, builder.op("Neg", infinity))
    yield builder.reduce("ReduceMax", high, [1], keepdims=True)
    yield mean
    yield builder.op("Div", squares, count)
    yield total(builder.op("Equal", flat, zero))
    yield total(_saturated(builder, known, is_finite, ends))
    yield total(is_nan)
    yield total(is_inf)
    yield builder.reduce("ReduceL2", known, [1], keepdims=True)


def _saturated(builder: Builder, known: str, is_finite: str, ends: Ends) -> str:
    beyond = [
        builder.op(op_type, known, builder.constant(end, "float32"))
        for op_type, end in zip(("LessOrEqual", "GreaterOrEqual"), ends, strict=True)
        if end is not None
    ]
    if not beyond:
        return builder.op("Not", builder.op("Or", is_finite, builder.op("Not", is_finite)))  # none of them
    return builder.op("And", is_finite, beyond[0] if len(beyond) == 1 else builder.op("Or", *beyond))


def _channels(builder: Builder, tensor: Tensor) -> Tensor:
    batch = tensor.shape[0]
    if tensor.layout is Layout.OTHER:  # nobody knows which axis has the channels: none is called dead
        flat = builder.op("Reshape", tensor.name, builder.constant([0, -1], "int64"))
        return Tensor(builder.slice(flat, 1, 0, 0), "float32", (batch, 0), Layout.VECTOR)
    axes: Sequence[int] = tensor.spatial_axes
    absolute = builder.op("Abs", tensor.name)
    name = builder.reduce("ReduceMax", absolute, axes, keepdims=False) if axes else absolute
    return Tensor(name, "float32", (batch, tensor.shape[tensor.channel_axis]), Layout.VECTOR)
