"""The backward pass: the rules applied from the target to the wanted layers, over the nodes between them only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx

from layertap.types import Array
from layertap_server.blocks.builder import Builder
from layertap_server.graph.gradient.rules import RULES, WITHOUT_GRADIENT
from layertap_server.graph.gradient.step import Step, StepError
from layertap_server.tensor import Tensor

DEFAULT_DOMAINS = ("", "ai.onnx")
"""Names of ONNX's own domain."""


class GradientError(Exception):
    """There is no gradient of a target with respect to a layer; the message says why."""


class NoRuleError(GradientError):
    """A node between the target and a wanted layer cannot be differentiated; the message says why."""

    def __init__(self, node: onnx.NodeProto, reason: str, *, is_detail: bool = False) -> None:
        """Describe the node by its operator and its first output."""
        super().__init__(f"{node.op_type} at {node.output[0]!r} cannot be differentiated: {reason}")
        self.operator = node.op_type
        """Operator of the node."""
        self.layer = node.output[0]
        """Name of the node's first output."""
        self.nearest = ""
        """Name of the nearest layer that has a gradient; empty if there is none."""
        self.is_detail = is_detail
        """Whether the operator has a rule that a detail of the node prevents, such as a size that is not known."""


class UnrelatedTargetError(GradientError):
    """The target does not depend on a wanted layer, or only through operators whose derivative is 0."""

    def __init__(self, target: str, layer: str) -> None:
        """Describe the target and the layer."""
        super().__init__(f"the target {target!r} does not depend on {layer!r} through differentiable operators")
        self.layer = layer
        """Name of the layer."""


@dataclass(slots=True)
class Gradients:
    """The gradients of a target that were emitted, and why others could not be."""

    names: dict[str, str] = field(default_factory=dict)
    """Names of the gradients, by layer."""
    errors: dict[str, GradientError] = field(default_factory=dict)
    """Reasons why there is no gradient, by layer."""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    """The forward nodes that the backward pass went through."""


def add_gradients(
    builder: Builder,
    nodes: Sequence[onnx.NodeProto],
    types: Mapping[str, Tensor],
    constant_of: Callable[[str], Array | None],
    target: str,
    wanted: Sequence[str],
) -> dict[str, str]:
    """Emit the gradients as `emit_gradients` does and return their names, by wanted tensor.

    Raises:
        NoRuleError: a node between the target and a wanted tensor has no rule.
        UnrelatedTargetError: the target does not depend on a wanted tensor.
    """
    found = emit_gradients(builder, nodes, types, constant_of, target, wanted)
    for error in found.errors.values():
        raise error
    return found.names


def emit_gradients(
    builder: Builder,
    nodes: Sequence[onnx.NodeProto],
    types: Mapping[str, Tensor],
    constant_of: Callable[[str], Array | None],
    target: str,
    wanted: Sequence[str],
    *,
    guided: bool = False,
) -> Gradients:
    """Emit the gradients of the sum of a tensor with respect to others.

    The images of a batch do not influence each other, so the gradient of the sum has the gradient of each image. A
    tensor from which a path leads to the target through a node without a rule has no gradient, even if other paths do
    have rules.

    Args:
        builder: receives the nodes; they follow the forward nodes.
        nodes: the forward nodes, in topological order.
        types: types of the tensors by name.
        constant_of: function that returns the value of a small constant of integers, or None.
        target: name of the tensor whose sum is differentiated.
        wanted: names of the tensors by which it is differentiated.
        guided: whether relu passes positive cotangents only (Springenberg et al. 2015, arXiv:1412.6806).
    """
    related = _depending(nodes, wanted)
    cotangents: dict[str, list[str]] = {target: [_ones(builder, target, types)]}
    failed: dict[str, NoRuleError] = {}
    found = Gradients()
    for node in reversed(nodes):
        inputs = related.intersection(node.input)
        if not inputs or (node.op_type in WITHOUT_GRADIENT and node.domain in DEFAULT_DOMAINS):
            continue
        given = [_total(builder, cotangents, output) for output in node.output]
        error = next((failed[name] for name in node.output if name in failed), None)
        if error is None and any(given):
            found.nodes.append(node)
            if guided and _is_relu(node, constant_of):
                given = [builder.op("Relu", cotangent) for cotangent in given]
            error = _pass_back(Step(node, builder, types, constant_of, given), related, cotangents)
            if error is not None:
                error.nearest = _nearest(found.nodes, types)
        if error is not None:
            failed.update(dict.fromkeys(inputs, error))
    for name in wanted:
        gradient = _total(builder, cotangents, name)
        if name not in failed and gradient:
            found.names[name] = gradient
        else:
            found.errors[name] = failed.get(name) or UnrelatedTargetError(target, name)
    return found


def _is_relu(node: onnx.NodeProto, constant_of: Callable[[str], Array | None]) -> bool:
    """Return whether a node is a relu, also one with an upper bound, such as relu6."""
    if node.op_type == "Clip" and len(node.input) > 1 and node.domain in DEFAULT_DOMAINS:
        low = constant_of(node.input[1])
        return low is not None and not low.any()
    return node.op_type == "Relu" and node.domain in DEFAULT_DOMAINS


def _nearest(nodes: Sequence[onnx.NodeProto], types: Mapping[str, Tensor]) -> str:
    """Return the first output of the last node, or of one nearer to the target, that has floating-point numbers."""
    outputs = (node.output[0] for node in reversed(nodes))
    return next((name for name in outputs if name in types and np.dtype(types[name].dtype).kind == "f"), "")


def _pass_back(step: Step, related: set[str], cotangents: dict[str, list[str]]) -> NoRuleError | None:
    """Add the cotangents of a node's inputs; return the error if it has no rule that gives them."""
    try:
        for name, cotangent in _apply(step, related):
            cotangents.setdefault(name, []).append(cotangent)
    except NoRuleError as error:
        return error
    return None


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
        raise NoRuleError(node, str(error), is_detail=True) from error
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
