"""Normalization blocks as ONNX nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from layertap.blocks import BoundBlock
from layertap.errors import ShapeMismatchError
from layertap.types import Array
from layertap_server.blocks.builder import Builder, Emitter, channel_values, maximum_with_nan, require_channel_axis
from layertap_server.blocks.layouts import as_nchw, back_to, require_spatial_axes
from layertap_server.blocks.operations import multiply, window
from layertap_server.tensor import Tensor


@dataclass(frozen=True, slots=True)
class Moments:
    """Names of the tensors that hold the deviations from the mean and the variance of a tensor over some axes."""

    centred: str
    """The tensor minus its mean."""
    variance: str
    """The variance; the axes keep size 1."""


def _moments(builder: Builder, tensor: Tensor, axes: Sequence[int], *, ddof: int = 0) -> Moments:
    """Emit the moments of a tensor over axes; the divisor of the variance is the number of values minus ``ddof``."""
    centred = builder.op("Sub", tensor.name, _mean(builder, tensor, axes))
    square = builder.op("Mul", centred, centred)
    if ddof == 0:
        return Moments(centred, builder.reduce("ReduceMean", square, axes, keepdims=True))
    total = builder.reduce("ReduceSum", square, axes, keepdims=True)
    return Moments(centred, builder.op("Div", total, builder.count(tensor, axes, less=ddof)))


def _mean(builder: Builder, tensor: Tensor, axes: Sequence[int]) -> str:
    """Emit the mean over axes, exact where all values are equal: a rounding error there would be normalized to 1."""
    largest = builder.reduce("ReduceMax", tensor.name, axes, keepdims=True)
    smallest = builder.reduce("ReduceMin", tensor.name, axes, keepdims=True)
    mean = builder.reduce("ReduceMean", tensor.name, axes, keepdims=True)
    return builder.op("Where", builder.op("Equal", largest, smallest), largest, mean)


def _standardize(builder: Builder, tensor: Tensor, axes: Sequence[int], eps: float) -> str:
    """Emit ``(x - mean) / sqrt(variance + eps)`` over axes."""
    moments = _moments(builder, tensor, axes)
    return builder.op("Div", moments.centred, _deviation(builder, moments.variance, eps, tensor.dtype))


def _deviation(builder: Builder, variance: str, eps: float, dtype: str) -> str:
    """Emit ``sqrt(variance + eps)``."""
    return builder.op("Sqrt", builder.op("Add", variance, builder.smallest(eps, dtype)))


def _affine(builder: Builder, tensor: Tensor, name: str, block: BoundBlock) -> Tensor:
    """Emit ``scale·x + bias`` with the block's parameters for each channel."""
    if any(value != 1 for value in block.numbers("scale")):
        name = builder.op("Mul", name, builder.per_channel(block, "scale", tensor))
    if any(block.numbers("bias")):
        name = builder.op("Add", name, builder.per_channel(block, "bias", tensor))
    return replace(tensor, name=name)


def _batch_norm(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit a batch normalization, by given statistics or by those of the batch."""
    if block.word("stats") == "batch":
        name = _standardize(builder, tensor, (0, *tensor.spatial_axes), block.number("eps"))
        return _affine(builder, tensor, name, block)
    channels = tensor.shape[tensor.channel_axis]
    if tensor.channel_axis == 1 and isinstance(channels, int):
        return replace(tensor, name=_one_batch_norm(builder, tensor, block, channels))
    centred = builder.op("Sub", tensor.name, builder.per_channel(block, "mean", tensor))
    variance = builder.per_channel(block, "variance", tensor)
    deviation = _deviation(builder, variance, block.number("eps"), tensor.dtype)
    return _affine(builder, tensor, builder.op("Div", centred, deviation), block)


def _one_batch_norm(builder: Builder, tensor: Tensor, block: BoundBlock, channels: int) -> str:
    """Emit one BatchNormalization, which the runtime can fold into the convolution before it."""
    numbers = []
    for parameter in ("scale", "bias", "mean", "variance"):
        values = channel_values(block, parameter, tensor)
        numbers.append(builder.weight(parameter, np.broadcast_to(values, (channels,)), tensor.dtype))
    eps = max(block.number("eps"), float(np.finfo(tensor.dtype).smallest_normal))
    return builder.op("BatchNormalization", tensor.name, *numbers, epsilon=eps)


def _instance_norm(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit a standardization of each channel over its spatial positions."""
    name = _standardize(builder, tensor, require_spatial_axes(tensor, block), block.number("eps"))
    return _affine(builder, tensor, name, block)


def _axes(tensor: Tensor, block: BoundBlock) -> list[int]:
    """Return the indices in this tensor of the block's axes; axes up to 3 that the tensor does not have are left out.

    Raises:
        ShapeMismatchError: The tensor has none of the axes.
    """
    logical = [axis for axis in block.integers("axes") if axis < tensor.rank or axis > 3]  # noqa: PLR2004 - C, H, W
    if not logical:
        raise ShapeMismatchError(
            f"{block.name}: none of the axes {list(block.integers('axes'))} exists; {tensor.describe()}",
            block=block.name,
            got=tensor.shape_text,
        )
    return sorted({tensor.axis(axis) if axis else 0 for axis in logical})


def _layer_norm(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit a standardization over the block's axes."""
    name = _standardize(builder, tensor, _axes(tensor, block), block.number("eps"))
    return _affine(builder, tensor, name, block)


def _rms_norm(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit a division by the root mean square over the block's axes (Zhang and Sennrich 2019)."""
    square = builder.op("Mul", tensor.name, tensor.name)
    mean = builder.reduce("ReduceMean", square, _axes(tensor, block), keepdims=True)
    name = builder.op("Div", tensor.name, _deviation(builder, mean, block.number("eps"), tensor.dtype))
    return _affine(builder, tensor, name, block)


def _mean_variance(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit a standardization over the block's axes, without scale and bias."""
    return replace(tensor, name=_standardize(builder, tensor, _axes(tensor, block), block.number("eps")))


def _group_norm(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit a standardization of each group of channels, over its channels and all spatial positions."""
    axis, groups = require_channel_axis(tensor, block), block.integer("groups")
    channels = tensor.shape[axis]
    if not isinstance(channels, int) or channels % groups:
        message = f"group_norm: {channels} channels do not make {groups} groups; {tensor.describe()}"
        raise ShapeMismatchError(message, block=block.name, got=tensor.shape_text, expected=f"a multiple of {groups}")
    shape = builder.op("Shape", tensor.name)
    parts = [
        builder.slice(shape, 0, 0, axis),
        builder.constant([groups, channels // groups], "int64"),
        builder.slice(shape, 0, axis + 1, tensor.rank),
    ]
    grouped = builder.op("Reshape", tensor.name, builder.op("Concat", *parts, axis=0))
    sizes = (*tensor.shape[:axis], groups, channels // groups, *tensor.shape[axis + 1 :])
    together = [index for index in range(1, len(sizes)) if index != axis]
    split = replace(tensor, name=grouped, shape=sizes)
    name = builder.op("Reshape", _standardize(builder, split, together, block.number("eps")), shape)
    return _affine(builder, tensor, name, block)


def _lrn(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit a local response normalization, with an average pool along the channels: ONNX's LRN takes odd sizes only."""
    maps = as_nchw(builder, tensor, block)
    size, dtype = block.integer("size"), maps.dtype
    columns = builder.op("Reshape", builder.op("Mul", maps.name, maps.name), _as_columns(builder, maps))
    pads = builder.constant([0, 0, (size - 1) // 2, 0, 0, 0, size // 2, 0], "int64")
    padded = builder.op("Pad", columns, pads, builder.constant(0, dtype))
    builder.count_operations(maps.values * window([size]))
    energy = builder.op("AveragePool", padded, kernel_shape=[size, 1], strides=[1, 1])
    weighted = builder.op("Mul", energy, builder.constant(block.number("alpha"), dtype))
    level = builder.op("Add", weighted, builder.constant(block.number("k"), dtype))
    divisor = builder.op("Pow", level, builder.constant(block.number("beta"), dtype))
    divisor = builder.not_zero(builder.op("Reshape", divisor, builder.op("Shape", maps.name)), dtype)
    return back_to(tensor.layout, builder, replace(maps, name=builder.op("Div", maps.name, divisor)))


def _as_columns(builder: Builder, maps: Tensor) -> str:
    """Emit the shape N×1×C×(H·W), in which a pool works along the channels."""
    shape = builder.op("Shape", maps.name)
    one, rest = builder.constant([1], "int64"), builder.constant([-1], "int64")
    return builder.op("Concat", builder.slice(shape, 0, 0, 1), one, builder.slice(shape, 0, 1, 2), rest, axis=0)


def _blur(builder: Builder, plane: str, kernel: Array, maps: Tensor) -> str:
    """Emit a plane N×1×H×W convolved with a kernel; at borders, the kernel is renormalized over the pixels inside."""
    dtype = maps.dtype
    builder.count_operations(multiply(2 * maps.with_axis("", 1, 1).values * kernel.size, 1))
    weights = builder.constant(kernel[None, None], dtype)
    before, after = (kernel.shape[0] - 1) // 2, kernel.shape[0] // 2
    pads = [before, before, after, after]
    total = builder.op("Conv", plane, weights, pads=pads)
    sides = builder.op("Concat", builder.constant([1, 1], "int64"), builder.op("Shape", plane, start=2), axis=0)
    ones = builder.op("Expand", builder.constant(1, dtype), sides)
    return builder.op("Div", total, builder.op("Conv", ones, weights, pads=pads))


def _gaussian(size: int, sigma: float) -> Array:
    """Return a Gaussian kernel, size×size, whose values sum to 1."""
    positions = np.arange(size) - (size - 1) / 2
    profile = np.exp(-(positions**2) / (2 * sigma**2))
    return np.asarray(np.outer(profile, profile) / profile.sum() ** 2)


def _lcn(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit a local contrast normalization (Jarrett et al. 2009)."""
    maps = as_nchw(builder, tensor, block)
    size = block.integer("size")
    sigma = size / 4 if block["sigma"] is None else block.number("sigma")
    kernel = _gaussian(size, sigma)
    # A mean over the channels and then a Gaussian equal weights that sum to 1 over the window and all channels.
    plane = builder.reduce("ReduceMean", maps.name, [1], keepdims=True)
    surroundings = _blur(builder, plane, kernel, maps)
    difference = builder.op("Sub", maps.name, surroundings)
    # Differences of the size of rounding errors are set to 0, since they are not contrast.
    rounding = builder.constant(16 * float(np.finfo(maps.dtype).eps), maps.dtype)
    noise = builder.op("Mul", builder.op("Abs", surroundings), rounding)
    is_noise = builder.op("LessOrEqual", builder.op("Abs", difference), noise)
    difference = builder.op("Where", is_noise, builder.constant(0, maps.dtype), difference)
    square = builder.op("Mul", difference, difference)
    energy = builder.reduce("ReduceMean", square, [1], keepdims=True)
    local = builder.op("Sqrt", _blur(builder, energy, kernel, maps))
    typical = builder.reduce("ReduceMean", local, [1, 2, 3], keepdims=True)
    divisor = builder.not_zero(builder.op("Max", local, typical), maps.dtype)
    return back_to(tensor.layout, builder, replace(maps, name=builder.op("Div", difference, divisor)))


def _divisive_norm(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit a division by the mean absolute activity in the neighborhood."""
    maps = as_nchw(builder, tensor, block)
    size = block.integer("size")
    plane = builder.reduce("ReduceMean", builder.op("Abs", maps.name), [1], keepdims=True)
    activity = _blur(builder, plane, np.full((size, size), 1 / size**2), maps)
    level = builder.op("Add", activity, builder.constant(block.number("sigma"), maps.dtype))
    divisor = builder.not_zero(level, maps.dtype)
    return back_to(tensor.layout, builder, replace(maps, name=builder.op("Div", maps.name, divisor)))


def _scope_axes(tensor: Tensor, block: BoundBlock) -> Sequence[int]:
    """Return the axes that the block's ``scope`` covers."""
    match block.word("scope"):
        case "channel":
            return require_spatial_axes(tensor, block)
        case "batch":
            return (0, *tensor.spatial_axes)
        case "column":
            return (0,)
    return range(1, tensor.rank)


def _min_max(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit a linear mapping of the range of the values to ``low`` to ``high``."""
    axes = _scope_axes(tensor, block)

    def largest(x: str) -> str:
        return builder.reduce("ReduceMax", x, axes, keepdims=True)

    high = maximum_with_nan(builder, tensor, largest)
    low = builder.op("Neg", largest(builder.op("Neg", tensor.name)))
    extent = builder.op("Sub", high, low)
    share = builder.op("Div", builder.op("Sub", tensor.name, low), builder.not_zero(extent, tensor.dtype))
    width = builder.constant(block.number("high") - block.number("low"), tensor.dtype)
    stretched = builder.op("Mul", share, width)
    return replace(tensor, name=builder.op("Add", stretched, builder.constant(block.number("low"), tensor.dtype)))


def _z_score(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit a division of the centered values by their standard deviation."""
    moments = _moments(builder, tensor, _scope_axes(tensor, block), ddof=block.integer("ddof"))
    deviation = builder.op("Sqrt", moments.variance)
    divisor = builder.op("Max", deviation, builder.smallest(block.number("eps"), tensor.dtype))
    return replace(tensor, name=builder.op("Div", moments.centred, divisor))


def _unit_length(reduction: str) -> Emitter:
    """Return the emitter of a block that divides by a norm along an axis."""

    def emit(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
        axes = [tensor.axis(block.integer("axis"))]
        # Divide by the largest value first, because squares of large values would overflow.
        largest = builder.largest_magnitude(tensor, axes)
        parts = builder.op("Div", tensor.name, largest)
        length = builder.reduce(reduction, parts, axes, keepdims=True)
        eps = builder.op("Div", builder.smallest(block.number("eps"), tensor.dtype), largest)
        return replace(tensor, name=builder.op("Div", parts, builder.op("Max", length, eps)))

    return emit


def _signed_sqrt(builder: Builder, tensor: Tensor, _block: BoundBlock) -> Tensor:
    """Emit ``sign(x) * sqrt(abs(x))``."""
    root = builder.op("Sqrt", builder.op("Abs", tensor.name))
    return replace(tensor, name=builder.op("Mul", builder.op("Sign", tensor.name), root))


EMITTERS: dict[str, Emitter] = {
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "rms_norm": _rms_norm,
    "lrn": _lrn,
    "lcn": _lcn,
    "divisive_norm": _divisive_norm,
    "min_max": _min_max,
    "z_score": _z_score,
    "l1": _unit_length("ReduceL1"),
    "l2": _unit_length("ReduceL2"),
    "mean_variance": _mean_variance,
    "signed_sqrt": _signed_sqrt,
}
"""Emitters by block name."""
