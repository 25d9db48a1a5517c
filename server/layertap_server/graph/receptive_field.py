"""Receptive fields: the rows of the image that each value of a layer depends on (Araujo et al. 2019, eqs. 1 to 6).

The walk keeps one extent per layer: the first and the last image row that its first value depends on, and the step in
rows to the next value. Where branches merge, the extent covers both; if their steps differ, the field is not known. A
value that depends on the whole image, such as a global mean or attention, has no field. Only the height is followed.
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
from layertap_server.blocks.windows import same_padding
from layertap_server.graph.walk import attribute_of, reads
from layertap_server.tensor import Dim, Tensor

Shape: TypeAlias = tuple[Dim, ...]
"""Sizes of a tensor's axes, each a number or a symbolic name."""
Shapes: TypeAlias = Mapping[str, Shape]
"""Shapes by tensor name."""
_POINTWISE = frozenset({
    "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BatchNormalization", "BitShift",
    "Cast", "Ceil", "Celu", "Clip", "Cos", "Cosh", "DequantizeLinear", "Div", "Dropout", "Elu", "Equal", "Erf",
    "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN",
    "LeakyRelu", "Less", "LessOrEqual", "Log", "LRN", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "Not",
    "Or", "PRelu", "Pow", "QuantizeLinear", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign",
    "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tan", "Tanh", "ThresholdedRelu", "Where",
    "Xor", "QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu",
})  # fmt: skip
"""Operators that compute each value from values at the same spatial position."""
_WINDOWED = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}
"""Index of the input that holds the filters, by convolution operator."""
_POOLS = frozenset({"MaxPool", "AveragePool", "LpPool"})
"""Window pools."""
HEIGHT = 2
"""Height axis of N×C×H×W, the layout of convolutions and pools."""


@dataclass(frozen=True, slots=True)
class _Extent:
    """Image rows that the first value along ``axis`` depends on, and the step in rows to the next value."""

    first: float
    last: float
    step: float
    axis: int

    def slide(self, size: int, stride: int, before: int, dilation: int = 1) -> _Extent:
        """Return the extent after a sliding window of ``size`` elements with ``before`` values of padding."""
        start = self.first - before * self.step
        reach = (dilation * (size - 1) - before) * self.step
        return replace(self, first=start, last=self.last + reach, step=self.step * stride)

    def shift(self, start: int, step: int = 1) -> _Extent:
        """Return the extent after a slice that begins at ``start`` and takes every ``step``-th value."""
        offset = start * self.step
        return replace(self, first=self.first + offset, last=self.last + offset, step=self.step * step)

    def upsample(self, scale: float, taps: int, centre: float) -> _Extent:
        """Return the extent after an upsampling by ``scale``.

        Its first value is interpolated from ``taps`` values around the position ``centre``.
        """
        half = (taps - 1) / 2
        first, last = (end + (centre + side * half) * self.step for end, side in ((self.first, -1), (self.last, 1)))
        return replace(self, first=first, last=last, step=self.step / scale)

    def as_field(self) -> ReceptiveField:
        """Return the receptive field: size, stride and center of the first value, in pixels."""
        size = math.ceil(round(self.last - self.first, 6)) + 1
        return ReceptiveField(size, self.step, (self.first + self.last) / 2)


def receptive_fields(graph: onnx.GraphProto, types: Mapping[str, Tensor], image: str) -> Mapping[str, ReceptiveField]:
    """Return the receptive field of every layer that depends on a bounded part of the image, by name.

    Args:
        graph: The graph, its nodes in execution order.
        types: Types of the graph's tensors by name.
        image: Name of the image input.
    """
    if not types[image].spatial_axes:
        return {}
    walk = _Walk({name: tensor.shape for name, tensor in types.items()}, graph, types[image])
    for node in graph.node:
        walk.visit(node)
    return {name: extent.as_field() for name, extent in walk.extents.items() if extent is not None}


class _Walk:
    """Propagation of extents from the image through the nodes, in execution order."""

    def __init__(self, shapes: Shapes, graph: onnx.GraphProto, image: Tensor) -> None:
        """Start at the image input, where each value depends on its own row."""
        self.extents: dict[str, _Extent | None] = {image.name: _Extent(0, 0, 1, image.spatial_axes[0])}
        """Extents of all tensors that depend on the image; None if unbounded or not known."""
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._shapes: Shapes = {**{name: tuple(tensor.dims) for name, tensor in self._weights.items()}, **shapes}

    def visit(self, node: onnx.NodeProto) -> None:
        """Set the extents of a node's outputs."""
        fed = [name for name in reads(node) if name in self.extents]
        if not fed:
            return
        for output in node.output:
            self.extents[output] = self._extent_of(node, fed, output) if output else None

    def _extent_of(self, node: onnx.NodeProto, fed: Sequence[str], output: str) -> _Extent | None:
        """Return the extent of an output of a node; ``fed`` are its inputs that depend on the image."""
        shape = self._shapes.get(output)
        extent = self.extents[fed[0]]
        kind = node.op_type
        if shape is None or node.domain not in {"", "ai.onnx"}:
            return None
        if kind in _POINTWISE:
            return self._merge(fed, shape)
        if kind == "Concat":
            merged = self._merge(fed, shape)
            return merged and self.off_axis(node, merged, shape)
        if extent is None or fed != [node.input[0]]:
            return None
        rule = _RULES.get(kind)
        return rule(self, node, extent, shape) if rule else None

    def _merge(self, fed: Sequence[str], shape: Shape) -> _Extent | None:
        """Return the extent that covers all inputs of an elementwise operator; None if their steps or axes differ."""
        extents = [self._align(name, shape) for name in fed]
        known = [extent for extent in extents if extent is not None]
        if len(known) < len(extents) or len({(extent.step, extent.axis) for extent in known}) > 1:
            return None
        first, last = min(extent.first for extent in known), max(extent.last for extent in known)
        return replace(known[0], first=first, last=last)

    def _align(self, name: str, shape: Shape) -> _Extent | None:
        """Return an input's extent with its axis in a broadcast result of that shape; None if it is broadcast."""
        extent, own = self.extents[name], self._shapes.get(name)
        if extent is None or own is None:
            return None
        axis = extent.axis + len(shape) - len(own)
        return replace(extent, axis=axis) if own[extent.axis] == shape[axis] else None

    def slide(self, node: onnx.NodeProto, extent: _Extent, shape: Shape) -> _Extent | None:
        """Return the extent after a convolution, a transposed convolution or a pool."""
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
            return extent.slide(size, stride, before, dilation)
        reach = dilation * (size - 1) + 1
        return extent.upsample(stride, math.ceil(reach / stride), (before - (reach - 1) / 2) / stride)

    def _window_size(self, node: onnx.NodeProto) -> int | None:
        """Return the height of a node's kernel, from its attribute or its filters; None if not known."""
        if given := _along_height(node, "kernel_shape", 0):
            return given
        index = _WINDOWED.get(node.op_type, 1)
        filters = self._shapes.get(node.input[index], ()) if len(node.input) > index else ()
        size = filters[2] if len(filters) > 2 else None  # noqa: PLR2004 - the height of O×I×h×w
        return size if isinstance(size, int) else None

    def _padding_before(self, node: onnx.NodeProto, reach: int, stride: int, shape: Shape) -> int | None:
        """Return the rows of padding at the top; ``reach`` is the height of the dilated kernel."""
        mode = attribute_of(node, "auto_pad", "NOTSET")
        if mode == "NOTSET":
            return _along_height(node, "pads", 0)
        if mode == "VALID":
            return 0
        read, made = self._shapes.get(node.input[0], ()), shape[2]
        if len(read) <= 2 or not isinstance(read[2], int) or not isinstance(made, int):  # noqa: PLR2004 - no height
            return None
        size = made if node.op_type == "ConvTranspose" else read[2]
        return same_padding(size, reach, stride, is_lower=mode == "SAME_LOWER")[0]

    def multiply(self, node: onnx.NodeProto, extent: _Extent, shape: Shape) -> _Extent | None:
        """Return the extent after a matrix product with weights, which mixes values along the last axis only."""
        return extent if extent.axis < len(shape) - 1 and len(shape) == self._rank(node.input[0]) else None

    def off_axis(self, node: onnx.NodeProto, extent: _Extent, shape: Shape) -> _Extent | None:
        """Return the extent after an operator that computes or splits along one axis; None along the followed one."""
        default = 0 if node.op_type == "Split" else -1
        return None if attribute_of(node, "axis", default) % len(shape) == extent.axis else extent

    def before_axis(self, node: onnx.NodeProto, extent: _Extent, shape: Shape) -> _Extent | None:
        """Return the extent after an operator that computes over an axis and all axes after it."""
        return extent if extent.axis < attribute_of(node, "axis", -1) % len(shape) else None

    def transpose(self, node: onnx.NodeProto, extent: _Extent, shape: Shape) -> _Extent:
        """Return the extent with its axis after a Transpose."""
        order = attribute_of(node, "perm", list(range(len(shape)))[::-1])
        return replace(extent, axis=list(order).index(extent.axis))

    def reshape(self, node: onnx.NodeProto, extent: _Extent, shape: Shape) -> _Extent | None:
        """Return the extent with its axis after a Reshape; None if the sizes do not show that the axis is kept."""
        own = self._shapes.get(node.input[0], ())
        if not own or not shape or own[0] != shape[0] or extent.axis == 0:
            return None
        wanted = _product(own[1 : extent.axis])
        for axis in range(1, len(shape)):
            if shape[axis] == own[extent.axis] and wanted is not None and _product(shape[1:axis]) == wanted:
                return replace(extent, axis=axis)
        return None

    def reduce(self, node: onnx.NodeProto, extent: _Extent, _shape: Shape) -> _Extent | None:
        """Return the extent after a reduction; None if it reduces the followed axis or its axes are not known."""
        axes = self._constants(node, "axes", 1)
        rank = self._rank(node.input[0])
        if not axes or not rank or extent.axis in {axis % rank for axis in axes}:
            return None
        dropped = 0 if attribute_of(node, "keepdims", 1) else sum(axis % rank < extent.axis for axis in axes)
        return replace(extent, axis=extent.axis - dropped)

    def pad(self, node: onnx.NodeProto, extent: _Extent, _shape: Shape) -> _Extent | None:
        """Return the extent after a Pad of all axes; None if the padding is not known."""
        pads = self._constants(node, "pads", 1)
        if not pads or (len(node.input) > 3 and node.input[3]):  # noqa: PLR2004 - only some axes
            return None
        return extent.shift(-pads[extent.axis])

    def slice(self, node: onnx.NodeProto, extent: _Extent, shape: Shape) -> _Extent | None:
        """Return the extent after a Slice; None if its bounds are not known or it reverses the followed axis."""
        starts = self._constants(node, "starts", 1)
        axes = self._constants(node, "axes", 3)
        steps = self._constants(node, "steps", 4)
        if len(node.input) - 1 > sum(map(bool, (starts, axes, steps))) + 1:  # one of the inputs is not a constant
            return None
        axes, steps = axes or list(range(len(starts))), steps or [1] * len(starts)
        for axis, start, step in zip(axes, starts, steps, strict=False):
            if axis % len(shape) == extent.axis:
                return extent.shift(start, step) if start >= 0 and step > 0 else None
        return extent if starts else None

    def resize(self, node: onnx.NodeProto, extent: _Extent, shape: Shape) -> _Extent | None:
        """Return the extent after an upsampling; None if a size is not known or the layer shrinks."""
        own, made = self._shapes[node.input[0]][extent.axis], shape[extent.axis]
        if not isinstance(own, int) or not isinstance(made, int) or made < own:
            return None
        mode = attribute_of(node, "mode", "nearest")
        taps = {"nearest": 1, "linear": 2, "cubic": 4}.get(mode, 1)
        return extent.upsample(made / own, taps, 0.5 * own / made - 0.5)

    def space_to_depth(self, node: onnx.NodeProto, extent: _Extent, _shape: Shape) -> _Extent | None:
        """Return the extent after a SpaceToDepth, which moves blocks of spatial positions into channels."""
        size = attribute_of(node, "blocksize", 1)
        return extent.slide(size, size, 0) if extent.axis == HEIGHT else None

    def depth_to_space(self, node: onnx.NodeProto, extent: _Extent, _shape: Shape) -> _Extent | None:
        """Return the extent after a DepthToSpace, which moves channels into blocks of spatial positions."""
        return extent.upsample(attribute_of(node, "blocksize", 1), 1, 0) if extent.axis == HEIGHT else None

    def _constants(self, node: onnx.NodeProto, name: str, index: int) -> list[int]:
        """Return integers that are an attribute in old opsets and an input in new ones; [] if they are not known."""
        for item in node.attribute:
            if item.name == name:
                return list(item.ints)
        weight = self._weights.get(node.input[index]) if len(node.input) > index else None
        if weight is None or weight.data_location == onnx.TensorProto.EXTERNAL:
            return []
        return [int(value) for value in np.asarray(numpy_helper.to_array(weight)).reshape(-1)]

    def _rank(self, name: str) -> int:
        """Return the number of axes of a tensor, or 0 if its shape is not known."""
        return len(self._shapes.get(name, ()))


_RULES: Mapping[str, Callable[[_Walk, onnx.NodeProto, _Extent, Shape], _Extent | None]] = {
    **dict.fromkeys((*_WINDOWED, "MaxPool", "AveragePool", "LpPool", "ConvTranspose"), _Walk.slide),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "LpNormalization", "Split"), _Walk.off_axis),
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze", "Flatten"), _Walk.reshape),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2"), _Walk.reduce),
    **dict.fromkeys(("Resize", "Upsample"), _Walk.resize),
    "LayerNormalization": _Walk.before_axis,
    "MatMul": _Walk.multiply,
    "Transpose": _Walk.transpose,
    "Pad": _Walk.pad,
    "Slice": _Walk.slice,
    "SpaceToDepth": _Walk.space_to_depth,
    "DepthToSpace": _Walk.depth_to_space,
}
"""Rules for the extent after a node with one input that depends on the image, by operator."""


def _along_height(node: onnx.NodeProto, name: str, default: int) -> int:
    """Return the height's entry of an attribute such as ``strides``, or the default if the node does not have it."""
    return int((attribute_of(node, name, []) or [default])[0])


def _product(sizes: Sequence[Dim]) -> int | None:
    """Return the product of sizes, or None if one is symbolic."""
    known = [size for size in sizes if isinstance(size, int)]
    return math.prod(known) if len(known) == len(sizes) else None
