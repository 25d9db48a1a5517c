"""What emitters work with: a tensor of the graph, and the builder that appends nodes to it."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import helper, numpy_helper

from layertap.blocks import BoundBlock
from layertap.errors import RequestTooLargeError, ShapeMismatchError
from layertap.types import Array, Layout

Dim: TypeAlias = int | str
"""A size, or the name of one that is not known."""

MOST_NODES = 20_000
MOST_NUMBERS = 2**24
"""Numbers of one constant that a block makes while a request is planned."""

INNER, BLOCK, PATH, LAYOUT = "layertap.inner", "layertap.block", "layertap.path", "layertap.layout"
"""Keys of a node's metadata: it is an inner part of a block and no layer; the block's name; the layer's module path and
its layout."""

AXES_BECAME_INPUTS = 18
"""The opset in which the reductions that still had it lost their attribute ``axes``."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a graph: its name there, what it holds and what its axes mean."""

    name: str
    dtype: str
    shape: tuple[Dim, ...]
    layout: Layout
    quantization: tuple[str, str] | None = None
    """The tensors of the scale and the zero point, where the values are quantized."""
    grid: tuple[int, int] | None = None
    """Of tokens that are the places of a map behind some that are none: the map's height and width."""
    max_pools: tuple[Any, ...] = ()
    """What max_unpool undoes, the last first: the tensor that a max_pool was put on, its layout and its windows."""

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def channel_axis(self) -> int:
        return {Layout.NHWC: 3, Layout.TOKENS: 2}.get(self.layout, 1)

    @property
    def spatial_axes(self) -> tuple[int, ...]:
        """The axes that places vary along: height and width, or the tokens; none for a vector."""
        match self.layout:
            case Layout.NCHW:
                return (2, 3)
            case Layout.NHWC:
                return (1, 2)
            case Layout.TOKENS:
                return (1,)
        return ()

    @property
    def info(self) -> onnx.ValueInfoProto:
        """What ONNX says of it."""
        return value_info(self.name, self.dtype, self.shape)

    def bytes_for(self, images: int) -> int | None:
        """Bytes of so many images' values; None where a size is known only when it runs."""
        sizes = [size for size in self.shape[1:] if isinstance(size, int)]
        if len(sizes) != len(self.shape) - 1:
            return None
        return images * math.prod(sizes) * np.dtype(self.dtype).itemsize

    @property
    def known_bytes(self) -> int:
        """Bytes of all values; 0 where a size or the type is not known."""
        sizes = [size for size in self.shape if isinstance(size, int)]
        if len(sizes) != self.rank or not self.dtype:
            return 0
        return math.prod(sizes) * np.dtype(self.dtype).itemsize

    def axis(self, logical: int) -> int:
        """Where an axis that is counted as in N×C×H×W lies in this tensor's layout."""
        rank = self.rank
        if not -rank <= logical < rank:
            message = f"axis {logical} does not exist: {self.describe()}"
            raise ShapeMismatchError(message, got=self.shape_text, axis=logical)
        if logical % rank == 0:
            message = f"axis {logical} is the batch, and a block works on one image: {self.describe()}"
            raise ShapeMismatchError(message, got=self.shape_text, axis=logical)
        order = (0, self.channel_axis, *self.spatial_axes)
        return order[logical] if len(order) == rank else logical % rank

    @property
    def shape_text(self) -> str:
        return "[" + ", ".join(str(size) for size in self.shape) + "]"

    def describe(self) -> str:
        """For messages: ``the tensor has shape [N, 40, 28, 28] (NCHW, float32)``."""
        return f"the tensor has shape {self.shape_text} ({self.layout}, {self.dtype})"

    @property
    def values(self) -> int:
        """Values of one image, over the sizes that are known."""
        return math.prod(size for size in self.shape[1:] if isinstance(size, int))

    def with_axis(self, name: str, axis: int, size: Dim) -> Tensor:
        """Under another name, with another size along one axis."""
        return replace(self, name=name, shape=(*self.shape[:axis], size, *self.shape[axis + 1 :]))

    def with_shape(self, *shape: Dim, layout: Layout | None = None) -> Tensor:
        return replace(self, shape=shape, layout=layout or self.layout)


def value_info(name: str, dtype: str, shape: Sequence[Dim | None]) -> onnx.ValueInfoProto:
    """What ONNX says of a tensor; None for a size that is not known."""
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(shape))


@dataclass(frozen=True, slots=True)
class Layer:
    """Which layer of a configured model is written; a head has none."""

    name: str = ""
    stored: Mapping[str, Array] = field(default_factory=dict)
    """What the weights file holds of it: ``weight``, ``bias``, ``mean`` …"""

    @property
    def salt(self) -> int:
        """Tells its random weights from another layer's of the same seed."""
        return zlib.crc32(self.name.encode()) if self.name else 0


class Builder:
    """Appends nodes and constants to a graph under names that nothing else has.

    Emitted nodes are of opset 17; the few that later opsets changed are written as the model's own opset wants them,
    since one graph has one opset.
    """

    def __init__(self, opset: int, prefix: str = "layertap") -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.layer = Layer()
        self._opset = opset
        self.computed_bytes = 0
        """What the emitted heads compute for one image, beside the layers: the sizes that are known."""
        self.operations = 0
        """Price of the emitted heads for one image; see `operations`."""
        self.dearest: tuple[str, int] = ("", 0)
        """The block with the highest price, and that."""
        self._prefix = prefix
        self._count = 0
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def fresh(self, hint: str) -> str:
        self._count += 1
        return f"{self._prefix}/{self._count}/{hint}"

    def count_computed(self, tensor: Tensor, times: int = 1) -> None:
        """Adds what one image's values take, so many times."""
        known = [size for size in tensor.shape[1:] if isinstance(size, int)]
        self.computed_bytes += times * math.prod(known) * np.dtype(tensor.dtype).itemsize

    def count_operations(self, count: int) -> None:
        """Add to the price of one image what the passes over a block's values do not include."""
        self.operations += count

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Appends a node of one output; returns the output's name. An attribute of None is left out."""
        return self.outputs(op_type, *inputs, count=1, **attributes)[0]

    def outputs(self, op_type: str, *inputs: str, count: int, **attributes: Any) -> list[str]:
        """Appends a node of several outputs; returns their names."""
        check_nodes(len(self.nodes) + 1)
        names = [self.fresh(op_type) for _ in range(count)]
        given = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(helper.make_node(op_type, list(inputs), names, name=names[0], **given))
        return names

    def name_result(self, start: int, tensor: Tensor, name: str, *, node: str, block: str, path: str = "") -> Tensor:
        """Makes what the nodes since ``start`` compute the layer ``name``; the others become that block's inner ones.

        ``node`` is the layer's node, ``block`` what is told as its operator where several nodes make it, ``path`` its
        module path.
        """
        if not any(tensor.name in made.output for made in self.nodes[start:]):
            tensor = replace(tensor, name=self.op("Identity", tensor.name))
        nodes = self.nodes[start:]
        for made in nodes:
            made.input[:] = [name if given == tensor.name else given for given in made.input]
            if tensor.name not in made.output:
                made.metadata_props.add(key=INNER, value=node)
                continue
            made.output[:] = [name if given == tensor.name else given for given in made.output]
            made.name = node
            made.metadata_props.add(key=LAYOUT, value=tensor.layout.value)
            if len(nodes) > 1:
                made.metadata_props.add(key=BLOCK, value=block)
            if path:
                made.metadata_props.add(key=PATH, value=path)
        return replace(tensor, name=name)

    def constant(self, value: Array | float | Sequence[float], dtype: str) -> str:
        """The name of a constant; equal ones are one."""
        array = np.asarray(value, dtype)
        key = (dtype, array.shape, array.tobytes())
        if key not in self._constants:
            name = self.fresh("constant")
            self.initializers.append(numpy_helper.from_array(array, name))
            self._constants[key] = name
        return self._constants[key]

    def weight(self, part: str, array: Array, dtype: str) -> str:
        """The name of an initializer that belongs to one block alone; in a configured model it is called by its key."""
        name = f"{self.layer.name}.{part}" if self.layer.name else self.fresh(part)
        if any(tensor.name == name for tensor in self.initializers):
            return name
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array, dtype), name))
        return name

    def cast(self, name: str, dtype: str) -> str:
        return self.op("Cast", name, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def nan_as_largest(self, tensor: Tensor) -> str:
        """The tensor with infinity for NaN: where a NaN ranks is nobody's promise, and so it is not hidden."""
        infinity = self.constant(np.inf, tensor.dtype)
        return self.op("Where", self.op("IsNaN", tensor.name), infinity, tensor.name)

    def smallest(self, value: float, dtype: str) -> str:
        """A divisor's lower bound, as a constant that the dtype can tell from zero."""
        return self.constant(max(value, float(np.finfo(dtype).smallest_normal)), dtype)

    def largest_magnitude(self, tensor: Tensor, axes: Sequence[int]) -> str:
        """The largest absolute value along the axes, which stay; 1 for zeros: what powers are computed in parts of."""
        return self.not_zero(self.reduce("ReduceMax", self.op("Abs", tensor.name), axes, keepdims=True), tensor.dtype)

    def not_zero(self, name: str, dtype: str) -> str:
        """The tensor as a divisor: 1 where it is 0."""
        zero, one = self.constant(0, dtype), self.constant(1, dtype)
        return self.op("Where", self.op("Equal", name, zero), one, name)

    def slice(self, name: str, axis: int, start: int, end: int, step: int = 1) -> str:
        """``start`` to ``end`` along one axis."""
        parts = (self.constant([value], "int64") for value in (start, end, axis, step))
        return self.op("Slice", name, *parts)

    def per_channel(self, block: BoundBlock, parameter: str, tensor: Tensor) -> str:
        """A parameter of one number, or one a channel, so that it broadcasts along the tensor's channels.

        Raises:
            ShapeMismatchError: another number of values than the tensor has channels.
        """
        values = channel_values(block, parameter, tensor)
        if self.layer.name and len(values) > 1:
            shaped = values.reshape([-1] + [1] * (tensor.rank - 1 - tensor.channel_axis))
            return self.weight(parameter, shaped, tensor.dtype)
        return self.constant(values.reshape([-1] + [1] * (tensor.rank - 1 - tensor.channel_axis)), tensor.dtype)

    def count(self, tensor: Tensor, axes: Sequence[int], *, less: int = 0) -> str:
        """How many values the axes hold, less so many; at least one, so that nothing is divided by zero."""
        sizes = [tensor.shape[axis] for axis in axes]
        known = [size for size in sizes if isinstance(size, int)]
        if len(known) == len(sizes):
            return self.constant(max(math.prod(known) - less, 1), tensor.dtype)
        shape = self.op("Gather", self.op("Shape", tensor.name), self.constant(list(axes), "int64"))
        count = self.op("Sub", self.reduce("ReduceProd", shape, [0], keepdims=False), self.constant(less, "int64"))
        return self.cast(self.op("Max", count, self.constant(1, "int64")), tensor.dtype)

    def top_places(self, name: str, k: int, axis: int) -> str:
        """Where the k largest values along an axis lie, in rising order."""
        count = self.constant([k], "int64")
        _, places = self.outputs("TopK", name, count, count=2, axis=axis, largest=1, sorted=0)
        rising, _ = self.outputs("TopK", places, count, count=2, axis=axis, largest=0, sorted=1)
        return rising

    def reduce(self, op_type: str, name: str, axes: Sequence[int], *, keepdims: bool) -> str:
        """A reduction such as ReduceMean over the axes."""
        keep = int(keepdims)
        if self._opset >= AXES_BECAME_INPUTS or op_type == "ReduceSum":
            return self.op(op_type, name, self.constant(list(axes), "int64"), keepdims=keep)
        return self.op(op_type, name, axes=list(axes), keepdims=keep)


def channel_values(block: BoundBlock, parameter: str, tensor: Tensor) -> Array:
    """A parameter of one number, or one a channel.

    Raises:
        ShapeMismatchError: another number of values than the tensor has channels.
    """
    values = np.asarray(block.numbers(parameter))
    channels = tensor.shape[tensor.channel_axis]
    if len(values) > 1 and len(values) != channels:
        message = f"{block.name}: {parameter} has {len(values)} values for {channels} channels; {tensor.describe()}"
        raise ShapeMismatchError(message, block=block.name, got=str(len(values)), expected=f"1 or {channels}")
    return values


def maximum_with_nan(builder: Builder, tensor: Tensor, maximum: Callable[[str], str]) -> str:
    """``maximum`` of the tensor, NaN where a value it looked at is NaN.

    The operators' own answer depends on where the NaN lies among the values: a comparison with it is false.
    """
    flags = builder.cast(builder.op("IsNaN", tensor.name), tensor.dtype)
    found = builder.op("Greater", maximum(flags), builder.constant(0, tensor.dtype))
    return builder.op("Where", found, builder.constant(np.nan, tensor.dtype), maximum(tensor.name))


def minimum_with_nan(builder: Builder, tensor: Tensor, maximum: Callable[[str], str]) -> str:
    """The minimum as the maximum of the negated tensor; NaN as in `maximum_with_nan`."""
    negated = replace(tensor, name=builder.op("Neg", tensor.name))
    return builder.op("Neg", maximum_with_nan(builder, negated, maximum))


def check_nodes(count: int) -> None:
    """Raise `RequestTooLargeError` where the heads of a request are too many operators."""
    if count > MOST_NODES:
        message = f"the heads would be more than {MOST_NODES} operators; send fewer at once, or smaller windows"
        raise RequestTooLargeError(message, limit=MOST_NODES)


def check_numbers(count: int, what: str) -> None:
    """Raise `RequestTooLargeError` where a block would make a constant of too many numbers."""
    if count > MOST_NUMBERS:
        message = f"{what} would be a constant of {count} numbers and the limit is {MOST_NUMBERS}; take a smaller map"
        raise RequestTooLargeError(message, limit=MOST_NUMBERS, numbers=count)


Emitter: TypeAlias = Callable[[Builder, Tensor, BoundBlock], Tensor]


def elementwise(op_type: str) -> Emitter:
    """The emitter of a block that is one operator of one input."""

    def emit(builder: Builder, tensor: Tensor, _block: BoundBlock) -> Tensor:
        return replace(tensor, name=builder.op(op_type, tensor.name))

    return emit


def misfit(block: BoundBlock, tensor: Tensor, problem: str, expected: str) -> ShapeMismatchError:
    """The error of a block that does not fit its tensor."""
    message = f"{block.name}: {problem}; {tensor.describe()}"
    return ShapeMismatchError(message, block=block.name, got=tensor.shape_text, expected=expected)


def require_places(tensor: Tensor, block: BoundBlock) -> tuple[int, ...]:
    """The tensor's spatial axes.

    Raises:
        ShapeMismatchError: it has none.
    """
    if not tensor.spatial_axes:
        message = f"{block.name} needs N×C×H×W or N×T×C, and {tensor.describe()}"
        raise ShapeMismatchError(message, block=block.name, got=tensor.shape_text, expected="[N, C, H, W] or [N, T, C]")
    return tensor.spatial_axes


def as_nchw(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """The tensor as N×C×H×W, which is what ONNX's window operators take.

    Raises:
        ShapeMismatchError: it has no height and width.
    """
    if tensor.layout is Layout.NCHW:
        return tensor
    if tensor.layout is Layout.NHWC:
        batch, height, width, channels = tensor.shape
        name = builder.op("Transpose", tensor.name, perm=[0, 3, 1, 2])
        return replace(tensor, name=name, shape=(batch, channels, height, width), layout=Layout.NCHW)
    message = f"{block.name} needs height and width, and {tensor.describe()}"
    raise ShapeMismatchError(message, block=block.name, got=tensor.shape_text, expected="[N, C, H, W]")


def back_to(layout: Layout, builder: Builder, tensor: Tensor) -> Tensor:
    """An N×C×H×W tensor in the layout that the block found."""
    if layout is not Layout.NHWC:
        return tensor
    batch, channels, height, width = tensor.shape
    name = builder.op("Transpose", tensor.name, perm=[0, 2, 3, 1])
    return replace(tensor, name=name, shape=(batch, height, width, channels), layout=Layout.NHWC)
