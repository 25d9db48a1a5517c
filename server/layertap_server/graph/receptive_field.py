"""Which part of the image each value of a layer sees, along the height (Araujo et al. 2019, eqs. 1 to 6).

A layer is followed as one extent: the first and the last row that its first value sees, and how far the next value's
are moved. Branches that meet see what both see; where they are moved differently, nothing can be said. A value that
sees the whole image, whatever its size (a global mean, attention), has no field.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import onnx
from onnx import numpy_helper

from layertap.types import ReceptiveField
from layertap_server.blocks import Dim, Tensor
from layertap_server.graph.walk import attribute_of, reads

Shape: TypeAlias = tuple[Dim, ...]
Shapes: TypeAlias = Mapping[str, Shape]
_POINTWISE = frozenset({
    "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BatchNormalization", "BitShift",
    "Cast", "Ceil", "Celu", "Clip", "Cos", "Cosh", "DequantizeLinear", "Div", "Dropout", "Elu", "Equal", "Erf",
    "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN",
    "LeakyRelu", "Less", "LessOrEqual", "Log", "LRN", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "Not",
    "Or", "PRelu", "Pow", "QuantizeLinear", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign",
    "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tan", "Tanh", "ThresholdedRelu", "Where",
    "Xor", "QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu",
})  # fmt: skip
"""What one value becomes depends on no other place."""
_WINDOWED = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}
"""Convolutions -> which input holds the filters."""
_POOLS = frozenset({"MaxPool", "AveragePool", "LpPool"})
HEIGHT = 2
"""The axis of N×C×H×W, in which convolutions and pooling work."""


@dataclass(frozen=True, slots=True)
class _Extent:
    """Rows of the image that the first value along ``axis`` sees, and the step to the next value's."""

    first: float
    last: float
    step: float
    axis: int

    def window(self, size: int, stride: int, before: int, dilation: int = 1) -> _Extent:
        """Behind a sliding window that begins ``before`` values outside."""
        start = self.first - before * self.step
        reach = (dilation * (size - 1) - before) * self.step
        return replace(self, first=start, last=self.last + reach, step=self.step * stride)

    def moved(self, start: int, step: int = 1) -> _Extent:
        """From another value on, and every ``step``-th of them."""
        shift = start * self.step
        return replace(self, first=self.first + shift, last=self.last + shift, step=self.step * step)

    def upsampled(self, scale: float, taps: int, centre: float) -> _Extent:
        """Behind an interpolation of ``taps`` values around ``centre``, which makes ``scale`` of one."""
        half = (taps - 1) / 2
        first, last = (end + (centre + side * half) * self.step for end, side in ((self.first, -1), (self.last, 1)))
        return replace(self, first=first, last=last, step=self.step / scale)

    def as_field(self) -> ReceptiveField:
        size = math.ceil(round(self.last - self.first, 6)) + 1
        return ReceptiveField(size, self.step, (self.first + self.last) / 2)


def receptive_fields(graph: onnx.GraphProto, types: Mapping[str, Tensor], image: str) -> Mapping[str, ReceptiveField]:
    """Of every layer that sees a bounded part of the image; the others are not in it."""
    walk = _Walk({name: tensor.shape for name, tensor in types.items()}, graph, types[image])
    for node in graph.node:
        walk.through(node)
    return {name: extent.as_field() for name, extent in walk.extents.items() if extent is not None}


class _Walk:
    """Carries extents from the image through the nodes, in execution order."""

    def __init__(self, shapes: Shapes, graph: onnx.GraphProto, image: Tensor) -> None:
        self.extents: dict[str, _Extent | None] = {image.name: _Extent(0, 0, 1, image.spatial_axes[0])}
        """Of all that depends on the image; None for what sees all of it, or nobody knows what."""
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._shapes: Shapes = {**{name: tuple(tensor.dims) for name, tensor in self._weights.items()}, **shapes}

    def through(self, node: onnx.NodeProto) -> None:
        fed = [name for name in reads(node) if name in self.extents]
        if not fed:
            return
        for output in node.output:
            self.extents[output] = self._behind(node, fed, output) if output else None

    def _behind(self, node: onnx.NodeProto, fed: Sequence[str], output: str) -> _Extent | None:
        shape = self._shapes.get(output)
        extent = self.extents[fed[0]]
        kind = node.op_type
        if shape is None or node.domain not in {"", "ai.onnx"}:
            return None
        if kind in _POINTWISE:
            return self._merged(fed, shape)
        if kind == "Concat":
            merged = self._merged(fed, shape)
            return merged and self.off_axis(node, merged, shape)
        if extent is None or fed != [node.input[0]]:
            return None
        rule = _RULES.get(kind)
        return rule(self, node, extent, shape) if rule else None

    def _merged(self, fed: Sequence[str], shape: Shape) -> _Extent | None:
        extents = [self._aligned(name, shape) for name in fed]
        known = [extent for extent in extents if extent is not None]
        if len(known) < len(extents) or len({(extent.step, extent.axis) for extent in known}) > 1:
            return None
        first, last = min(extent.first for extent in known), max(extent.last for extent in known)
        return replace(known[0], first=first, last=last)

    def _aligned(self, name: str, shape: Shape) -> _Extent | None:
        """The layer's extent in a broadcast result of that shape."""
        extent, own = self.extents[name], self._shapes.get(name)
        if extent is None or own is None:
            return None
        axis = extent.axis + len(shape) - len(own)
        return replace(extent, axis=axis) if own[extent.axis] == shape[axis] else None

    def windowed(self, node: onnx.NodeProto, extent: _Extent, shape: Shape) -> _Extent | None:
        if extent.axis != HEIGHT:
            return None
        size = self._window_size(node)
        if size is None:
            return None
        stride, dilation = (_along_height(node, name, 1) for name in ("strides", "dilations"))
        before = self._padding_before(node, dilation * (size - 1) + 1, stride, shape)
        if before is None:
            return None
        if node.op_type != "ConvTranspose":
            return extent.window(size, stride, before, dilation)
        reach = dilation * (size - 1) + 1
        return extent.upsampled(stride, math.ceil(reach / stride), (before - (reach - 1) / 2) / stride)

    def _window_size(self, node: onnx.NodeProto) -> int | None:
        if given := _along_height(node, "kernel_shape", 0):
            return given
        index = _WINDOWED.get(node.op_type, 1)
        filters = self._shapes.get(node.input[index], ()) if len(node.input) > index else ()
        size = filters[2] if len(filters) > 2 else None  # noqa: PLR2004 - the height of O×I×h×w
        return size if isinstance(size, int) else None

    def _padding_before(self, node: onnx.NodeProto, reach: int, stride: int, shape: Shape) -> int | None:
        mode = attribute_of(node, "auto_pad", "NOTSET")
        if mode == "NOTSET":
            return _along_height(node, "pads", 0)
        if mode == "VALID":
            return 0
        read, made = self._shapes.get(node.input[0], ()), shape[2]
        if len(read) <= 2 or not isinstance(read[2], int) or not isinstance(made, int):  # noqa: PLR2004 - no height
            return None
        small, large = (read[2], made) if node.op_type == "ConvTranspose" else (made, read[2])
        total = max((small - 1) * stride + reach - large, 0)
        return total // 2 if mode == "SAME_UPPER" else total - total // 2

    def matrix(self, node: onnx.NodeProto, extent: _Extent, shape: Shape) -> _Extent | None:
        return extent if extent.axis < len(shape) - 1 and len(shape) == self._rank(node.input[0]) else None

    def off_axis(self, node: onnx.NodeProto, extent: _Extent, shape: Shape) -> _Extent | None:
        """Looks along one axis, or cuts along it."""
        default = 0 if node.op_type == "Split" else -1
        return None if attribute_of(node, "axis", default) % len(shape) == extent.axis else extent

    def before_axis(self, node: onnx.NodeProto, extent: _Extent, shape: Shape) -> _Extent | None:
        return extent if extent.axis < attribute_of(node, "axis", -1) % len(shape) else None

    def transposed(self, node: onnx.NodeProto, extent: _Extent, shape: Shape) -> _Extent:
        order = attribute_of(node, "perm", list(range(len(shape)))[::-1])
        return replace(extent, axis=list(order).index(extent.axis))

    def reshaped(self, node: onnx.NodeProto, extent: _Extent, shape: Shape) -> _Extent | None:
        """The same axis, where the sizes before it show that it is still there."""
        own = self._shapes.get(node.input[0], ())
        if not own or not shape or own[0] != shape[0] or extent.axis == 0:
            return None
        wanted = _product(own[1 : extent.axis])
        for axis in range(1, len(shape)):
            if shape[axis] == own[extent.axis] and wanted is not None and _product(shape[1:axis]) == wanted:
                return replace(extent, axis=axis)
        return None

    def reduced(self, node: onnx.NodeProto, extent: _Extent, _shape: Shape) -> _Extent | None:
        axes = self._constants(node, "axes", 1)
        rank = self._rank(node.input[0])
        if not axes or not rank or extent.axis in {axis % rank for axis in axes}:
            return None
        dropped = 0 if attribute_of(node, "keepdims", 1) else sum(axis % rank < extent.axis for axis in axes)
        return replace(extent, axis=extent.axis - dropped)

    def padded(self, node: onnx.NodeProto, extent: _Extent, _shape: Shape) -> _Extent | None:
        pads = self._constants(node, "pads", 1)
        if not pads or (len(node.input) > 3 and node.input[3]):  # noqa: PLR2004 - only some axes
            return None
        return extent.moved(-pads[extent.axis])

    def sliced(self, node: onnx.NodeProto, extent: _Extent, shape: Shape) -> _Extent | None:
        starts = self._constants(node, "starts", 1)
        axes = self._constants(node, "axes", 3)
        steps = self._constants(node, "steps", 4)
        if len(node.input) - 1 > sum(map(bool, (starts, axes, steps))) + 1:  # one of them is made as it runs
            return None
        axes, steps = axes or list(range(len(starts))), steps or [1] * len(starts)
        for axis, start, step in zip(axes, starts, steps, strict=False):
            if axis % len(shape) == extent.axis:
                return extent.moved(start, step) if start >= 0 and step > 0 else None
        return extent if starts else None

    def resized(self, node: onnx.NodeProto, extent: _Extent, shape: Shape) -> _Extent | None:
        own, made = self._shapes[node.input[0]][extent.axis], shape[extent.axis]
        if not isinstance(own, int) or not isinstance(made, int) or made < own:
            return None
        mode = attribute_of(node, "mode", "nearest")
        taps = {"nearest": 1, "linear": 2, "cubic": 4}.get(mode, 1)
        return extent.upsampled(made / own, taps, 0.5 * own / made - 0.5)

    def gathered(self, node: onnx.NodeProto, extent: _Extent, _shape: Shape) -> _Extent | None:
        """Blocks of places that become channels."""
        size = attribute_of(node, "blocksize", 1)
        return extent.window(size, size, 0) if extent.axis == HEIGHT else None

    def spread(self, node: onnx.NodeProto, extent: _Extent, _shape: Shape) -> _Extent | None:
        return extent.upsampled(attribute_of(node, "blocksize", 1), 1, 0) if extent.axis == HEIGHT else None

    def _constants(self, node: onnx.NodeProto, name: str, index: int) -> list[int]:
        """An attribute of old opsets that became an input; empty where it is not known."""
        for item in node.attribute:
            if item.name == name:
                return list(item.ints)
        weight = self._weights.get(node.input[index]) if len(node.input) > index else None
        if weight is None or weight.data_location == onnx.TensorProto.EXTERNAL:
            return []
        return [int(value) for value in np.asarray(numpy_helper.to_array(weight)).reshape(-1)]

    def _rank(self, name: str) -> int:
        return len(self._shapes.get(name, ()))


_RULES: Mapping[str, Callable[[_Walk, onnx.NodeProto, _Extent, Shape], _Extent | None]] = {
    **dict.fromkeys((*_WINDOWED, "MaxPool", "AveragePool", "LpPool", "ConvTranspose"), _Walk.windowed),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "LpNormalization", "Split"), _Walk.off_axis),
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze", "Flatten"), _Walk.reshaped),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2"), _Walk.reduced),
    **dict.fromkeys(("Resize", "Upsample"), _Walk.resized),
    "LayerNormalization": _Walk.before_axis,
    "MatMul": _Walk.matrix,
    "Transpose": _Walk.transposed,
    "Pad": _Walk.padded,
    "Slice": _Walk.sliced,
    "SpaceToDepth": _Walk.gathered,
    "DepthToSpace": _Walk.spread,
}
"""What becomes of an extent behind a node that reads one layer."""


def _along_height(node: onnx.NodeProto, name: str, default: int) -> int:
    return int((attribute_of(node, name, []) or [default])[0])


def _product(sizes: Sequence[Dim]) -> int | None:
    known = [size for size in sizes if isinstance(size, int)]
    return math.prod(known) if len(known) == len(sizes) else None
