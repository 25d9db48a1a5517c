"""The backward pass: the rules applied from the target to the wanted layers, over the nodes between them only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import onnx

from layertap.types import Array
from layertap_server.blocks.builder import Builder
from layertap_server.graph.gradient.rules import RULES, WITHOUT_GRADIENT
from layertap_server.graph.gradient.step import Step, StepError
from layertap_server.tensor import Tensor

DEFAULT_DOMAINS = ("", "ai.onnx")
"""Names of ONNX's own domain."""


class NoRuleError(Exception):
    """A node between the target and a wanted layer cannot be differentiated; the message says why."""

    def __init__(self, node: onnx.NodeProto, reason: str) -> None:
        """Describe the node by its operator and its first output."""
        super().__init__(f"{node.op_type} at {node.output[0]!r} cannot be differentiated: {reason}")
        self.operator = node.op_type
        """Operator of the node."""
        self.layer = node.output[0]
        """Name of the node's first output."""


class UnrelatedTargetError(Exception):
    """The target does not depend on a wanted layer, or only through operators whose derivative is 0."""

    def __init__(self, target: str, layer: str) -> None:
        """Describe the target and the layer."""
        super().__init__(f"the target {target!r} does not depend on {layer!r} through differentiable operators")
        self.layer = layer
        """Name of the layer."""


def add_gradients(
    builder: Builder,
    nodes: Sequence[onnx.NodeProto],
    types: Mapping[str, Tensor],
    constant_of: Callable[[str], Array | None],
    target: str,
    wanted: Sequence[str],
) -> dict[str, str]:
    """Emit the gradients of the sum of a tensor with respect to others.

    The images of a batch do not influence each other, so the gradient of the sum has the gradient of each image.

    Args:
        builder: receives the nodes; they follow the forward nodes.
        nodes: the forward nodes, in topological order.
        types: types of the tensors by name.
        constant_of: function that returns the value of a small constant of integers, or None.
        target: name of the tensor whose sum is differentiated.
        wanted: names of the tensors by which it is differentiated.

    Returns:
        Names of the gradients, by wanted tensor.

    Raises:
        NoRuleError: a node between the target and a wanted tensor has no rule.
        UnrelatedTargetError: the target does not depend on a wanted tensor.
    """
    related = _depending(nodes, wanted)
    cotangents: dict[str, list[str]] = {target: [_ones(builder, target, types)]}
    for node in reversed(nodes):
        if node.op_type in WITHOUT_GRADIENT and node.domain in DEFAULT_DOMAINS:
            continue
        given = [_total(builder, cotangents, output) for output in node.output]
        if not any(given) or not related.intersection(node.input):
            continue
        step = Step(node, builder, types, constant_of, given)
        for name, cotangent in _apply(step, related):
            cotangents.setdefault(name, []).append(cotangent)
    gradients = {name: _total(builder, cotangents, name) for name in wanted}
    for name, gradient in gradients.items():
        if not gradient:
            raise UnrelatedTargetError(target, name)
    return gradients


def _depending(nodes: Iterable[onnx.NodeProto], wanted: Iterable[str]) -> set[str]:
    """Return the wanted tensors and all that depend on them."""
    related = set(wanted)
    for node in nodes:
        if related.intersection(node.input):
            related.update(node.output)
    return related


def _apply(step: Step, related: set[str]) -> list[tuple[str, str]]:
    """Apply the rule of a node; return the cotangents of those inputs that are needed, by the inputs' names."""
    node = step.node
    rule = RULES.get(node.op_type) if node.domain in DEFAULT_DOMAINS else None
    if rule is None:
        raise NoRuleError(node, "there is no rule for the operator")
    try:
        results = rule(step)
        names = list(zip(node.input, results, strict=False))
        missing = related.intersection(node.input[len(results) :])
        floating = [name for name in missing if np.dtype(step.dtype_of(name)).kind == "f"]
    except StepError as error:
        raise NoRuleError(node, str(error)) from error
    if floating:
        raise NoRuleError(node, f"its rule has no derivative by {floating[0]!r}")
    return [(name, result.name) for name, result in names if result is not None and name in related]


def _total(builder: Builder, cotangents: dict[str, list[str]], name: str) -> str:
    """Return the sum of the cotangents that arrived at a tensor; empty if none did."""
    parts = cotangents.get(name, [])
    if len(parts) > 1:
        cotangents[name] = parts = [builder.op("Sum", *parts)]
    return parts[0] if parts else ""


def _ones(builder: Builder, target: str, types: Mapping[str, Tensor]) -> str:
    """Emit ones in the shape of the target."""
    one = builder.constant(1, types[target].dtype)
    return builder.op("Expand", one, builder.op("Shape", target))
