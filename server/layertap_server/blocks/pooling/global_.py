"""Pools over all spatial positions, and of the largest values along an axis."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from layertap.blocks import BoundBlock
from layertap.types import Layout
from layertap_server.blocks.builder import Builder, Emitter, maximum_with_nan, minimum_with_nan, misfit
from layertap_server.blocks.layouts import drop_prefix, require_spatial_axes
from layertap_server.blocks.operations import sorting
from layertap_server.blocks.powers import power
from layertap_server.tensor import Dim, Tensor


def _over_positions(pool: Callable[[Builder, Tensor, tuple[int, ...], BoundBlock], str]) -> Emitter:
    """Return the emitter of a pool over all spatial positions, N×C. Tokens of a known prefix have no position."""

    def emit(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
        tensor = drop_prefix(builder, tensor)
        name = pool(builder, tensor, require_spatial_axes(tensor, block), block)
        shape = (tensor.shape[0], tensor.shape[tensor.channel_axis])
        return replace(tensor, name=name, shape=shape, layout=Layout.VECTOR)

    return emit


def _reduction(op_type: str) -> Emitter:
    """Return the emitter of a pool that is one reduction over all spatial positions."""
    return _over_positions(lambda builder, tensor, axes, _: builder.reduce(op_type, tensor.name, axes, keepdims=False))


def _global_mean(builder: Builder, tensor: Tensor, axes: tuple[int, ...], _block: BoundBlock) -> str:
    """Emit the mean over all spatial positions."""
    if tensor.layout is Layout.NCHW:
        # onnxruntime has this operator in the blocked layout of its convolutions; a reduction would need a reorder.
        return builder.op("Flatten", builder.op("GlobalAveragePool", tensor.name), axis=1)
    return builder.reduce("ReduceMean", tensor.name, axes, keepdims=False)


def _global_max(builder: Builder, tensor: Tensor, axes: tuple[int, ...], _block: BoundBlock) -> str:
    """Emit the maximum over all spatial positions."""
    return maximum_with_nan(builder, tensor, lambda x: builder.reduce("ReduceMax", x, axes, keepdims=False))


def _global_min(builder: Builder, tensor: Tensor, axes: tuple[int, ...], _block: BoundBlock) -> str:
    """Emit the minimum over all spatial positions."""
    return minimum_with_nan(builder, tensor, lambda x: builder.reduce("ReduceMax", x, axes, keepdims=False))


def _global_std(builder: Builder, tensor: Tensor, axes: tuple[int, ...], block: BoundBlock) -> str:
    """Emit the standard deviation over all spatial positions."""
    centred = builder.op("Sub", tensor.name, builder.reduce("ReduceMean", tensor.name, axes, keepdims=True))
    total = builder.reduce("ReduceSum", builder.op("Mul", centred, centred), axes, keepdims=False)
    return builder.op("Sqrt", builder.op("Div", total, builder.count(tensor, axes, less=block.integer("ddof"))))


def _global_lp(builder: Builder, tensor: Tensor, axes: tuple[int, ...], block: BoundBlock) -> str:
    """Emit the p-norm over all spatial positions."""
    return _power_mean(builder, replace(tensor, name=builder.op("Abs", tensor.name)), axes, block, "ReduceSum")


def _power_mean(builder: Builder, tensor: Tensor, axes: tuple[int, ...], block: BoundBlock, reduction: str) -> str:
    """Emit ``(mean or sum of x^p)^(1/p)`` for x >= 0, scaled by the largest value so that powers do not overflow."""
    exponent = block.number("p")
    largest = builder.largest_magnitude(tensor, axes)
    powered = power(builder, builder.op("Div", tensor.name, largest), exponent, tensor.dtype)
    root = power(builder, builder.reduce(reduction, powered, axes, keepdims=True), 1 / exponent, tensor.dtype)
    total = builder.reduce("ReduceSum", tensor.name, axes, keepdims=True)
    is_infinite = builder.op("Equal", largest, builder.constant(np.inf, tensor.dtype))
    value = builder.op("Where", is_infinite, total, builder.op("Mul", root, largest))
    return builder.op("Squeeze", value, builder.constant(list(axes), "int64"))


def _gem(builder: Builder, tensor: Tensor, axes: tuple[int, ...], block: BoundBlock) -> str:
    """Emit the generalized mean over all spatial positions (Radenović et al. 2018)."""
    floor = builder.smallest(block.number("eps"), tensor.dtype)
    positive = replace(tensor, name=builder.op("Max", tensor.name, floor))
    return _power_mean(builder, positive, axes, block, "ReduceMean")


def _avg_max(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit the global average and the global maximum, concatenated along the channels."""
    average = _over_positions(_global_mean)(builder, tensor, block)
    strongest = _over_positions(_global_max)(builder, tensor, block)
    channels = average.shape[1]
    both: Dim = channels * 2 if isinstance(channels, int) else f"2·{channels}"
    return average.with_axis(builder.op("Concat", average.name, strongest.name, axis=1), 1, both)


def _k_max(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit the k largest values along an axis, in their original order."""
    return _largest(builder, tensor, block, block.integer("k"))


def _dynamic_k_max(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit a k-max pool whose k depends on the depth of the layer (Kalchbrenner et al. 2014)."""
    depth, layer = block.integer("depth"), block.integer("layer")
    if layer > depth:
        raise misfit(block, tensor, f"layer {layer} of {depth} does not exist", f"a layer of at most {depth}")
    length = tensor.shape[tensor.axis(block.integer("axis"))]
    if isinstance(length, str):
        raise misfit(block, tensor, f"it needs a known size along the axis, which has size {length}", "a known size")
    return _largest(builder, tensor, block, max(block.integer("k_top"), math.ceil((depth - layer) * length / depth)))


def _largest(builder: Builder, tensor: Tensor, block: BoundBlock, k: int) -> Tensor:
    """Emit the k largest values along the block's axis, in their original order."""
    axis = tensor.axis(block.integer("axis"))
    length = tensor.shape[axis]
    if axis == 0 or (isinstance(length, int) and k > length):
        problem = "it cannot select along the batch axis" if axis == 0 else f"it cannot select {k} of {length} values"
        raise misfit(block, tensor, problem, f"at most {length} along an axis after the batch")
    builder.count_operations(sorting(tensor.values, k))
    indices = builder.top_indices(builder.nan_as_largest(tensor), k, axis)
    largest = builder.op("GatherElements", tensor.name, indices, axis=axis)
    return tensor.with_axis(largest, axis, k)


EMITTERS: dict[str, Emitter] = {
    "gap": _over_positions(_global_mean),
    "gmp": _over_positions(_global_max),
    "global_min": _over_positions(_global_min),
    "global_sum": _reduction("ReduceSum"),
    "global_std": _over_positions(_global_std),
    "global_lp": _over_positions(_global_lp),
    "gem": _over_positions(_gem),
    "avg_max": _avg_max,
    "k_max": _k_max,
    "dynamic_k_max": _dynamic_k_max,
}
"""Emitters by block name."""
