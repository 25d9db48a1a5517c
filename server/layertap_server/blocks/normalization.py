"""Normalization blocks as ONNX nodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from layertap.blocks import BoundBlock
from layertap_server.blocks.builder import Builder, Emitter, Tensor, require_places


def _unit_length(reduction: str) -> Emitter:
    def emit(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
        axis = tensor.axis(block.integer("axis"))
        length = builder.reduce(reduction, tensor.name, [axis], keepdims=True)
        divisor = builder.op("Max", length, builder.constant(block.number("eps"), tensor.dtype))
        return replace(tensor, name=builder.op("Div", tensor.name, divisor))

    return emit


def _z_score(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    axes = _scope_axes(tensor, block)
    mean = builder.reduce("ReduceMean", tensor.name, axes, keepdims=True)
    centred = builder.op("Sub", tensor.name, mean)
    square = builder.op("Mul", centred, centred)
    if block.integer("ddof") == 0:
        variance = builder.reduce("ReduceMean", square, axes, keepdims=True)
    else:
        total = builder.reduce("ReduceSum", square, axes, keepdims=True)
        variance = builder.op("Div", total, _degrees_of_freedom(builder, tensor, axes))
    deviation = builder.op("Sqrt", variance)
    divisor = builder.op("Max", deviation, builder.constant(block.number("eps"), tensor.dtype))
    return replace(tensor, name=builder.op("Div", centred, divisor))


def _scope_axes(tensor: Tensor, block: BoundBlock) -> Sequence[int]:
    match block.word("scope"):
        case "channel":
            return require_places(tensor, block)
        case "batch":
            return (0, *tensor.spatial_axes)
        case "column":
            return (0,)
    return range(1, tensor.rank)


def _degrees_of_freedom(builder: Builder, tensor: Tensor, axes: Sequence[int]) -> str:
    """How many values the axes hold, less one; at least one, so that a single value gives zero and not NaN."""
    sizes = [tensor.shape[axis] for axis in axes]
    known = [size for size in sizes if isinstance(size, int)]
    if len(known) == len(sizes):
        return builder.constant(max(math.prod(known) - 1, 1), tensor.dtype)
    shape = builder.op("Gather", builder.op("Shape", tensor.name), builder.constant(list(axes), "int64"))
    count = builder.reduce("ReduceProd", shape, [0], keepdims=False)
    less_one = builder.op("Sub", count, builder.constant(1, "int64"))
    at_least_one = builder.op("Max", less_one, builder.constant(1, "int64"))
    return builder.op("CastLike", at_least_one, tensor.name)


EMITTERS: dict[str, Emitter] = {
    "l1": _unit_length("ReduceL1"),
    "l2": _unit_length("ReduceL2"),
    "z_score": _z_score,
}
