"""`Builder`, with which emitters append nodes."""

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
from layertap_server.tensor import Tensor

MOST_NODES = 20_000
"""Maximum number of nodes that the heads of a request may have."""
MOST_NUMBERS = 2**24
"""Maximum number of values of a constant that a block creates."""

INNER, BLOCK, PATH, LAYOUT = "layertap.inner", "layertap.block", "layertap.path", "layertap.layout"
"""Metadata keys of nodes.

`INNER` marks a node inside a block, which has no layer. The last node of a block holds the block's name (`BLOCK`), the
module path of the layer (`PATH`) and its layout (`LAYOUT`).
"""

NO_POSITIONS = ("N", "C")
"""Axes of a vector, the only tensor whose channels are known without a layout."""
AXES_BECAME_INPUTS = 18
"""First opset in which all reductions take their axes as an input."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Layer of a configured model that is being emitted; the default for heads."""

    name: str = ""
    """Name of the layer; empty for heads."""
    stored: Mapping[str, Array] = field(default_factory=dict)
    """Arrays of the weights file for the layer, by parameter: ``weight``, ``bias``, ``mean`` …"""

    @property
    def salt(self) -> int:
        """Number that makes the layer's random weights differ from those of other layers with the same seed."""
        return zlib.crc32(self.name.encode()) if self.name else 0


class Builder:
    """Builder that appends nodes and constants with unique names.

    Emitted nodes follow opset 17. The few operators that later opsets changed are written for the opset of the model,
    since a graph has one opset.
    """

    def __init__(self, opset: int, prefix: str = "layertap") -> None:
        """Start without nodes.

        Args:
            opset: Opset of the model, at least 17.
            prefix: Prefix of all names that the builder creates.
        """
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.layer = Layer()
        self._opset = opset
        self.computed_bytes = 0
        """Bytes of the tensors that the emitted heads compute for one image; symbolic sizes count as 1."""
        self.operations = 0
        """Price of the emitted heads for one image, in the operations of ``blocks.operations``."""
        self.most_expensive: tuple[str, int] = ("", 0)
        """Name and price of the most expensive block."""
        self._prefix = prefix
        self._count = 0
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def fresh(self, hint: str) -> str:
        """Return a new name that ends in ``hint``."""
        self._count += 1
        return f"{self._prefix}/{self._count}/{hint}"

    def count_computed(self, tensor: Tensor, times: int = 1) -> None:
        """Add ``times`` times the bytes of a tensor's values for one image to `computed_bytes`."""
        known = [size for size in tensor.shape[1:] if isinstance(size, int)]
        self.computed_bytes += times * math.prod(known) * np.dtype(tensor.dtype).itemsize

    def count_operations(self, count: int) -> None:
        """Add operations for one image to the price, beyond the passes that `emit_block` counts."""
        self.operations += count

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Append a node with one output and return the name of the output. Attributes that are None are left out."""
        return self.outputs(op_type, *inputs, count=1, **attributes)[0]

    def outputs(self, op_type: str, *inputs: str, count: int, **attributes: Any) -> list[str]:
        """Append a node with ``count`` outputs and return their names.

        Raises:
            RequestTooLargeError: The builder has too many nodes.
        """
        check_nodes(len(self.nodes) + 1)
        names = [self.fresh(op_type) for _ in range(count)]
        given = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(helper.make_node(op_type, list(inputs), names, name=names[0], **given))
        return names

    def name_result(self, start: int, tensor: Tensor, name: str, *, node: str, block: str, path: str = "") -> Tensor:
        """Rename the result of a block to a layer's name, and mark the block's other nodes as `INNER`.

        Args:
            start: Index of the block's first node.
            tensor: Result of the block.
            name: Name of the layer.
            node: Name of the node that computes the layer.
            block: Name of the block, reported as the layer's operator if the block has several nodes.
            path: Module path of the layer.

        Returns:
            The result under its new name.
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
        """Return the name of a constant; equal constants share one initializer."""
        array = np.asarray(value, dtype)
        key = (dtype, array.shape, array.tobytes())
        if key not in self._constants:
            name = self.fresh("constant")
            self.initializers.append(numpy_helper.from_array(array, name))
            self._constants[key] = name
        return self._constants[key]

    def weight(self, part: str, array: Array, dtype: str) -> str:
        """Return the name of an initializer of one block; in a configured model it is ``layer.part``."""
        name = f"{self.layer.name}.{part}" if self.layer.name else self.fresh(part)
        if any(tensor.name == name for tensor in self.initializers):
            return name
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array, dtype), name))
        return name

    def cast(self, name: str, dtype: str) -> str:
        """Emit a cast to a NumPy dtype."""
        return self.op("Cast", name, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def nan_as_largest(self, tensor: Tensor) -> str:
        """Emit the tensor with infinity for NaN. ONNX does not define the rank of a NaN, so it could be lost."""
        infinity = self.constant(np.inf, tensor.dtype)
        return self.op("Where", self.op("IsNaN", tensor.name), infinity, tensor.name)

    def smallest(self, value: float, dtype: str) -> str:
        """Return a constant of at least the smallest normal number of the dtype, as the lower bound of a divisor."""
        return self.constant(max(value, float(np.finfo(dtype).smallest_normal)), dtype)

    def largest_magnitude(self, tensor: Tensor, axes: Sequence[int]) -> str:
        """Emit the largest absolute value along axes, which keep size 1; 1 where all values are 0.

        Values are divided by it before they are raised to a power, which could overflow otherwise.
        """
        return self.not_zero(self.reduce("ReduceMax", self.op("Abs", tensor.name), axes, keepdims=True), tensor.dtype)

    def not_zero(self, name: str, dtype: str) -> str:
        """Emit the tensor with 1 in place of 0, as a divisor."""
        zero, one = self.constant(0, dtype), self.constant(1, dtype)
        return self.op("Where", self.op("Equal", name, zero), one, name)

    def slice(self, name: str, axis: int, start: int, end: int, step: int = 1) -> str:
        """Emit a slice from ``start`` to ``end`` along one axis."""
        parts = (self.constant([value], "int64") for value in (start, end, axis, step))
        return self.op("Slice", name, *parts)

    def per_channel(self, block: BoundBlock, parameter: str, tensor: Tensor) -> str:
        """Return a constant of a parameter with one value, or one for each channel, that broadcasts to the tensor.

        Raises:
            ShapeMismatchError: The number of values is neither 1 nor the number of channels.
        """
        values = channel_values(block, parameter, tensor)
        if self.layer.name and len(values) > 1:
            shaped = values.reshape([-1] + [1] * (tensor.rank - 1 - tensor.channel_axis))
            return self.weight(parameter, shaped, tensor.dtype)
        return self.constant(values.reshape([-1] + [1] * (tensor.rank - 1 - tensor.channel_axis)), tensor.dtype)

    def count(self, tensor: Tensor, axes: Sequence[int], *, less: int = 0) -> str:
        """Emit the number of values along axes minus ``less``, but at least 1, as a divisor."""
        sizes = [tensor.shape[axis] for axis in axes]
        known = [size for size in sizes if isinstance(size, int)]
        if len(known) == len(sizes):
            return self.constant(max(math.prod(known) - less, 1), tensor.dtype)
        shape = self.op("Gather", self.op("Shape", tensor.name), self.constant(list(axes), "int64"))
        count = self.op("Sub", self.reduce("ReduceProd", shape, [0], keepdims=False), self.constant(less, "int64"))
        return self.cast(self.op("Max", count, self.constant(1, "int64")), tensor.dtype)

    def top_indices(self, name: str, k: int, axis: int) -> str:
        """Emit the indices of the k largest values along an axis, in ascending order."""
        count = self.constant([k], "int64")
        _, indices = self.outputs("TopK", name, count, count=2, axis=axis, largest=1, sorted=0)
        rising, _ = self.outputs("TopK", indices, count, count=2, axis=axis, largest=0, sorted=1)
        return rising

    def reduce(self, op_type: str, name: str, axes: Sequence[int], *, keepdims: bool) -> str:
        """Emit a reduction such as ReduceMean over axes."""
        keep = int(keepdims)
        if self._opset >= AXES_BECAME_INPUTS or op_type == "ReduceSum":
            return self.op(op_type, name, self.constant(list(axes), "int64"), keepdims=keep)
        return self.op(op_type, name, axes=list(axes), keepdims=keep)


def channel_values(block: BoundBlock, parameter: str, tensor: Tensor) -> Array:
    """Return a parameter with one value, or one for each channel, as float64.

    Raises:
        ShapeMismatchError: The number of values is neither 1 nor the number of channels.
    """
    values = np.asarray(block.numbers(parameter))
    if len(values) > 1:
        require_channel_axis(tensor, block)
    channels = tensor.shape[tensor.channel_axis]
    if len(values) > 1 and len(values) != channels:
        message = f"{block.name}: {parameter} has {len(values)} values for {channels} channels; {tensor.describe()}"
        raise ShapeMismatchError(message, block=block.name, got=str(len(values)), expected=f"1 or {channels}")
    return values


def maximum_with_nan(builder: Builder, tensor: Tensor, maximum: Callable[[str], str]) -> str:
    """Emit a maximum that is NaN where any of its values is NaN.

    ``maximum`` emits the plain maximum of the tensor with the given name. The result of ONNX's operators depends on the
    position of a NaN among the values, because comparisons with NaN are false.
    """
    flags = builder.cast(builder.op("IsNaN", tensor.name), tensor.dtype)
    has_nan = builder.op("Greater", maximum(flags), builder.constant(0, tensor.dtype))
    return builder.op("Where", has_nan, builder.constant(np.nan, tensor.dtype), maximum(tensor.name))


def minimum_with_nan(builder: Builder, tensor: Tensor, maximum: Callable[[str], str]) -> str:
    """Emit a minimum as the negated maximum of the negated tensor; NaN as in `maximum_with_nan`."""
    negated = replace(tensor, name=builder.op("Neg", tensor.name))
    return builder.op("Neg", maximum_with_nan(builder, negated, maximum))


def check_nodes(count: int) -> None:
    """Raise `RequestTooLargeError` if the heads of a request have more than `MOST_NODES` nodes."""
    if count > MOST_NODES:
        message = f"the heads would be more than {MOST_NODES} operators; send fewer at once, or smaller windows"
        raise RequestTooLargeError(message, limit=MOST_NODES)


def check_numbers(count: int, what: str) -> None:
    """Raise `RequestTooLargeError` if a block would create a constant of more than `MOST_NUMBERS` values."""
    if count > MOST_NUMBERS:
        message = f"{what} would be a constant of {count} numbers and the limit is {MOST_NUMBERS}; use a smaller map"
        raise RequestTooLargeError(message, limit=MOST_NUMBERS, numbers=count)


Emitter: TypeAlias = Callable[[Builder, Tensor, BoundBlock], Tensor]
"""Function that emits a block on a tensor and returns the result."""


def elementwise(op_type: str) -> Emitter:
    """Return the emitter of a block that is one operator with one input."""

    def emit(builder: Builder, tensor: Tensor, _block: BoundBlock) -> Tensor:
        return replace(tensor, name=builder.op(op_type, tensor.name))

    return emit


def misfit(block: BoundBlock, tensor: Tensor, problem: str, expected: str) -> ShapeMismatchError:
    """Return the error for a block that cannot be applied to a tensor."""
    message = f"{block.name}: {problem}; {tensor.describe()}"
    return ShapeMismatchError(message, block=block.name, got=tensor.shape_text, expected=expected)


def require_channel_axis(tensor: Tensor, block: BoundBlock) -> int:
    """Return the channel axis of a tensor.

    Raises:
        ShapeMismatchError: The layout of the tensor is not known.
    """
    if tensor.layout is Layout.OTHER and tensor.rank > len(NO_POSITIONS):
        message = f"{block.name} works on channels, and {tensor.describe()}{tensor.layout_advice}"
        raise ShapeMismatchError(message, block=block.name, got=tensor.shape_text, expected="a known layout")
    return tensor.channel_axis
