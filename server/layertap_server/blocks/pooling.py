"""Pooling blocks as ONNX nodes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from layertap.blocks import BoundBlock
from layertap.errors import ShapeMismatchError
from layertap.types import Array, Layout
from layertap_server.blocks import noise
from layertap_server.blocks.builder import (
    Builder,
    Dim,
    Emitter,
    Tensor,
    as_nchw,
    back_to,
    maximum_with_nan,
    minimum_with_nan,
    misfit,
    require_spatial_axes,
)
from layertap_server.blocks.operations import ELEMENT, sorting
from layertap_server.blocks.windows import Windows, gather_windows, window_mean, windows_of

PASSES_ADAPTIVE = 8
"""Passes over a map that an adaptive pool counts as, since it slices overlapping windows by rows and columns."""
WindowPool = Callable[[Builder, Tensor, Windows, BoundBlock], str]
"""Function that emits one value for each window and returns the name of the result."""


def _window_pool(pool: WindowPool) -> Emitter:
    """Return the emitter of a pool that returns one value for each window."""

    def emit(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
        maps = as_nchw(builder, tensor, block)
        windows = windows_of(maps, block)
        return back_to(tensor.layout, builder, windows.pooled(maps, pool(builder, maps, windows, block)))

    return emit


def _maximum(builder: Builder, maps: Tensor, windows: Windows, _block: BoundBlock) -> str:
    """Emit the maximum of each window."""

    def maximum(name: str) -> str:
        return windows.pool(builder, "MaxPool", windows.pad(builder, replace(maps, name=name), -np.inf), maps)

    return maximum_with_nan(builder, maps, maximum)


def _minimum(builder: Builder, maps: Tensor, windows: Windows, block: BoundBlock) -> str:
    """Emit the minimum of each window."""
    negated = replace(maps, name=builder.op("Neg", maps.name))
    return builder.op("Neg", _maximum(builder, negated, windows, block))


def _average(builder: Builder, maps: Tensor, windows: Windows, block: BoundBlock) -> str:
    """Emit the mean of each window: the mean over the whole kernel, times a factor for the values that it holds.

    Runtimes disagree on the count of values in partial windows. Therefore the padding is explicit, and the counts are
    constants.
    """
    padding = block.name == "average_pool" and bool(block["count_include_pad"])
    return _scale(
        builder, maps, window_mean(builder, maps, windows, block), windows.area / windows.value_counts(padding=padding)
    )


def _scale(builder: Builder, maps: Tensor, name: str, factor: Array) -> str:
    """Emit a product with a factor for each window, H'×W'; factors that are all 1 are left out."""
    if (factor == 1).all():
        return name
    return builder.op("Mul", name, builder.constant(factor[None, None], maps.dtype))


def _sum(builder: Builder, maps: Tensor, windows: Windows, block: BoundBlock) -> str:
    """Emit the sum of each window."""
    mean = window_mean(builder, maps, windows, block)
    return builder.op("Mul", mean, builder.constant(windows.area, maps.dtype))


def _lp(builder: Builder, maps: Tensor, windows: Windows, block: BoundBlock) -> str:
    """Emit the p-norm of each window."""
    powered = replace(maps, name=_power(builder, builder.op("Abs", maps.name), block.number("p"), maps.dtype))
    return _power(builder, _sum(builder, powered, windows, block), 1 / block.number("p"), maps.dtype)


def _power(builder: Builder, name: str, exponent: float, dtype: str) -> str:
    """Emit a power with a constant exponent."""
    return builder.op("Pow", name, builder.constant(exponent, dtype))


def _stochastic(builder: Builder, maps: Tensor, windows: Windows, block: BoundBlock) -> str:
    """Emit a stochastic pool (Zeiler and Fergus 2013): a drawn value of each window, or the expected value."""
    positive = replace(maps, name=builder.op("Relu", maps.name))
    if block.word("mode") == "sample":
        return _draw(builder, positive, windows, block)
    square = replace(maps, name=builder.op("Mul", positive.name, positive.name))
    return _ratio(builder, maps, _sum(builder, square, windows, block), _sum(builder, positive, windows, block))


def _ratio(builder: Builder, tensor: Tensor, above: str, below: str) -> str:
    """Emit ``above / below``, and 0 where both are 0."""
    return builder.op("Div", above, builder.not_zero(below, tensor.dtype))


def _draw(builder: Builder, positive: Tensor, windows: Windows, block: BoundBlock) -> str:
    """Emit one value of each window, drawn with a probability in proportion to the value.

    With u uniform in [0, 1), it is the first value at which the cumulative sum exceeds u times the sum.
    """
    values = gather_windows(builder, positive, windows, block, 0.0)
    running = builder.op("CumSum", values, builder.constant(2, "int64"))
    total = builder.reduce("ReduceSum", values, [2], keepdims=True)
    u = noise.uniform(builder, total, block.integer("seed"), positive.dtype)
    passed = builder.op("Greater", running, builder.op("Mul", total, u))
    first = builder.op("ArgMax", builder.cast(passed, "int32"), axis=2, keepdims=1)
    value = builder.op("Squeeze", builder.op("GatherElements", values, first, axis=2), builder.constant([2], "int64"))
    # Comparisons with NaN are false, so a NaN would never be drawn; the sum contains it.
    sums = builder.op("Squeeze", total, builder.constant([2], "int64"))
    return builder.op("Where", builder.op("IsNaN", sums), sums, value)


def _mixed(builder: Builder, maps: Tensor, windows: Windows, block: BoundBlock) -> str:
    """Emit a weighted sum of the maximum and the mean of each window."""
    share = block.number("max_weight")
    if share in {0, 1}:  # infinity times 0 would be NaN
        return (_maximum if share else _average)(builder, maps, windows, block)
    strongest, mean = _maximum(builder, maps, windows, block), _average(builder, maps, windows, block)
    return builder.op(
        "Add",
        builder.op("Mul", strongest, builder.constant(share, maps.dtype)),
        builder.op("Mul", mean, builder.constant(1 - share, maps.dtype)),
    )


def _sorted(builder: Builder, maps: Tensor, windows: Windows, block: BoundBlock) -> str:
    """Emit a sum of each window's sorted values, weighted by the softmax of the scores."""
    scores = np.asarray(block.numbers("scores"))
    if len(scores) != windows.area:
        problem = f"{len(scores)} scores for a kernel of {windows.area} elements"
        raise misfit(block, maps, problem, f"{windows.area} scores")
    lowest = -np.inf
    values = gather_windows(builder, maps, windows, block, lowest)
    builder.count_operations(sorting(windows.pooled(maps, "").values * windows.area, windows.area))
    ordered, _ = builder.outputs("TopK", values, builder.constant([windows.area], "int64"), count=2, axis=2)
    held = windows.value_counts()
    rank = np.arange(windows.area)[:, None, None]
    weights = np.where(rank < held, np.exp(scores - scores.max())[:, None, None], 0.0)
    weights /= weights.sum(axis=0, keepdims=True)
    # Padding sorts last, where its weight is 0. It is replaced, because infinity times 0 would be NaN.
    if (held < windows.area).any():
        counts = builder.constant(rank < held, "bool")
        ordered = builder.op("Where", counts, ordered, builder.constant(0, maps.dtype))
    weighted = builder.op("Mul", ordered, builder.constant(weights, maps.dtype))
    summed = builder.reduce("ReduceSum", weighted, [2], keepdims=False)
    # ONNX does not define where a NaN sorts to; the maximum contains it.
    strongest = _maximum(builder, maps, windows, block)
    return builder.op("Where", builder.op("IsNaN", strongest), strongest, summed)


def _max_pool(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit a max pool, and record its input for max_unpool."""
    maps = as_nchw(builder, tensor, block)
    windows = windows_of(maps, block)
    pooled = windows.pooled(maps, _maximum(builder, maps, windows, block))
    undone = (*tensor.max_pools, (maps, tensor.layout, windows))
    return replace(back_to(tensor.layout, builder, pooled), max_pools=undone)


def _max_unpool(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit a scatter of the values to the positions of the maxima in the padded map, and slice the padding off."""
    if not tensor.max_pools:
        message = "max_unpool needs a max_pool before it in the same head, one for each max_unpool"
        raise ShapeMismatchError(message, block=block.name, got=tensor.shape_text, expected="a max_pool before it")
    maps, layout, windows = tensor.max_pools[-1]
    values = as_nchw(builder, tensor, block)
    expected = windows.pooled(maps, "").shape
    if values.shape[1:] != expected[1:]:
        shape = Tensor("", tensor.dtype, expected, Layout.NCHW).shape_text
        raise misfit(block, tensor, f"the result of the max_pool before it has shape {shape}", shape)
    padded = windows.pad(builder, replace(maps, name=builder.nan_as_largest(maps)), -np.inf)
    positions = windows.pool_indices(builder, padded, maps)
    shape = builder.op("Shape", padded)
    flat = builder.constant([-1], "int64")
    length = builder.op("Reshape", builder.reduce("ReduceProd", shape, [0], keepdims=False), flat)
    empty = builder.op("Expand", builder.constant(0, tensor.dtype), length)
    filled = builder.op(
        "ScatterElements",
        empty,
        builder.op("Reshape", positions, flat),
        builder.op("Reshape", values.name, flat),
        axis=0,
    )
    name = builder.op("Reshape", filled, shape)
    for axis, side in ((2, windows.height), (3, windows.width)):
        if (side.before or side.after or side.overhang) and isinstance(side.size, int):
            name = builder.slice(name, axis, side.before, side.before + side.size)
    return back_to(layout, builder, replace(maps, name=name, dtype=tensor.dtype))


def _bounds(size: int, output: int) -> list[tuple[int, int]]:
    """Return start and end of each adaptive window along one axis, as in ``torch.nn``."""
    return [(index * size // output, -(-(index + 1) * size // output)) for index in range(output)]


def _known_sides(maps: Tensor, block: BoundBlock) -> tuple[int, int]:
    """Return height and width; raise `ShapeMismatchError` if one is not known."""
    height, width = maps.shape[2:]
    if isinstance(height, str) or isinstance(width, str):
        raise misfit(block, maps, "it needs a known height and width", "a known size")
    return height, width


def _adaptive(builder: Builder, maps: Tensor, block: BoundBlock, output: tuple[int, int], *, maximum: bool) -> Tensor:
    """Emit an adaptive pool with results of height and width ``output``."""
    sides = _known_sides(maps, block)
    builder.count_operations(maps.values * ELEMENT * PASSES_ADAPTIVE)
    pool = _adaptive_max if maximum else _adaptive_average
    name = pool(builder, maps, sides, output)
    return replace(maps, name=name, shape=(*maps.shape[:2], *output))


def _adaptive_average(builder: Builder, maps: Tensor, sides: tuple[int, int], output: tuple[int, int]) -> str:
    """Emit the mean of each adaptive window."""
    return _by_sides(builder, maps.name, "ReduceMean", sides, output)


def _adaptive_max(builder: Builder, maps: Tensor, sides: tuple[int, int], output: tuple[int, int]) -> str:
    """Emit the maximum of each adaptive window."""
    return maximum_with_nan(builder, maps, lambda name: _by_sides(builder, name, "ReduceMax", sides, output))


def _by_sides(builder: Builder, name: str, op_type: str, sides: tuple[int, int], output: tuple[int, int]) -> str:
    """Emit a reduction of each window over its rows, and then over its columns."""
    for axis, size, count in zip((2, 3), sides, output, strict=True):
        parts = [builder.slice(name, axis, start, end) for start, end in _bounds(size, count)]
        name = builder.op(
            "Concat", *(builder.reduce(op_type, part, [axis], keepdims=True) for part in parts), axis=axis
        )
    return name


def _adaptive_pool(*, maximum: bool) -> Emitter:
    """Return the emitter of an adaptive maximum or average pool."""

    def emit(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
        maps = as_nchw(builder, tensor, block)
        pooled = _adaptive(builder, maps, block, block.sides("output"), maximum=maximum)
        return back_to(tensor.layout, builder, pooled)

    return emit


def _spatial_pyramid(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit adaptive pools with several sizes, flattened and concatenated (He et al. 2014)."""
    maps = as_nchw(builder, tensor, block)
    maximum = block.word("op") == "max"
    levels = block.integers("levels")
    pooled = [_adaptive(builder, maps, block, (level, level), maximum=maximum) for level in levels]
    name = builder.op("Concat", *(builder.op("Flatten", level.name) for level in pooled), axis=1)
    channels, positions = maps.shape[1], sum(level * level for level in levels)
    features: Dim = channels * positions if isinstance(channels, int) else f"{positions}·{channels}"
    return replace(maps, name=name, shape=(maps.shape[0], features), layout=Layout.VECTOR)


def _over_positions(pool: Callable[[Builder, Tensor, tuple[int, ...], BoundBlock], str]) -> Emitter:
    """Return the emitter of a pool over all spatial positions, N×C."""

    def emit(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
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
    power = block.number("p")
    largest = builder.largest_magnitude(tensor, axes)
    powered = _power(builder, builder.op("Div", tensor.name, largest), power, tensor.dtype)
    root = _power(builder, builder.reduce(reduction, powered, axes, keepdims=True), 1 / power, tensor.dtype)
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
    average = EMITTERS["gap"](builder, tensor, block)
    strongest = EMITTERS["gmp"](builder, tensor, block)
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
    "max_pool": _max_pool,
    "min_pool": _window_pool(_minimum),
    "average_pool": _window_pool(_average),
    "sum_pool": _window_pool(_sum),
    "lp_pool": _window_pool(_lp),
    "stochastic_pool": _window_pool(_stochastic),
    "mixed_pool": _window_pool(_mixed),
    "sort_pool": _window_pool(_sorted),
    "max_unpool": _max_unpool,
    "adaptive_average_pool": _adaptive_pool(maximum=False),
    "adaptive_max_pool": _adaptive_pool(maximum=True),
    "spatial_pyramid": _spatial_pyramid,
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
