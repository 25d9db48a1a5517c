"""Axes of the inputs of nodes, from how the nodes use them and from the axes of their results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import onnx

from layertap_server.graph.layouts.axes import UNKNOWN, Axis, resized, role_of, whole
from layertap_server.graph.layouts.facts import Facts
from layertap_server.graph.layouts.forward import (
    CHANNEL_NORMS,
    CONVOLUTIONS,
    LAST_AXIS_NORMS,
    MIXING,
    POSITION_ROLES,
    REDUCTIONS,
    operands,
    removed_axes,
)
from layertap_server.graph.layouts.reshape import reshaped
from layertap_server.graph.walk import attribute_of

Rule: TypeAlias = Callable[[Facts, onnx.NodeProto], None]
"""Function that records the axes of the inputs of a node."""


def backward(facts: Facts, node: onnx.NodeProto) -> None:
    """Record the axes of the inputs of a node that follow from its operator and from its first output."""
    if not node.output or not any(name in facts.valued for name in node.input):
        return
    if node.op_type in CONVOLUTIONS | CHANNEL_NORMS:
        _convolution(facts, node)
    if node.op_type not in CONVOLUTIONS | MIXING:
        BACKWARD.get(node.op_type, _alike)(facts, node)
    for name in node.input:
        facts.complete(name)


def _convolution(facts: Facts, node: onnx.NodeProto) -> None:
    """Record the channels at axis 1 and the positions after them."""
    name = node.input[0]
    shape = facts.shapes.get(name, ())
    roles = POSITION_ROLES.get(len(shape))
    if roles is not None:
        positions = [whole(role, size, 0 if role == "T" else None) for role, size in zip(roles, shape[2:], strict=True)]
        facts.fill(name, [UNKNOWN, whole("C", shape[1]), *positions])


def _alike(facts: Facts, node: onnx.NodeProto) -> None:
    """Record the axes of the result for the inputs, aligned at the last axis."""
    result, shape = facts.known(node.output[0]), facts.shapes.get(node.output[0], ())
    for name in node.input:
        own = facts.shapes.get(name, ())
        if own and len(own) <= len(shape):
            aligned = zip(result[-len(own) :], shape[-len(own) :], own, strict=True)
            facts.fill(name, [resized(axis, size, old) for axis, old, size in aligned])


def _first(facts: Facts, node: onnx.NodeProto) -> None:
    """Record the axes of the result for the first input, if it has as many."""
    axes = facts.fit(node.output[0], node.input[0])
    if axes:
        facts.fill(node.input[0], axes)


def _last_axis_norm(facts: Facts, node: onnx.NodeProto) -> None:
    """Record that a normalization of one last axis normalizes the channels."""
    _first(facts, node)
    shape = facts.shapes.get(node.input[0], ())
    if shape and int(attribute_of(node, "axis", -1)) in {-1, len(shape) - 1}:
        facts.fill(node.input[0], [*[UNKNOWN] * (len(shape) - 1), whole("C", shape[-1])])


def _transpose(facts: Facts, node: onnx.NodeProto) -> None:
    """Record the axes before a Transpose."""
    result = facts.known(node.output[0])
    order = attribute_of(node, "perm", list(range(len(result)))[::-1])
    if len(order) == len(result):
        axes: list[Axis] = [UNKNOWN] * len(result)
        for axis, source in zip(result, order, strict=True):
            axes[source] = axis
        facts.fill(node.input[0], axes)


def _reshape(facts: Facts, node: onnx.NodeProto) -> None:
    """Record the axes before a Reshape or Flatten."""
    own, shape = facts.shapes.get(node.input[0]), facts.shapes.get(node.output[0])
    if own and shape:
        facts.fill(node.input[0], reshaped(facts.known(node.output[0]), shape, own))


def _squeeze(facts: Facts, node: onnx.NodeProto) -> None:
    """Record the axes before a Squeeze or a reduction."""
    rank = len(facts.shapes.get(node.input[0], ()))
    result = facts.known(node.output[0])
    if rank == len(result):
        _first(facts, node)
        return
    gone, kept = removed_axes(facts, node, rank) if rank else None, iter(result)
    if gone is not None:
        facts.fill(node.input[0], [UNKNOWN if index in gone else next(kept, UNKNOWN) for index in range(rank)])


def _unsqueeze(facts: Facts, node: onnx.NodeProto) -> None:
    """Record the axes before an Unsqueeze."""
    result = facts.known(node.output[0])
    added = removed_axes(facts, node, len(result)) if result else None
    if added is not None:
        facts.fill(node.input[0], [axis for index, axis in enumerate(result) if index not in added])


def _multiply(facts: Facts, node: onnx.NodeProto) -> None:
    """Record rows and columns before a matrix product, and that a product with a weight sums over channels."""
    first, second = operands(node)
    result = facts.known(node.output[0])
    rows, columns = (facts.shapes.get(name, ()) for name in (first, second))
    if second in facts.valued:
        if result and len(rows) == len(columns) == len(result):
            facts.fill(first, [*result[:-1], UNKNOWN])
            facts.fill(second, [*result[:-2], UNKNOWN, result[-1]])
        return
    if not rows:
        return
    known = result if len(result) == len(rows) else (UNKNOWN,) * len(rows)
    last = whole("C", rows[-1]) if role_of(known[-1]) in {"C", "?"} else UNKNOWN
    facts.fill(first, [*known[:-1], last])


def _gemm(facts: Facts, node: onnx.NodeProto) -> None:
    """Record that a Gemm sums over channels."""
    shape, result = facts.shapes.get(node.input[0], ()), facts.known(node.output[0])
    if shape and len(result) == len(shape) and not int(attribute_of(node, "transA", 0)):
        facts.fill(node.input[0], [result[0], whole("C", shape[-1])])


def _concat(facts: Facts, node: onnx.NodeProto) -> None:
    """Record the axes of a concatenation for its inputs, but for the one along which they are joined."""
    result = facts.known(node.output[0])
    along = int(attribute_of(node, "axis", 0)) % max(len(result), 1)
    for name in node.input:
        own = facts.shapes.get(name, ())
        if result and len(own) == len(result):
            joined = whole(role_of(result[along]), own[along]) if role_of(result[along]) not in "?N" else UNKNOWN
            facts.fill(name, [joined if index == along else axis for index, axis in enumerate(result)])


def _nothing(_facts: Facts, _node: onnx.NodeProto) -> None:
    """Record nothing: the result does not tell the axes of the inputs."""


BACKWARD: Mapping[str, Rule] = {
    **dict.fromkeys(LAST_AXIS_NORMS, _last_axis_norm),
    **dict.fromkeys(REDUCTIONS, _squeeze),
    **dict.fromkeys(("Reshape", "Flatten"), _reshape),
    **dict.fromkeys(("MatMul", "QLinearMatMul", "MatMulInteger"), _multiply),
    **dict.fromkeys(("Slice", "Pad", "Resize", "Split", "CenterCropPad", "Dropout", "Softmax", "LogSoftmax"), _first),
    **dict.fromkeys(("Gather", "Einsum", "Expand", "GatherElements"), _nothing),
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Gemm": _gemm,
    "Concat": _concat,
}
"""Rules by operator; the inputs of other operators have the axes of the result."""
