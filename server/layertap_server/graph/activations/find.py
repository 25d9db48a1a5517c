"""Detection of activations, whether they are one operator or written as several nodes.

A tensor is an activation if it is an elementwise function of one other tensor and has the values of a formula of
`formulas`. The nodes between the two are its inner nodes: the sigmoid of a SiLU or the erf of a GELU are no activations
of their own, unless another part of the graph reads them too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx

from layertap import blocks
from layertap.blocks import BlockKind
from layertap.types import Array
from layertap_server.blocks import BLOCK, INNER
from layertap_server.graph.activations.expressions import Expression, Expressions
from layertap_server.graph.activations.formulas import GRID, name_of
from layertap_server.graph.activations.gated import is_gated
from layertap_server.graph.activations.operators import DOMAINS
from layertap_server.graph.walk import attribute_of, metadata_of

OPERATORS: Mapping[str, str] = {
    "Celu": "celu",
    "Elu": "elu",
    "FastGelu": "gelu",
    "Gelu": "gelu",
    "HardSigmoid": "hard_sigmoid",
    "HardSwish": "hard_swish",
    "LeakyRelu": "leaky_relu",
    "Mish": "mish",
    "PRelu": "prelu",
    "QuickGelu": "quick_gelu",
    "Relu": "relu",
    "Selu": "selu",
    "Shrink": "hardshrink",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Swish": "swish",
    "Tanh": "tanh",
    "ThresholdedRelu": "thresholded_relu",
}
"""Name in the catalogue of each ONNX operator that is an activation whatever its attributes and inputs are."""


@dataclass(frozen=True, slots=True)
class Activation:
    """An activation of a graph."""

    name: str
    """Name in the catalogue of blocks."""
    source: str
    """Name of the tensor that it is applied to; empty if not known."""
    nodes: tuple[onnx.NodeProto, ...] = field(default=(), repr=False)
    """The nodes that compute it, in execution order."""

    @property
    def is_composite(self) -> bool:
        """Whether it is written as several nodes."""
        return len(self.nodes) > 1


def activations_of(
    proto: onnx.ModelProto, inputs: Collection[str], floats: Collection[str]
) -> Mapping[str, Activation]:
    """Return the activations of a model by the names of their results.

    Args:
        proto: The model, its nodes in execution order.
        inputs: Names of the model's inputs.
        floats: Names of the tensors that hold floating-point numbers; others are no activations.
    """
    search = _Search(Expressions(proto, list(inputs)), floats)
    for node in proto.graph.node:
        search.visit(node)
    return search.outermost()


class _Search:
    """Search for the activations of one graph, node by node."""

    def __init__(self, expressions: Expressions, floats: Collection[str]) -> None:
        """Start without activations."""
        self._expressions = expressions
        self._floats = floats
        self._found: dict[str, Activation] = {}

    def visit(self, node: onnx.NodeProto) -> None:
        """Record the result of a node if it is an activation."""
        name = node.output[0] if node.output else ""
        if name not in self._floats or metadata_of(node, INNER):
            return
        block = metadata_of(node, BLOCK)
        found = _block(block) if block else self._operator(node) or self._gated(node) or self._composite(node)
        if found is not None:
            self._found[name] = found

    def _operator(self, node: onnx.NodeProto) -> Activation | None:
        """Return the activation of a node that is one operator."""
        name = OPERATORS.get(node.op_type) if node.domain in DOMAINS else None
        if node.op_type == "Shrink" and attribute_of(node, "bias", 0.0):
            name = "softshrink"
        return Activation(name, node.input[0], (node,)) if name else None

    def _gated(self, node: onnx.NodeProto) -> Activation | None:
        """Return the gated linear unit that ends with a node."""
        if node.op_type != "Mul":
            return None
        for value, gate in (tuple(node.input), tuple(node.input[::-1])):
            sigmoid = self._found.get(gate)
            if sigmoid and sigmoid.name == "sigmoid" and is_gated(self._expressions, value, sigmoid.source):
                return Activation("glu", "", (*sigmoid.nodes, node))
        return None

    def _composite(self, node: onnx.NodeProto) -> Activation | None:
        """Return the activation that ends with a node: of several that fit, the one that starts earliest."""
        if not self._expressions.is_elementwise(node):
            return None
        found = None
        for expression in self._expressions.expressions(node.output[0]):
            values = self._expressions.values(expression, GRID)
            name = name_of(values[node.output[0]]) if values else ""
            if values and name:
                if self._repeats(expression, values):
                    return None
                found = Activation(name, expression.source, expression.nodes)
        return found

    def _repeats(self, expression: Expression, values: Mapping[str, Array]) -> bool:
        """Return whether an expression only passes on the values of an activation inside it or of its source."""
        result = values[expression.nodes[-1].output[0]]
        inner = [node.output[0] for node in expression.nodes[:-1]]
        return any(name in self._found and _are_equal(values[name], result) for name in inner)

    def outermost(self) -> Mapping[str, Activation]:
        """Return the activations without those that only others contain."""
        inside: set[str] = set()
        for activation in self._found.values():
            own = {id(node) for node in activation.nodes}
            for node in activation.nodes[:-1]:
                name = node.output[0]
                readers = self._expressions.readers.get(name, ())
                if all(id(reader) in own for reader in readers):
                    inside.add(name)
        return {name: found for name, found in self._found.items() if name not in inside}


def _block(name: str) -> Activation | None:
    """Return the activation that a block of a configured model is, or None if it is of another kind."""
    spec = blocks.find(name)
    return Activation(spec.name, "") if spec is not None and spec.kind is BlockKind.ACTIVATION else None


def _are_equal(one: Array, other: Array) -> bool:
    """Return whether two functions have the same values."""
    return bool(np.allclose(one, other, rtol=1e-6, atol=1e-6))
