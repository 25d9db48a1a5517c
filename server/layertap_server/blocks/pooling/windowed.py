"""Pools of windows of a fixed size, and their inverse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from layertap.blocks import BoundBlock
from layertap.errors import ShapeMismatchError
from layertap.types import Array, Layout
from layertap_server.blocks import noise
from layertap_server.blocks.builder import Builder, Emitter, maximum_with_nan, misfit
from layertap_server.blocks.layouts import as_nchw, back_to, check_one_number, line_as_map, map_as_line
from layertap_server.blocks.operations import sorting
from layertap_server.blocks.pooling.volumes import VolumeWindows, in_two_passes, volume_windows_of
from layertap_server.blocks.powers import power
from layertap_server.blocks.windows import Windows, gather_windows, window_mean, windows_of
from layertap_server.tensor import Tensor

AnyWindows: TypeAlias = Windows | VolumeWindows
"""Windows over maps or over volumes."""
WindowPool: TypeAlias = Callable[[Builder, Tensor, AnyWindows, BoundBlock], str]
"""Function that emits one value for each window and returns the name of the result."""


def _in_passes(pool: Callable[[Builder, Tensor, Windows, BoundBlock], str]) -> WindowPool:
    """Return a pool of maps as one that also takes volumes, in two passes."""

    def emit(builder: Builder, maps: Tensor, windows: AnyWindows, block: BoundBlock) -> str:
        if isinstance(windows, VolumeWindows):
            return in_two_passes(pool, builder, maps, windows, block)
        return pool(builder, maps, windows, block)

    return emit


def _of_maps(maps: Tensor, windows: AnyWindows, block: BoundBlock) -> Windows:
    """Return the windows of a pool that does not take volumes.

    Raises:
        ShapeMismatchError: The windows are those of volumes.
    """
    if isinstance(windows, VolumeWindows):
        raise misfit(block, maps, "this pool does not take volumes", "a map or a series")
    return windows


def _window_pool(pool: WindowPool) -> Emitter:
    """Return the emitter of a pool that returns one value for each window."""

    def emit(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
        if tensor.layout in {Layout.NCT, Layout.NCDHW}:
            check_one_number(tensor, block, "kernel", "stride", "dilation", "padding")
        if tensor.layout is Layout.NCDHW:
            boxes = volume_windows_of(tensor, block)
            return boxes.pooled(tensor, pool(builder, tensor, boxes, block))
        if tensor.layout is Layout.NCT:
            line = line_as_map(builder, tensor)
            windows = windows_of(line, block, slides=(False, True))
            return map_as_line(builder, windows.pooled(line, pool(builder, line, windows, block)))
        maps = as_nchw(builder, tensor, block)
        windows = windows_of(maps, block)
        return back_to(tensor.layout, builder, windows.pooled(maps, pool(builder, maps, windows, block)))

    return emit


@_in_passes
def _maximum(builder: Builder, maps: Tensor, windows: Windows, _block: BoundBlock) -> str:
    """Emit the maximum of each window."""

    def maximum(name: str) -> str:
        return windows.pool(builder, "MaxPool", windows.pad(builder, replace(maps, name=name), -np.inf), maps)

    return maximum_with_nan(builder, maps, maximum)


def _minimum(builder: Builder, maps: Tensor, windows: AnyWindows, block: BoundBlock) -> str:
    """Emit the minimum of each window."""
    negated = replace(maps, name=builder.op("Neg", maps.name))
    return builder.op("Neg", _maximum(builder, negated, windows, block))


@_in_passes
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


@_in_passes
def _sum(builder: Builder, maps: Tensor, windows: Windows, block: BoundBlock) -> str:
    """Emit the sum of each window."""
    mean = window_mean(builder, maps, windows, block)
    return builder.op("Mul", mean, builder.constant(windows.area, maps.dtype))


def _lp(builder: Builder, maps: Tensor, windows: AnyWindows, block: BoundBlock) -> str:
    """Emit the p-norm of each window."""
    powered = replace(maps, name=power(builder, builder.op("Abs", maps.name), block.number("p"), maps.dtype))
    return power(builder, _sum(builder, powered, windows, block), 1 / block.number("p"), maps.dtype)


def _stochastic(builder: Builder, maps: Tensor, windows: AnyWindows, block: BoundBlock) -> str:
    """Emit a stochastic pool (Zeiler and Fergus 2013): a drawn value of each window, or the expected value."""
    positive = replace(maps, name=builder.op("Relu", maps.name))
    if block.word("mode") == "sample":
        return _draw(builder, positive, _of_maps(maps, windows, block), block)
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


def _mixed(builder: Builder, maps: Tensor, windows: AnyWindows, block: BoundBlock) -> str:
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


def _sorted(builder: Builder, maps: Tensor, any_windows: AnyWindows, block: BoundBlock) -> str:
    """Emit a sum of each window's sorted values, weighted by the softmax of the scores."""
    windows = _of_maps(maps, any_windows, block)
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
    """Emit a max pool, and record its input for max_unpool if it is a map."""
    if tensor.layout in {Layout.NCT, Layout.NCDHW}:
        return _window_pool(_maximum)(builder, tensor, block)
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
}
"""Emitters by block name."""
