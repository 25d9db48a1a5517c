"""`Step`, the view of one node that its rule works on, and `Value`, with which rules write formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from layertap.types import Array
from layertap_server.blocks.builder import Builder
from layertap_server.graph.walk import attribute_of
from layertap_server.tensor import Dim, Tensor


class StepError(Exception):
    """A rule cannot be applied to a node; the message says why."""


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor in a formula. Operators emit nodes; numbers become constants of the tensor's dtype."""

    name: str
    dtype: str
    builder: Builder

    def op(self, op_type: str, *others: Value | float, **attributes: Any) -> Value:
        """Emit an operator whose first input is this tensor."""
        names = [other.name if isinstance(other, Value) else self.constant(other) for other in others]
        return Value(self.builder.op(op_type, self.name, *names, **attributes), self.dtype, self.builder)

    def constant(self, number: float) -> str:
        """Return the name of a constant of this tensor's dtype."""
        return self.builder.constant(number, self.dtype)

    def integers(self, numbers: Sequence[int]) -> Value:
        """Return a constant vector of int64."""
        return Value(self.builder.constant(list(numbers), "int64"), "int64", self.builder)

    def __add__(self, other: Value | float) -> Value:
        """Emit a sum."""
        return self.op("Add", other)

    def __sub__(self, other: Value | float) -> Value:
        """Emit a difference."""
        return self.op("Sub", other)

    def __rsub__(self, other: float) -> Value:
        """Emit a number minus this tensor."""
        return self.op("Neg").op("Add", other)

    def __mul__(self, other: Value | float) -> Value:
        """Emit a product."""
        return self.op("Mul", other)

    def __truediv__(self, other: Value | float) -> Value:
        """Emit a quotient."""
        return self.op("Div", other)

    def __neg__(self) -> Value:
        """Emit the negative."""
        return self.op("Neg")

    def __gt__(self, other: Value | float) -> Value:
        """Emit the condition that this tensor is larger."""
        return self.op("Greater", other)

    def __ge__(self, other: Value | float) -> Value:
        """Emit the condition that this tensor is not smaller."""
        return self.op("GreaterOrEqual", other)

    def choose(self, yes: Value | float, no: Value | float, dtype: str) -> Value:
        """Emit ``yes`` where this condition is true, and ``no`` elsewhere."""
        names = [side.name if isinstance(side, Value) else self.builder.constant(side, dtype) for side in (yes, no)]
        return Value(self.builder.op("Where", self.name, *names), dtype, self.builder)

    def reduce(self, op_type: str, axes: Sequence[int]) -> Value:
        """Emit a reduction along axes, which keep size 1."""
        return Value(self.builder.reduce(op_type, self.name, axes, keepdims=True), self.dtype, self.builder)

    def shape(self, start: int | None = None, end: int | None = None) -> Value:
        """Emit the shape, or the sizes of the axes from ``start`` to before ``end``."""
        return Value(self.builder.op("Shape", self.name, start=start, end=end), "int64", self.builder)

    def size(self, axis: int) -> Value:
        """Emit the size of one axis, as a vector of one number."""
        return self.shape(axis, axis + 1)

    def slice(self, axis: int, start: int, end: int, step: int = 1) -> Value:
        """Emit a slice along one axis."""
        return Value(self.builder.slice(self.name, axis, start, end, step), self.dtype, self.builder)

    def expand(self, shape: Value) -> Value:
        """Emit the tensor broadcast to a shape."""
        return self.op("Expand", shape)

    def reshape(self, shape: Value | Sequence[int]) -> Value:
        """Emit the values in another shape."""
        return self.op("Reshape", shape if isinstance(shape, Value) else self.integers(shape))

    def transpose(self, order: Sequence[int]) -> Value:
        """Emit the tensor with its axes in another order."""
        return self.op("Transpose", perm=list(order))

    def widened(self) -> Value:
        """Emit the tensor as float32 if it is float16, in which onnxruntime's scattering operators do not add."""
        return self.cast("float32") if self.dtype == "float16" else self

    def cast(self, dtype: str) -> Value:
        """Emit a cast to a NumPy dtype, unless the tensor has it."""
        return self if dtype == self.dtype else Value(self.builder.cast(self.name, dtype), dtype, self.builder)


@dataclass(frozen=True, slots=True)
class Step:
    """One node of the forward graph and the cotangents of its outputs."""

    node: onnx.NodeProto
    builder: Builder
    types: Mapping[str, Tensor]
    """Types of the tensors by name."""
    constant_of: Callable[[str], Array | None]
    """Function that returns the value of a small constant, or None."""
    cotangents: Sequence[str]
    """Names of the cotangents of the outputs; empty for an output that the target does not depend on."""

    @property
    def x(self) -> Value:
        """First input."""
        return self.input(0)

    @property
    def y(self) -> Value:
        """First output."""
        return self._value(self.node.output[0])

    @property
    def g(self) -> Value:
        """Cotangent of the first output."""
        return Value(self.cotangents[0], self.dtype_of(self.node.output[0]), self.builder)

    def input(self, index: int) -> Value:
        """Return an input that the node has."""
        return self._value(self.node.input[index])

    def has_input(self, index: int) -> bool:
        """Return whether an optional input is given."""
        return index < len(self.node.input) and bool(self.node.input[index])

    def _value(self, name: str) -> Value:
        """Return a tensor of the forward graph."""
        return Value(name, self.dtype_of(name), self.builder)

    def dtype_of(self, name: str) -> str:
        """Return the dtype of a tensor.

        Raises:
            StepError: it is not known.
        """
        return self.type_of(name).dtype

    def type_of(self, name: str) -> Tensor:
        """Return the type of a tensor.

        Raises:
            StepError: it is not known.
        """
        if name not in self.types:
            raise StepError(f"the shape of its tensor {name!r} is not known")
        return self.types[name]

    def shape_of(self, index: int) -> tuple[Dim, ...]:
        """Return the shape of an input, with symbolic sizes as strings."""
        return self.type_of(self.node.input[index]).shape

    @property
    def channels(self) -> int:
        """Number of channels of the first input, N×C×positions.

        Raises:
            StepError: it is not fixed.
        """
        size = self.shape_of(0)[1]
        if not isinstance(size, int):
            raise StepError("its number of channels is not fixed")
        return size

    def sizes_of(self, name: str, axes: Sequence[int]) -> list[int] | None:
        """Return the sizes of a tensor along axes; None if one is not fixed."""
        sizes = [self.type_of(name).shape[axis] for axis in axes]
        fixed = [size for size in sizes if isinstance(size, int)]
        return fixed if len(fixed) == len(sizes) else None

    def number(self, name: str, default: float) -> float:
        """Return a number that is an attribute of the node."""
        return float(self.attribute(name, default))

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute of the node; text is decoded."""
        return attribute_of(self.node, name, default)

    def constant_input(self, index: int) -> Array | None:
        """Return the value of an input; None if it is not given.

        Raises:
            StepError: the input is not constant.
        """
        if not self.has_input(index):
            return None
        value = self.constant_of(self.node.input[index])
        if value is None:
            raise StepError(f"its input {self.node.input[index]!r} is not constant")
        return value

    def axes(self, index: int = 1) -> list[int]:
        """Return the axes of a reduction, from the attribute or the input ``index``, none negative."""
        rank = len(self.shape_of(0))
        given = self.attribute("axes")
        if given is None:
            given = self.constant_input(index)
        if given is None or not len(given):
            return [] if self.attribute("noop_with_empty_axes", 0) else list(range(rank))
        return sorted(int(axis) % rank for axis in given)

    def sum_to(self, value: Value, index: int) -> Value:
        """Emit the sum of a tensor in the output's shape over the axes along which an input was broadcast."""
        return self.sum_between(value, self.type_of(self.node.output[0]).shape, self.shape_of(index))

    def sum_between(self, value: Value, given: Sequence[Dim], wanted: Sequence[Dim]) -> Value:
        """Emit the sum of a tensor of shape ``given`` over the axes along which ``wanted`` was broadcast to it."""
        missing = len(given) - len(wanted)
        axes = [axis for axis, size in enumerate(given) if axis < missing or (wanted[axis - missing] == 1 != size)]
        if axes:
            value = value.reduce("ReduceSum", axes)
        return value.op("Squeeze", value.integers(range(missing))) if missing else value

    def constant(self, value: Array | float, dtype: str) -> Value:
        """Return a constant."""
        return Value(self.builder.constant(value, dtype), dtype, self.builder)

    def zeros(self, shape: Value, dtype: str) -> Value:
        """Emit zeros of a shape."""
        return self.constant(0, dtype).expand(shape)
