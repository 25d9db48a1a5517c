"""Shape and selection blocks as ONNX nodes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from layertap.blocks import BoundBlock
from layertap.types import Array, Layout
from layertap_server.blocks.builder import (
    Builder,
    Emitter,
    check_numbers,
    maximum_with_nan,
    minimum_with_nan,
    misfit,
    require_channel_axis,
)
from layertap_server.blocks.channel_stats import emit_channel_stats
from layertap_server.blocks.layouts import as_nchw, back_to, drop_prefix, require_spatial_axes
from layertap_server.blocks.operations import RESIZE, sorting
from layertap_server.tensor import Dim, Tensor

_BY_RANK = {4: Layout.NCHW, 3: Layout.TOKENS, 2: Layout.VECTOR}
"""Layout that a result is assumed to have, by its number of axes."""
_PERMUTED: dict[tuple[Layout, tuple[int, ...]], Layout] = {
    (Layout.NCHW, (0, 2, 3, 1)): Layout.NHWC,
    (Layout.NHWC, (0, 3, 1, 2)): Layout.NCHW,
    (Layout.NCT, (0, 2, 1)): Layout.TOKENS,
    (Layout.TOKENS, (0, 2, 1)): Layout.NCT,
}
"""Layout after a permutation of axes, by layout and permutation."""


def _product(sizes: tuple[Dim, ...]) -> Dim:
    """Return the product of sizes, as a formula if one is symbolic."""
    known = [size for size in sizes if isinstance(size, int)]
    return math.prod(known) if len(known) == len(sizes) else "·".join(map(str, sizes))


def _flatten(builder: Builder, tensor: Tensor, _block: BoundBlock) -> Tensor:
    """Emit a flattening to N×features."""
    name = builder.op("Flatten", tensor.name, axis=1)
    return replace(tensor, name=name).with_shape(tensor.shape[0], _product(tensor.shape[1:]), layout=Layout.VECTOR)


def _transpose(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit a permutation of the axes after the batch."""
    perm = block.integers("perm")
    if sorted(perm) != list(range(tensor.rank)) or perm[0] != 0:
        expected = f"0 and then {', '.join(map(str, range(1, tensor.rank)))} in any order"
        raise misfit(
            block, tensor, f"perm {list(perm)} is not a permutation of its axes with the batch first", expected
        )
    layout = _PERMUTED.get((tensor.layout, perm), tensor.layout if perm == tuple(range(tensor.rank)) else Layout.OTHER)
    name = builder.op("Transpose", tensor.name, perm=list(perm))
    return replace(tensor, name=name).with_shape(*(tensor.shape[axis] for axis in perm), layout=layout)


def _reshape(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit a reshape of each image."""
    shape = block.integers("shape")
    count = _product(tensor.shape[1:])
    rest = math.prod(size for size in shape if size != -1)
    fits = shape.count(-1) <= 1 and 0 not in shape
    if fits and isinstance(count, int):
        fits = count % rest == 0 if -1 in shape else count == rest
    if not fits:
        raise misfit(block, tensor, f"{count} values an image do not make {list(shape)}", f"{count} values")
    name = builder.op("Reshape", tensor.name, builder.constant([0, *shape], "int64"))
    left: Dim = count // rest if isinstance(count, int) else "rest"
    sizes = [left if size == -1 else size for size in shape]
    layout = _BY_RANK.get(len(shape) + 1, Layout.OTHER)
    return replace(tensor, name=name).with_shape(tensor.shape[0], *sizes, layout=layout)


def _squeeze(builder: Builder, tensor: Tensor, _block: BoundBlock) -> Tensor:
    """Emit a removal of all axes of size 1 after the batch."""
    axes = [axis for axis in range(1, tensor.rank) if tensor.shape[axis] == 1]
    if not axes:
        return tensor
    kept = [size for axis, size in enumerate(tensor.shape) if axis not in axes]
    layout = _BY_RANK.get(len(kept), Layout.OTHER)
    name = builder.op("Squeeze", tensor.name, builder.constant(axes, "int64"))
    return replace(tensor, name=name).with_shape(*kept, layout=layout)


def _channels(tensor: Tensor, block: BoundBlock) -> int:
    """Return the number of channels; raise `ShapeMismatchError` if it is not known."""
    channels = tensor.shape[require_channel_axis(tensor, block)] if tensor.rank > 1 else "no"
    if isinstance(channels, str):
        raise misfit(block, tensor, "it needs a known number of channels", "a known size")
    return channels


def _select(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit a selection of channels by index."""
    chosen, channels = block.integers("channels"), _channels(tensor, block)
    if max(chosen) >= channels:
        raise misfit(block, tensor, f"there is no channel {max(chosen)}", f"0 to {channels - 1}")
    axis = tensor.channel_axis
    name = builder.op("Gather", tensor.name, builder.constant(list(chosen), "int64"), axis=axis)
    return tensor.with_axis(name, axis, len(chosen))


def _top_channels(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit the k channels of each image that are strongest by mean, maximum or norm."""
    k, channels = block.integer("k"), _channels(tensor, block)
    if k > channels:
        raise misfit(block, tensor, f"it cannot select {k} of {channels} channels", f"at most {channels}")
    axis, spatial_axes = tensor.channel_axis, tensor.spatial_axes
    strength = _strength(builder, tensor, block.word("by"), spatial_axes)
    strength = builder.nan_as_largest(replace(tensor, name=strength))
    builder.count_operations(sorting(channels, k))
    count = builder.constant([k], "int64")
    _, chosen = builder.outputs("TopK", strength, count, count=2, axis=axis, largest=1, sorted=1)
    if spatial_axes:
        sizes = builder.op("Shape", tensor.name)
        parts = [builder.slice(sizes, 0, 0, axis), count, builder.slice(sizes, 0, axis + 1, tensor.rank)]
        chosen = builder.op("Expand", chosen, builder.op("Concat", *parts, axis=0))
    return tensor.with_axis(builder.op("GatherElements", tensor.name, chosen, axis=axis), axis, k)


def _strength(builder: Builder, tensor: Tensor, by: str, spatial_axes: tuple[int, ...]) -> str:
    """Emit the value that channels are ranked by; the spatial axes keep size 1."""
    if not spatial_axes:
        return builder.op("Abs", tensor.name) if by == "l2" else tensor.name
    if by == "max":
        return maximum_with_nan(builder, tensor, lambda x: builder.reduce("ReduceMax", x, spatial_axes, keepdims=True))
    return builder.reduce({"mean": "ReduceMean", "l2": "ReduceL2"}[by], tensor.name, spatial_axes, keepdims=True)


def _crop(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit a crop of the map, centered unless the block gives a position."""
    maps = as_nchw(builder, tensor, block)
    for axis, side, start in ((2, "height", "top"), (3, "width", "left")):
        size, wanted = maps.shape[axis], block.integer(side)
        if isinstance(size, str):
            raise misfit(block, tensor, "it needs a known height and width", "a known size")
        first = (size - wanted) // 2 if block[start] is None else block.integer(start)
        if first < 0 or first + wanted > size:
            raise misfit(
                block, tensor, f"{side} {wanted} from {max(first, 0)} does not lie in {size}", f"within {size}"
            )
        maps = maps.with_axis(builder.slice(maps.name, axis, first, first + wanted), axis, wanted)
    return back_to(tensor.layout, builder, maps)


def _resize(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit an interpolation of the map to a height and width."""
    maps = as_nchw(builder, tensor, block)
    mode, sides = block.word("mode"), [block.integer("height"), block.integer("width")]
    if mode == "cubic":
        name = _resize_cubic(builder, maps, sides, block)
        return back_to(tensor.layout, builder, replace(maps, name=name, shape=(*maps.shape[:2], *sides)))
    made = maps.with_shape(*maps.shape[:2], *sides)
    builder.count_operations(RESIZE[mode] * made.values)
    leading = builder.slice(builder.op("Shape", maps.name), 0, 0, 2)
    sizes = builder.op("Concat", leading, builder.constant(sides, "int64"), axis=0)
    name = builder.op(
        "Resize",
        maps.name,
        "",
        "",
        sizes,
        mode=mode,
        coordinate_transformation_mode="asymmetric" if mode == "nearest" else "half_pixel",
        nearest_mode="floor" if mode == "nearest" else None,
    )
    return back_to(tensor.layout, builder, replace(made, name=name))


def _resize_cubic(builder: Builder, maps: Tensor, sides: list[int], block: BoundBlock) -> str:
    """Emit a cubic interpolation as two matrix products, because onnxruntime's Resize does not take all sizes.

    Raises:
        ShapeMismatchError: Height or width is not known.
    """
    height, width = maps.shape[2:]
    if isinstance(height, str) or isinstance(width, str):
        raise misfit(block, maps, "cubic needs a known height and width", "a known size")
    check_numbers(max(height * sides[0], width * sides[1]), "the interpolation")
    rows, columns = _cubic_matrix(height, sides[0]), _cubic_matrix(width, sides[1])
    channels = maps.with_shape(*maps.shape[:2]).values
    builder.count_operations(channels * sides[0] * width * (height + sides[1]))
    by_rows = builder.op("MatMul", builder.constant(rows, maps.dtype), maps.name)
    return builder.op("MatMul", by_rows, builder.constant(columns.T, maps.dtype))


def _cubic_matrix(size: int, output: int) -> Array:
    """Return weights of cubic convolution (Keys 1981, a = -0.75), output×size, by pixel centers, borders repeated."""
    a = -0.75
    position = (np.arange(output) + 0.5) * size / output - 0.5
    matrix = np.zeros((output, size))
    for offset in range(-1, 3):
        source = np.floor(position).astype(int) + offset
        distance = np.abs(position - source)
        near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
        far = ((distance - 5) * distance + 8) * distance * a - 4 * a
        weight = np.where(distance <= 1, near, far)
        np.add.at(matrix, (np.arange(output), np.clip(source, 0, size - 1)), weight)
    return matrix


def _gram(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit the Gram matrix of the channels over all spatial positions, N×C×C (Gatys et al. 2016)."""
    tensor = drop_prefix(builder, tensor)
    spatial_axes = require_spatial_axes(tensor, block)
    maps = as_nchw(builder, tensor, block) if tensor.layout is Layout.NHWC else tensor
    if maps.layout is Layout.TOKENS:
        features = builder.op("Transpose", maps.name, perm=[0, 2, 1])
    else:
        features = builder.op("Reshape", maps.name, builder.constant([0, 0, -1], "int64"))
    channels = tensor.shape[tensor.channel_axis]
    builder.count_operations(tensor.values * (channels if isinstance(channels, int) else 1))
    product = builder.op("MatMul", features, builder.op("Transpose", features, perm=[0, 2, 1]))
    name = builder.op("Div", product, builder.count(tensor, spatial_axes))
    return replace(tensor, name=name).with_shape(tensor.shape[0], channels, channels, layout=Layout.OTHER)


def _stats(builder: Builder, tensor: Tensor, _block: BoundBlock) -> Tensor:
    """Emit minimum, maximum, mean, standard deviation, fraction of zeros and norm of each image, N×6."""
    flat = _flatten(builder, tensor, _block)

    def over(op_type: str, name: str) -> str:
        return builder.reduce(op_type, name, [1], keepdims=True)

    largest = maximum_with_nan(builder, flat, lambda x: over("ReduceMax", x))
    smallest = minimum_with_nan(builder, flat, lambda x: over("ReduceMax", x))
    mean = over("ReduceMean", flat.name)
    centred = builder.op("Sub", flat.name, mean)
    deviation = builder.op("Sqrt", over("ReduceMean", builder.op("Mul", centred, centred)))
    is_zero = builder.cast(builder.op("Equal", flat.name, builder.constant(0, flat.dtype)), flat.dtype)
    parts = [smallest, largest, mean, deviation, over("ReduceMean", is_zero), over("ReduceL2", flat.name)]
    return flat.with_axis(builder.op("Concat", *parts, axis=1), 1, len(parts))


def _cast(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit a cast to the block's dtype."""
    dtype = block.word("dtype")
    name = tensor.name
    if not dtype.startswith("float") and tensor.dtype != "bool":
        name = _clip_to_range(builder, tensor, dtype)
    return replace(tensor, name=builder.cast(name, dtype), dtype=dtype)


def _clip_to_range(builder: Builder, tensor: Tensor, dtype: str) -> str:
    """Emit the values clipped to the range of an integer dtype; ONNX does not define a cast from outside the range."""
    limits = np.iinfo(dtype)
    if not tensor.dtype.startswith("float"):
        own = np.iinfo(tensor.dtype)
        low, high = max(limits.min, own.min), min(limits.max, own.max)
        bounds = [builder.constant(np.asarray(bound, tensor.dtype), tensor.dtype) for bound in (low, high)]
        return builder.op("Clip", tensor.name, *bounds)
    # Clip in float64, which is exact up to 2⁵³. The maximum of int64 would round up, so the next lower number is used.
    highest = float(limits.max) if int(float(limits.max)) <= limits.max else float(np.nextafter(float(limits.max), 0))
    bounds = [builder.constant(bound, "float64") for bound in (float(limits.min), highest)]
    return builder.op("Clip", builder.cast(tensor.name, "float64"), *bounds)


def _quantize(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit 8-bit values with scale and zero point for each image, or for each image and channel."""
    dtype, f32 = block.word("dtype"), "float32"
    kept = {0, require_channel_axis(tensor, block)} if block.word("per") == "channel" else {0}
    axes = [axis for axis in range(tensor.rank) if axis not in kept]
    x = tensor.name if tensor.dtype == f32 else builder.cast(tensor.name, f32)

    def over(op_type: str, name: str) -> str:
        return builder.reduce(op_type, name, axes, keepdims=True) if axes else name

    zero, most = builder.constant(0, f32), builder.constant(255, f32)
    low = builder.op("Div", builder.op("Min", over("ReduceMin", x), zero), most)
    high = builder.op("Div", builder.op("Max", over("ReduceMax", x), zero), most)
    # A NaN makes the scale NaN and so all dequantized values, because bytes cannot represent it.
    has_nan = builder.op("Greater", over("ReduceMax", builder.cast(builder.op("IsNaN", x), f32)), zero)
    finite = builder.not_zero(builder.op("Sub", high, low), f32)
    scale = builder.op("Where", has_nan, builder.constant(np.nan, f32), finite)
    limits = np.iinfo(dtype)
    bounds = [builder.constant(float(limit), f32) for limit in (limits.min, limits.max)]
    first = builder.op("Round", builder.op("Sub", bounds[0], builder.op("Div", builder.op("Mul", low, most), scale)))
    zero_point = builder.op("Clip", first, *bounds)
    steps = builder.op("Add", builder.op("Round", builder.op("Div", x, scale)), zero_point)
    held = builder.op("Clip", steps, *bounds)
    known = builder.op("Where", builder.op("IsNaN", held), zero, held)
    known_zero = builder.op("Where", builder.op("IsNaN", zero_point), zero, zero_point)
    return replace(
        tensor,
        name=builder.cast(known, dtype),
        dtype=dtype,
        quantization=(scale, builder.cast(known_zero, "int64")),
    )


EMITTERS: dict[str, Emitter] = {
    "flatten": _flatten,
    "transpose": _transpose,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "select": _select,
    "top_channels": _top_channels,
    "crop": _crop,
    "resize": _resize,
    "gram": _gram,
    "stats": _stats,
    "channel_stats": emit_channel_stats,
    "cast": _cast,
    "quantize": _quantize,
}
"""Emitters by block name."""
