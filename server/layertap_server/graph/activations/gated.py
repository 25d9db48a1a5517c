"""Gated linear units: the first half of a tensor times the sigmoid of the second."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from layertap_server.graph.activations.expressions import Expressions
from layertap_server.graph.walk import attribute_of

Half = tuple[str, int, int]
"""Name of a tensor that is divided, the axis, and the number of the half, 0 or 1."""


def is_gated(expressions: Expressions, value: str, gate: str) -> bool:
    """Return whether two tensors are the first and the second half of one tensor."""
    first, second = half_of(expressions, value), half_of(expressions, gate)
    return first is not None and second is not None and (*first[:2], 1) == second and first[2] == 0


def half_of(expressions: Expressions, name: str) -> Half | None:
    """Return the tensor and axis of which a tensor is one half; None if it is none."""
    node = expressions.producer(name)
    if node is None:
        return None
    if node.op_type == "Split" and len(node.output) == 2:  # noqa: PLR2004 - halves
        return node.input[0], int(attribute_of(node, "axis", 0)), list(node.output).index(name)
    return _sliced_half(expressions, node) if node.op_type == "Slice" else None


def _sliced_half(expressions: Expressions, node: onnx.NodeProto) -> Half | None:
    """Return the half that a Slice of one axis takes: the first from 0 to k, the second from k on."""
    starts, ends, axes = (_integer(expressions, node.input, index) for index in (1, 2, 3))
    if starts is None or ends is None or axes is None:
        return None
    return node.input[0], axes, int(starts > 0)


def _integer(expressions: Expressions, inputs: Sequence[str], index: int) -> int | None:
    """Return a constant input with one value; None if there is none."""
    if index >= len(inputs) or not inputs[index]:
        return None
    value = expressions.constant(inputs[index])
    return int(value) if value is not None and value.ndim == 0 else None
