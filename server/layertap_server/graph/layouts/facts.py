"""Facts about a graph that the inference of axes reads: shapes, constants, and which tensors hold image values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx
from onnx import numpy_helper

from layertap_server.graph.layouts.axes import (
    LINE_RANK,
    UNKNOWN,
    Axes,
    Axis,
    Shape,
    is_open,
    resized,
    role_of,
    roles_of,
    whole,
)
from layertap_server.graph.walk import attribute_of, depends_on, reads
from layertap_server.tensor import Dim

MOST_CONSTANTS = 1024
"""Maximum number of values of a constant that is read, such as the axes of a Squeeze."""


@dataclass
class Facts:
    """What is known about the tensors of a graph; `axes` grows while it is inferred."""

    graph: onnx.GraphProto
    shapes: Mapping[str, Shape]
    """Shapes of the tensors whose shape is known."""
    batch: Dim
    """Size of the batch axis of the model's first input."""
    axes: dict[str, Axes] = field(default_factory=dict)
    """Axes of the tensors that depend on the inputs."""
    changed: bool = False
    """Whether an axis became known since this was last cleared."""
    valued: frozenset[str] = frozenset()
    """Tensors whose values depend on those of the inputs, not only on their shapes."""
    fed: frozenset[str] = frozenset()
    """Tensors that depend on the inputs, be it only on their shapes, such as class tokens for each image."""
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: onnx.GraphProto, shapes: Mapping[str, Shape], inputs: Sequence[str]) -> Facts:
        """Return the facts of a graph without known axes. ``inputs`` begins with the image input."""
        constants = {tensor.name: tensor for tensor in graph.initializer}
        known = {**{name: tuple(tensor.dims) for name, tensor in constants.items()}, **shapes}
        first = shapes.get(inputs[0], ()) if inputs else ()
        return cls(
            graph,
            known,
            first[0] if first else "",
            valued=_valued(graph, frozenset(inputs)),
            fed=depends_on(graph, inputs),
            constants=constants,
        )

    def fill(self, name: str, axes: Sequence[Axis]) -> None:
        """Record axes of a tensor where they are not known yet."""
        shape = self.shapes.get(name)
        if shape is None or len(shape) != len(axes) or name not in self.fed:
            return
        known = self.axes.get(name, (UNKNOWN,) * len(shape))
        taken = {role_of(axis) for axis in known} & {"N", "C"}
        merged = [
            new if is_open(old) and new and role_of(new) not in taken else old
            for old, new in zip(known, axes, strict=True)
        ]
        if not merged or tuple(merged) == known:
            return
        self.axes[name] = tuple(merged)
        self.changed = True

    def complete(self, name: str) -> None:
        """Record the axes of a tensor that follow from its sizes and its other axes.

        A first axis of the batch's size is the batch. Of three axes, the one beside batch and channels holds positions.
        """
        shape = self.shapes.get(name, ())
        if shape and shape[0] == self.batch:
            self.fill(name, [whole("N", self.batch), *[UNKNOWN] * (len(shape) - 1)])
        roles = roles_of(self.known(name))
        if len(roles) == LINE_RANK and sorted(roles) == ["?", "C", "N"] and () in self.known(name):
            self.fill(name, [whole("T", size) for size in shape])

    def known(self, name: str) -> Axes:
        """Return the axes of a tensor, each `UNKNOWN` if it is not known."""
        return self.axes.get(name) or (UNKNOWN,) * len(self.shapes.get(name, ()))

    def fit(self, name: str, target: str) -> Axes:
        """Return the axes of one tensor for another of the same rank, by `resized`; () if the ranks differ."""
        axes, own, shape = self.known(name), self.shapes.get(name, ()), self.shapes.get(target, ())
        if len(own) != len(shape) or len(axes) != len(own):
            return ()
        return tuple(resized(axis, new, old) for axis, old, new in zip(axes, own, shape, strict=True))

    def integers(self, node: onnx.NodeProto, index: int, attribute: str = "") -> list[int] | None:
        """Return an input of integers of a node, or the attribute that older opsets have; None if it is not known."""
        if attribute and any(item.name == attribute for item in node.attribute):
            return [int(value) for value in attribute_of(node, attribute, [])]
        tensor = self.constants.get(node.input[index]) if index < len(node.input) else None
        if tensor is None or tensor.data_location == onnx.TensorProto.EXTERNAL:
            return None
        values = numpy_helper.to_array(tensor)
        return [int(value) for value in values.ravel()] if values.size <= MOST_CONSTANTS else None


def _valued(graph: onnx.GraphProto, inputs: frozenset[str]) -> frozenset[str]:
    """Return the tensors whose values depend on the values of the inputs; shapes do not count."""
    valued = set(inputs)
    for node in graph.node:
        if node.op_type not in {"Shape", "Size"} and any(name in valued for name in reads(node)):
            valued.update(name for name in node.output if name)
    return frozenset(valued)
