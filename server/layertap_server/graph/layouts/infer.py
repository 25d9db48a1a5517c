"""Inference of the axes of every tensor, from how tensors are made and used."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from layertap.types import Layout
from layertap_server.graph.layouts.axes import ROLES, UNKNOWN, Axes, Shape, axes_of_roles, whole
from layertap_server.graph.layouts.backward import backward
from layertap_server.graph.layouts.facts import Facts
from layertap_server.graph.layouts.forward import forward

INDICES = frozenset({onnx.TensorProto.INT32, onnx.TensorProto.INT64})
"""Element types of token ids."""
TOKENS_RANK = 2
"""Number of axes of token ids, N×T."""
MOST_ROUNDS = 4
"""Maximum number of times that the graph is walked in each direction."""


def axes_of(
    graph: onnx.GraphProto, shapes: Mapping[str, Shape], inputs: Mapping[str, Layout | None]
) -> Mapping[str, Axes]:
    """Return the axes of every tensor whose shape is known and whose values depend on an input.

    Args:
        graph: The graph, its nodes in execution order.
        shapes: Shapes by tensor name.
        inputs: Layouts of the graph's inputs by name, first the image input; None for one that is not known.
    """
    facts = Facts.of(graph, shapes, list(inputs))
    whole_numbers = {value.name for value in graph.input if value.type.tensor_type.elem_type in INDICES}
    for name, layout in inputs.items():
        is_tokens = name in whole_numbers and len(facts.shapes.get(name, ())) == TOKENS_RANK
        _start(facts, name, "NT" if is_tokens else _roles(layout))
    for _ in range(MOST_ROUNDS):
        facts.changed = False
        for node in graph.node:
            forward(facts, node)
        for node in reversed(graph.node):
            backward(facts, node)
        if not facts.changed:
            break
    return facts.axes


def _roles(layout: Layout | None) -> str:
    """Return the roles of an input's axes; empty if they are not known.

    Two axes are called a vector whatever they mean: the second one may be the channels of a table or the positions of a
    series, and how the network uses it decides.
    """
    return "" if layout is None or layout is Layout.VECTOR else ROLES.get(layout, "")


def _start(facts: Facts, name: str, roles: str) -> None:
    """Record the axes of an input: of its layout, or the batch alone."""
    shape = facts.shapes.get(name, ())
    if len(roles) == len(shape):
        facts.fill(name, axes_of_roles(roles, shape))
    elif shape:
        facts.fill(name, [whole("N", shape[0]), *[UNKNOWN] * (len(shape) - 1)])
