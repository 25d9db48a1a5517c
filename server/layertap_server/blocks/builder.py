"""What emitters work with: a tensor of the graph, and the builder that appends nodes to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import helper, numpy_helper

from layertap.blocks import BoundBlock
from layertap.errors import ShapeMismatchError
from layertap.types import Array, Layout

Dim: TypeAlias = int | str
"""A size, or the name of one that is not known."""

AXES_BECAME_INPUTS = 18
"""The opset in which the reductions that still had it lost their attribute ``axes``."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a graph: its name there, what it holds and what its axes mean."""

    name: str
    dtype: str
    shape: tuple[Dim, ...]
    layout: Layout

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

    def axis(self, logical: int) -> int:
        """Where an axis that is counted as in N×C×H×W lies in this tensor's layout."""
        rank = self.rank
        if not -rank <= logical < rank:
            message = f"axis {logical} does not exist: {self.describe()}"
            raise ShapeMismatchError(message, got=self.shape_text, axis=logical)
        order = (0, self.channel_axis, *self.spatial_axes)
        return order[logical] if len(order) == rank else logical % rank

    @property
    def shape_text(self) -> str:
        return "[" + ", ".join(str(size) for size in self.shape) + "]"

    def describe(self) -> str:
        """For messages: ``the tensor has shape [N, 40, 28, 28] (NCHW, float32)``."""
        return f"the tensor has shape {self.shape_text} ({self.layout}, {self.dtype})"

    def with_shape(self, *shape: Dim, layout: Layout | None = None) -> Tensor:
        return replace(self, shape=shape, layout=layout or self.layout)


class Builder:
    """Appends nodes and constants to a graph under names that nothing else has.

    Emitted nodes are of opset 17; the few that later opsets changed are written as the model's own opset wants them,
    since one graph has one opset.
    """

    def __init__(self, opset: int, prefix: str = "layertap") -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._opset = opset
        self._prefix = prefix
        self._count = 0
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def fresh(self, hint: str) -> str:
        self._count += 1
        return f"{self._prefix}/{self._count}/{hint}"

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Appends a node of one output; returns the output's name."""
        output = self.fresh(op_type)
        given = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(helper.make_node(op_type, list(inputs), [output], name=output, **given))
        return output

    def constant(self, value: Array | float | Sequence[float], dtype: str) -> str:
        """The name of a constant; equal ones are one."""
        array = np.asarray(value, dtype)
        key = (dtype, array.shape, array.tobytes())
        if key not in self._constants:
            name = self.fresh("constant")
            self.initializers.append(numpy_helper.from_array(array, name))
            self._constants[key] = name
        return self._constants[key]

    def reduce(self, op_type: str, name: str, axes: Sequence[int], *, keepdims: bool) -> str:
        """A reduction such as ReduceMean over the axes."""
        keep = int(keepdims)
        if self._opset >= AXES_BECAME_INPUTS or op_type == "ReduceSum":
            return self.op(op_type, name, self.constant(list(axes), "int64"), keepdims=keep)
        return self.op(op_type, name, axes=list(axes), keepdims=keep)


def maximum_with_nan(builder: Builder, tensor: Tensor, maximum: Callable[[str], str]) -> str:
    """``maximum`` of the tensor, NaN where a value it looked at is NaN.

    The operators' own answer depends on where the NaN lies among the values: a comparison with it is false.
    """
    flags = builder.op(
        "Cast", builder.op("IsNaN", tensor.name), to=helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
    )
    found = builder.op("Greater", maximum(flags), builder.constant(0, tensor.dtype))
    return builder.op("Where", found, builder.constant(np.nan, tensor.dtype), maximum(tensor.name))


Emitter: TypeAlias = Callable[[Builder, Tensor, BoundBlock], Tensor]


def elementwise(op_type: str) -> Emitter:
    """The emitter of a block that is one operator of one input."""

    def emit(builder: Builder, tensor: Tensor, _block: BoundBlock) -> Tensor:
        return replace(tensor, name=builder.op(op_type, tensor.name))

    return emit


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
