"""Convolution and linear blocks as ONNX nodes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from layertap.blocks import BoundBlock
from layertap.errors import BadParameterError, ShapeMismatchError
from layertap.types import Array, Layout
from layertap_server.blocks.builder import Builder, Emitter, misfit
from layertap_server.blocks.filters import FilterShape, initial_weights
from layertap_server.blocks.layouts import as_nchw, back_to
from layertap_server.blocks.operations import VECTOR, multiply, multiply_transposed
from layertap_server.blocks.windows import Side, side_of
from layertap_server.tensor import Dim, Tensor


def _conv(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit a convolution."""
    return _convolve(builder, tensor, block, out=block.integer("out"), groups=block.integer("groups"))


def _depthwise_conv(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit a convolution with one group per channel."""
    channels = _channels(tensor, block)
    return _convolve(builder, tensor, block, out=channels * block.integer("multiplier"), groups=channels)


def _convolve(builder: Builder, tensor: Tensor, block: BoundBlock, *, out: int, groups: int) -> Tensor:
    """Emit a Conv with ``out`` filters in ``groups`` groups."""
    maps = as_nchw(builder, tensor, block)
    shape = _filter_shape(maps, block, out, groups)
    sizes = [_output(maps, block, side) for side in range(2)]
    made = maps.with_shape(maps.shape[0], out, *sizes)
    builder.count_operations(multiply(made.values * shape.inputs * shape.height * shape.width, out // groups))
    weight = _weight(builder, maps, block, shape, (out, shape.inputs, shape.height, shape.width))
    name = builder.op(
        "Conv",
        maps.name,
        weight,
        *_bias(builder, block, out, maps.dtype),
        **_geometry(maps, block),
        group=groups,
    )
    return back_to(tensor.layout, builder, replace(made, name=name))


def _channels(tensor: Tensor, block: BoundBlock) -> int:
    """Return the number of channels; raise `ShapeMismatchError` if it is not known."""
    channels = tensor.shape[tensor.channel_axis]
    if isinstance(channels, str):
        raise misfit(block, tensor, "it needs a known number of channels", "a known size")
    return channels


def _filter_shape(maps: Tensor, block: BoundBlock, out: int, groups: int) -> FilterShape:
    """Return the shape of the filters; raise `ShapeMismatchError` if channels or filters do not divide into groups."""
    channels = _channels(maps, block)
    if channels % groups or out % groups:
        problem = f"{channels} channels and {out} filters do not make {groups} groups"
        raise misfit(block, maps, problem, f"multiples of {groups}")
    return FilterShape(out, groups, channels // groups, *block.sides("kernel"))


def _geometry(maps: Tensor, block: BoundBlock) -> dict[str, Any]:
    """Return the attributes of a Conv. If a size is not known, ``same`` is left to the operator's ``auto_pad``."""
    strides, dilations = block.sides("stride"), block.sides("dilation")
    geometry: dict[str, Any] = {"kernel_shape": block.sides("kernel"), "strides": strides, "dilations": dilations}
    if any(isinstance(size, str) for size in maps.shape[2:]) and isinstance(block["padding"], str):
        if block["padding"] == "valid":
            return geometry
        if dilations != (1, 1):
            raise misfit(block, maps, "dilation with padding needs a known height and width", "a known size")
        return {**geometry, "auto_pad": "SAME_UPPER" if block["padding"] == "same" else "SAME_LOWER"}
    if isinstance(block["padding"], tuple):
        return {**geometry, "pads": block["padding"]}
    sides = [_side(maps, block, side) for side in range(2)]
    return {**geometry, "pads": [side.before for side in sides] + [side.after for side in sides]}


def _side(maps: Tensor, block: BoundBlock, side: int) -> Side:
    """Return the window geometry along the height (side 0) or the width (side 1)."""
    return side_of(
        maps, block, side, block.sides("kernel")[side], block.sides("stride")[side], block.sides("dilation")[side]
    )


def _output(maps: Tensor, block: BoundBlock, side: int) -> Dim:
    """Return the height (side 0) or width (side 1) of the result, as a formula if the size is symbolic."""
    size, stride = maps.shape[2 + side], block.sides("stride")[side]
    if isinstance(size, int):
        return _side(maps, block, side).output
    padding, span = block["padding"], _span(block, side)
    padded = int(padding[side]) + int(padding[side + 2]) if isinstance(padding, tuple) else 0  # type: ignore[arg-type]
    if isinstance(padding, str) and padding != "valid":
        return size if stride == 1 else f"ceil({size}/{stride})"
    lost = span - 1 - padded
    if stride == 1:
        return f"{size}-{lost}" if lost else size
    return f"({size}-{lost + 1})/{stride}+1"


def _transposed_conv(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit a ConvTranspose."""
    maps = as_nchw(builder, tensor, block)
    out, groups = block.integer("out"), block.integer("groups")
    shape = _filter_shape(maps, block, out, groups)
    channels = shape.inputs * groups
    turned = FilterShape(channels, groups, out // groups, shape.height, shape.width)
    weight = _weight(builder, maps, block, turned, (channels, turned.inputs, shape.height, shape.width))
    crops = [_crop(block, side) for side in range(2)]
    name = builder.op(
        "ConvTranspose",
        maps.name,
        weight,
        *_bias(builder, block, out, maps.dtype),
        kernel_shape=block.sides("kernel"),
        strides=block.sides("stride"),
        dilations=block.sides("dilation"),
        group=groups,
        pads=[max(before, 0) for before, _ in crops] + [max(after, 0) for _, after in crops],
        output_padding=[max(-after, 0) for _, after in crops],
    )
    sizes: list[Dim] = []
    for side, (before, after) in enumerate(crops):
        size, stride, span = maps.shape[2 + side], block.sides("stride")[side], _span(block, side)
        full = (size - 1) * stride + span - before - after if isinstance(size, int) else f"{size}*{stride}"
        if isinstance(full, int) and full < 1:
            raise misfit(block, maps, "the padding removes the whole result", "less padding")
        sizes.append(full)
    made = replace(maps, name=name, shape=(maps.shape[0], out, *sizes))
    area = shape.height * shape.width
    columns = maps.with_axis("", 1, out).values * area
    builder.count_operations(multiply_transposed(maps.values * (out // groups) * area, columns, made.values))
    return back_to(tensor.layout, builder, made)


def _span(block: BoundBlock, side: int) -> int:
    """Return the height (side 0) or width (side 1) of the dilated kernel."""
    return block.sides("dilation")[side] * (block.sides("kernel")[side] - 1) + 1


def _crop(block: BoundBlock, side: int) -> tuple[int, int]:
    """Return the number of values that are cut off at the start and the end of a side.

    With ``same`` the result has size·stride values. A negative number at the end adds zeros.
    """
    padding = block["padding"]
    if isinstance(padding, tuple):
        return int(padding[side]), int(padding[side + 2])  # type: ignore[arg-type]
    if padding == "valid":
        return 0, 0
    total = _span(block, side) - block.sides("stride")[side]
    if total < 0:
        return 0, total
    small, large = total // 2, total - total // 2
    return (small, large) if padding == "same" else (large, small)


def _linear(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit a matrix product of a vector, or of each token, with the weight."""
    if tensor.layout not in {Layout.VECTOR, Layout.TOKENS}:
        problem = "it needs a vector or tokens; put flatten or gap before it, or use conv(out, 1) for each position"
        raise misfit(block, tensor, problem, "[N, C] or [N, T, C]")
    out, channels = block.integer("out"), _channels(tensor, block)
    builder.count_operations(tensor.values * out * (VECTOR if tensor.layout is Layout.VECTOR else 1))
    weight = _weight(builder, tensor, block, FilterShape(out, 1, channels), (out, channels))
    bias = _bias(builder, block, out, tensor.dtype)
    if tensor.layout is Layout.VECTOR:
        name = builder.op("Gemm", tensor.name, weight, *bias, transB=1)
    else:
        name = builder.op("MatMul", tensor.name, builder.op("Transpose", weight, perm=[1, 0]))
        name = builder.op("Add", name, *bias) if bias else name
    return tensor.with_axis(name, tensor.channel_axis, out)


def _weight(builder: Builder, tensor: Tensor, block: BoundBlock, filters: FilterShape, shape: tuple[int, ...]) -> str:
    """Return the name of the weight, an initializer of the given shape.

    Raises:
        ShapeMismatchError: The weight in the block or in the weights file has another shape.
        BadParameterError: There is no weight.
    """
    given = block["weight"]
    if isinstance(given, str):
        array = initial_weights(given, filters, builder.layer.salt).reshape(shape)
    elif given is not None:
        array = _numbers(block, given)
    else:
        array = _stored(builder, block, "weight", shape)
    if array.shape != shape:
        message = f"{block.name}: the weight has shape {list(array.shape)} where {list(shape)} is needed"
        raise ShapeMismatchError(
            f"{message}; {tensor.describe()}", block=block.name, got=list(array.shape), expected=list(shape)
        )
    return builder.weight("weight", array, tensor.dtype)


def _numbers(block: BoundBlock, given: object) -> Array:
    """Return nested lists as an array; raise `BadParameterError` if their lengths differ."""
    try:
        return np.asarray(given, np.float64)
    except ValueError:
        message = f"{block.name}: the nested lists of weight have different lengths"
        raise BadParameterError(message, block=block.name, parameter="weight", expected="nested lists") from None


def _stored(builder: Builder, block: BoundBlock, part: str, shape: tuple[int, ...]) -> Array:
    """Return an array of the weights file; raise `BadParameterError` if the file does not have it."""
    array = builder.layer.stored.get(part)
    if array is None:
        where = f"the weights file has no {builder.layer.name}.{part}" if builder.layer.name else "none is given"
        hint = "set bias=false to omit it" if part == "bias" else "give initial weights, such as weight=he"
        message = f"{block.name} needs its {part} {list(shape)}, and {where}; {hint}"
        raise BadParameterError(message, block=block.name, parameter=part, expected=list(shape))
    return array


def _bias(builder: Builder, block: BoundBlock, out: int, dtype: str) -> list[str]:
    """Return the name of the bias in a list; an empty list for no bias.

    There is no bias with ``bias=false``, or if the block gives a weight and leaves ``bias`` at its default.
    """
    given = block["bias"]
    if given is False or (given is True and block["weight"] is not None):
        return []
    array = _stored(builder, block, "bias", (out,)) if given is True else np.asarray(block.numbers("bias"))
    if array.shape not in {(1,), (out,)}:
        message = f"{block.name}: bias has shape {list(array.shape)} where [{out}] is needed"
        raise ShapeMismatchError(message, block=block.name, got=list(array.shape), expected=[out])
    return [builder.weight("bias", np.broadcast_to(array, (out,)), dtype)]


EMITTERS: dict[str, Emitter] = {
    "conv": _conv,
    "depthwise_conv": _depthwise_conv,
    "transposed_conv": _transposed_conv,
    "linear": _linear,
}
"""Emitters by block name."""
