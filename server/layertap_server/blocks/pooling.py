"""Pooling blocks as ONNX nodes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from layertap.blocks import BoundBlock
from layertap.errors import ShapeMismatchError
from layertap.types import Array, Layout
from layertap_server.blocks.builder import (
    Builder,
    Dim,
    Emitter,
    Tensor,
    as_nchw,
    back_to,
    maximum_with_nan,
    require_places,
)


@dataclass(frozen=True, slots=True)
class Window:
    """The geometry of a window pool along one side of a map."""

    size: Dim
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    overhang: int
    """How far a last, partial window reaches over the padded end (``ceil``)."""
    output: Dim

    def counts(self, *, padding: bool) -> Array:
        """How many values each window holds; with ``padding`` the padded ones count too."""
        if isinstance(self.size, str) or isinstance(self.output, str):
            return np.array([self.kernel], np.float64)
        starts = np.arange(self.output)[:, None] * self.stride - self.before
        places = starts + np.arange(self.kernel)[None, :] * self.dilation
        low, high = (-self.before, self.size + self.after) if padding else (0, self.size)
        inside = (places >= low) & (places < high)
        return np.asarray(inside.sum(axis=1), np.float64)


def _windows(tensor: Tensor, block: BoundBlock) -> tuple[Window, Window]:
    """Height's and width's window on an N×C×H×W tensor.

    Raises:
        ShapeMismatchError: a window is larger than the padded map, or the padding than the window.
    """
    kernels = block.sides("kernel")
    strides = kernels if block["stride"] is None else block.sides("stride")
    dilations = block.sides("dilation")
    height, width = (_window(tensor, block, side, kernels[side], strides[side], dilations[side]) for side in range(2))
    if not (height.counts(padding=False).all() and width.counts(padding=False).all()):
        raise _misfit(block, tensor, "a window holds nothing but padding", "less padding or dilation")
    return height, width


def _window(tensor: Tensor, block: BoundBlock, side: int, kernel: int, stride: int, dilation: int) -> Window:
    size = tensor.shape[2 + side]
    span = dilation * (kernel - 1) + 1
    if isinstance(size, str):
        if block["padding"] != "valid" or block["ceil"]:
            raise _misfit(block, tensor, "padding and ceil need a known height and width", "a known size")
        return Window(size, kernel, stride, dilation, 0, 0, 0, f"{size}/{stride}")
    before, after = _padding(block, side, size, span, stride)
    if max(before, after) >= span:
        raise _misfit(block, tensor, f"padding of {max(before, after)} fills a window of {span}", f"less than {span}")
    room = size + before + after - span
    if room < 0:
        padded = size + before + after
        raise _misfit(block, tensor, f"a window of {span} is larger than the {padded} it is put on", f"at least {span}")
    output, rest = divmod(room, stride)
    output += 1
    if block["ceil"] and rest and output * stride < size + before:
        return Window(size, kernel, stride, dilation, before, after, stride - rest, output + 1)
    return Window(size, kernel, stride, dilation, before, after, 0, output)


def _misfit(block: BoundBlock, tensor: Tensor, problem: str, expected: str) -> ShapeMismatchError:
    message = f"{block.name}: {problem}; {tensor.describe()}"
    return ShapeMismatchError(message, block=block.name, got=tensor.shape_text, expected=expected)


def _padding(block: BoundBlock, side: int, size: int, span: int, stride: int) -> tuple[int, int]:
    """How much goes before and after the map: ``same`` gives ceil(size / stride) windows."""
    padding = block["padding"]
    if isinstance(padding, tuple):
        before, after = padding[side], padding[side + 2]
        return int(before), int(after)  # type: ignore[arg-type]
    if padding == "valid":
        return 0, 0
    total = max((math.ceil(size / stride) - 1) * stride + span - size, 0)
    small, large = total // 2, total - total // 2
    return (small, large) if padding == "same" else (large, small)


def _padded(builder: Builder, tensor: Tensor, height: Window, width: Window, value: float) -> str:
    """The map with its padding written out: operators of ONNX limit how much they pad by themselves."""
    ends = [height.after + height.overhang, width.after + width.overhang]
    pads = [0, 0, height.before, width.before, 0, 0, *ends]
    if not any(pads):
        return tensor.name
    return builder.op("Pad", tensor.name, builder.constant(pads, "int64"), builder.constant(value, tensor.dtype))


def _pooled(tensor: Tensor, name: str, height: Window, width: Window) -> Tensor:
    return replace(tensor, name=name, shape=(*tensor.shape[:2], height.output, width.output))


def _max_pool(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    maps = as_nchw(builder, tensor, block)
    height, width = _windows(maps, block)

    def maximum(name: str) -> str:
        return builder.op(
            "MaxPool",
            _padded(builder, replace(maps, name=name), height, width, -np.inf),
            kernel_shape=[height.kernel, width.kernel],
            strides=[height.stride, width.stride],
            dilations=[height.dilation, width.dilation],
        )

    name = maximum_with_nan(builder, maps, maximum)
    return back_to(tensor.layout, builder, _pooled(maps, name, height, width))


def _average_pool(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """The mean over the whole kernel, padding as zeros, and then a factor for what each window really holds.

    Runtimes disagree on what a partial window counts, so the counts are ours and the operator sees no padding.
    """
    maps = as_nchw(builder, tensor, block)
    height, width = _windows(maps, block)
    name = _kernel_mean(builder, replace(maps, name=_padded(builder, maps, height, width, 0.0)), height, width, block)
    padding = bool(block["count_include_pad"])
    held = np.outer(height.counts(padding=padding), width.counts(padding=padding))
    factor = height.kernel * width.kernel / held
    if (factor != 1).any():
        name = builder.op("Mul", name, builder.constant(factor[None, None], maps.dtype))
    return back_to(tensor.layout, builder, _pooled(maps, name, height, width))


def _kernel_mean(builder: Builder, maps: Tensor, height: Window, width: Window, block: BoundBlock) -> str:
    strides = [height.stride, width.stride]
    if height.dilation == width.dilation == 1:
        return builder.op("AveragePool", maps.name, kernel_shape=[height.kernel, width.kernel], strides=strides)
    # AveragePool has dilation only from opset 19 on; a depthwise convolution is the same sum.
    channels = maps.shape[1]
    if isinstance(channels, str):
        raise _misfit(block, maps, "dilation needs a known number of channels", "a known size")
    weight = np.full((channels, 1, height.kernel, width.kernel), 1 / (height.kernel * width.kernel))
    dilations = [height.dilation, width.dilation]
    kernel = builder.constant(weight, maps.dtype)
    return builder.op("Conv", maps.name, kernel, strides=strides, dilations=dilations, group=channels)


def _gap(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    axes = require_places(tensor, block)
    return _as_vector(tensor, builder.reduce("ReduceMean", tensor.name, axes, keepdims=False))


def _gmp(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    axes = require_places(tensor, block)
    name = maximum_with_nan(builder, tensor, lambda x: builder.reduce("ReduceMax", x, axes, keepdims=False))
    return _as_vector(tensor, name)


def _gem(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    axes = require_places(tensor, block)
    power = block.number("p")
    floor = builder.constant(block.number("eps"), tensor.dtype)
    powered = builder.op("Pow", builder.op("Max", tensor.name, floor), builder.constant(power, tensor.dtype))
    mean = builder.reduce("ReduceMean", powered, axes, keepdims=False)
    return _as_vector(tensor, builder.op("Pow", mean, builder.constant(1 / power, tensor.dtype)))


def _as_vector(tensor: Tensor, name: str) -> Tensor:
    channels = tensor.shape[tensor.channel_axis]
    return replace(tensor, name=name, shape=(tensor.shape[0], channels), layout=Layout.VECTOR)


EMITTERS: dict[str, Emitter] = {
    "max_pool": _max_pool,
    "average_pool": _average_pool,
    "gap": _gap,
    "gmp": _gmp,
    "gem": _gem,
}
