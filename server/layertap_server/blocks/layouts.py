"""Layouts of the inputs of blocks: what a block needs, and conversions to and from N×C×H×W."""

from __future__ import annotations

from dataclasses import replace

from layertap.blocks import BoundBlock
from layertap.errors import ShapeMismatchError
from layertap.types import Layout
from layertap_server.blocks.builder import Builder
from layertap_server.tensor import Tensor

LARGEST_INDEX = 2**31
"""End of a slice that goes to the end of an axis."""


def require_spatial_axes(tensor: Tensor, block: BoundBlock) -> tuple[int, ...]:
    """Return the spatial axes of a tensor.

    Raises:
        ShapeMismatchError: The tensor has no spatial axes.
    """
    if not tensor.spatial_axes:
        message = f"{block.name} needs N×C×H×W or N×T×C, and {tensor.describe()}{tensor.layout_advice}"
        raise ShapeMismatchError(message, block=block.name, got=tensor.shape_text, expected="[N, C, H, W] or [N, T, C]")
    return tensor.spatial_axes


def drop_prefix(builder: Builder, tensor: Tensor) -> Tensor:
    """Emit tokens without the class token and registers, which have no position; other tensors stay as they are."""
    if tensor.layout is not Layout.TOKENS or not tensor.prefix:
        return tensor
    return tensor.without_prefix(builder.slice(tensor.name, 1, tensor.prefix, LARGEST_INDEX))


def as_nchw(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit the tensor as N×C×H×W, the layout of ONNX's window operators. Tokens of a known grid become its map.

    Raises:
        ShapeMismatchError: The tensor has no height and width.
    """
    if tensor.layout is Layout.NCHW:
        return tensor
    if tensor.layout is Layout.NHWC:
        batch, height, width, channels = tensor.shape
        name = builder.op("Transpose", tensor.name, perm=[0, 3, 1, 2])
        return replace(tensor, name=name, shape=(batch, channels, height, width), layout=Layout.NCHW)
    if tensor.layout is Layout.TOKENS and tensor.grid is not None:
        return as_map(builder, drop_prefix(builder, tensor), tensor.grid)
    message = f"{block.name} needs height and width, and {tensor.describe()}{tensor.layout_advice}"
    raise ShapeMismatchError(message, block=block.name, got=tensor.shape_text, expected="[N, C, H, W]")


def line_as_map(builder: Builder, line: Tensor) -> Tensor:
    """Emit a series N×C×T as the map N×C×1×T."""
    batch, channels, time = line.shape
    name = builder.op("Unsqueeze", line.name, builder.constant([2], "int64"))
    return replace(line, name=name, shape=(batch, channels, 1, time), layout=Layout.NCHW)


def map_as_line(builder: Builder, maps: Tensor) -> Tensor:
    """Emit a map N×C×1×T as the series N×C×T."""
    batch, channels, _, time = maps.shape
    name = builder.op("Squeeze", maps.name, builder.constant([2], "int64"))
    return replace(maps, name=name, shape=(batch, channels, time), layout=Layout.NCT)


def check_one_number(tensor: Tensor, block: BoundBlock, *names: str) -> None:
    """Check that parameters that may differ by height and width have one number, for a series or a volume.

    Raises:
        ShapeMismatchError: A parameter has several different numbers.
    """
    for name in names:
        value = block[name]
        if isinstance(value, tuple) and len(set(value)) > 1:
            message = f"{block.name}: {name} must be one number for {tensor.layout}, got {list(value)}"
            raise ShapeMismatchError(message, block=block.name, got=tensor.shape_text, expected=f"one {name}")


def as_map(builder: Builder, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Emit tokens without a prefix as the map N×C×H×W whose positions they are."""
    batch, _, channels = tokens.shape
    turned = builder.op("Transpose", tokens.name, perm=[0, 2, 1])
    name = builder.op("Reshape", turned, builder.constant([0, 0, *grid], "int64"))
    return replace(tokens, name=name).with_shape(batch, channels, *grid, layout=Layout.NCHW)


def back_to(layout: Layout, builder: Builder, tensor: Tensor) -> Tensor:
    """Emit an N×C×H×W tensor in the layout of the block's input, after `as_nchw`; that of tokens stays a map."""
    if layout is not Layout.NHWC:
        return tensor
    batch, channels, height, width = tensor.shape
    name = builder.op("Transpose", tensor.name, perm=[0, 2, 3, 1])
    return replace(tensor, name=name, shape=(batch, height, width, channels), layout=Layout.NHWC)
