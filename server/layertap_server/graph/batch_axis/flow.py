"""The walk: carries facts from the inputs through the nodes, in execution order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import onnx

from layertap_server.graph.batch_axis import beside, moves, products, reshape, sizes
from layertap_server.graph.batch_axis.facts import BATCH_FIRST, Fact, Mixing, Verdict, worst
from layertap_server.graph.batch_axis.node import Known, Node, Rule
from layertap_server.graph.model_graph import ModelGraph

RULES: Mapping[tuple[str, str], Rule] = {
    **beside.RULES,
    **moves.RULES,
    **products.RULES,
    **reshape.RULES,
    **sizes.RULES,
}
"""Operators by domain and name -> the rule that follows the batch axis through them."""


def mixing_of(graph: ModelGraph) -> Mapping[str, Verdict]:
    """Return the verdict of every tensor that depends on the images or on their number."""
    facts = facts_of(graph)
    if graph.fixed_batch == 1:
        return dict.fromkeys(facts, Verdict(Mixing.ONE, "the model takes one image at a time"))
    return {name: _of_layer(fact) for name, fact in facts.items()}


def facts_of(graph: ModelGraph) -> Mapping[str, Fact]:
    """Return what is known of every tensor that depends on the images or on their number."""
    known = Known(graph)
    size = graph.types[graph.image_input.name].shape[0]
    for info in graph.inputs:
        tensor = graph.types.get(info.name)
        if tensor is not None and tensor.shape[:1] == (size,):
            known.facts[info.name] = Fact(BATCH_FIRST)
    for proto in graph.proto.graph.node:
        _go_through(known, proto)
    return known.facts


def _of_layer(fact: Fact) -> Verdict:
    """Return the verdict of a tensor whose first axis is to be the images."""
    if fact.axis == BATCH_FIRST or fact.sizes is not None or fact.of_run:
        return fact.verdict
    return worst([fact.verdict, Verdict(Mixing.UNKNOWN, "the images cannot be followed to its first axis")])


def _go_through(known: Known, proto: onnx.NodeProto) -> None:
    node = Node(known, proto)
    made = _made(node)
    if made is None:
        return
    facts = made if isinstance(made, list) else [made] * len(proto.output)
    came = worst(fact.verdict for fact in node.fed)
    for name, fact in zip(proto.output, facts, strict=False):
        # Sizes that do not depend on the number of images are as good as constants.
        if name and (fact.sizes is None or any(fact.sizes)):
            computed = fact.sizes is not None and (fact.computed or any(fed.computed for fed in node.fed))
            known.facts[name] = _checked(node, name, replace(fact.worse(came), computed=computed))


def _made(node: Node) -> Fact | list[Fact] | None:
    """Return what the node makes; None for what does not depend on the images."""
    if node.is_random:
        return node.mixes("draws at random", Fact(node.axis))
    if not node.fed:
        return None
    if all(fact.of_run for fact in node.fed) and not node.has_bodies:
        return Fact(of_run=True)
    if node.has_bodies or node.is_function or node.key not in RULES:
        return node.unsure(Fact(node.axis))
    rule = sizes.OF_SIZES.get(node.op) if node.is_of_sizes else None
    try:
        return (rule or RULES[node.key])(node)
    except (ArithmeticError, LookupError, TypeError, ValueError):  # attributes that contradict the shapes
        return node.unsure()


def _checked(node: Node, name: str, fact: Fact) -> Fact:
    """Compare the axis with the shape that inference gives; a number there fixes how many images there are."""
    shape = node.known.shape(name)
    if fact.axis is None or shape is None:
        return fact
    if fact.axis.index >= len(shape):
        return Fact(None, worst([fact.verdict, node.doubt]))
    size = shape[fact.axis.index]
    if node.known.symbol is None or not isinstance(size, int):
        return fact
    if size == fact.axis.multiple:
        return replace(fact, verdict=worst([fact.verdict, node.pinned]))
    return fact.worse(node.doubt)
