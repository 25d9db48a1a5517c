"""The walk, which propagates facts from the inputs through the nodes in execution order."""

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
"""Rules that follow the batch axis through an operator, by its domain and name."""


def mixing_of(graph: ModelGraph) -> Mapping[str, Verdict]:
    """Return the verdict of every tensor that depends on the images or on their number, by name."""
    facts = facts_of(graph)
    if graph.fixed_batch == 1:
        return dict.fromkeys(facts, Verdict(Mixing.ONE, "the model accepts only one image at a time"))
    return {name: fact.verdict if name in graph.batch_axes else _of_layer(fact) for name, fact in facts.items()}


def facts_of(graph: ModelGraph) -> Mapping[str, Fact]:
    """Return the facts about every tensor that depends on the images or on their number, by name."""
    known = Known(graph)
    size = graph.types[graph.main_input.name].shape[0]
    for info in graph.inputs:
        tensor = graph.types.get(info.name)
        if tensor is not None and tensor.shape[:1] == (size,):
            known.facts[info.name] = Fact(BATCH_FIRST)
    for proto in graph.proto.graph.node:
        _visit(known, proto)
    return known.facts


def _of_layer(fact: Fact) -> Verdict:
    """Return the verdict of a tensor whose first axis must be the batch."""
    if fact.axis == BATCH_FIRST or fact.sizes is not None or fact.of_run:
        return fact.verdict
    return worst([fact.verdict, Verdict(Mixing.UNKNOWN, "the first axis of the layer is not known to be the batch")])


def _visit(known: Known, proto: onnx.NodeProto) -> None:
    """Record where the outputs of a node have the batch axis, and whether they mix images."""
    node = Node(known, proto)
    made = _apply_rule(node)
    if made is None:
        return
    facts = made if isinstance(made, list) else [made] * len(proto.output)
    came = worst(fact.verdict for fact in node.fed)
    for name, fact in zip(proto.output, facts, strict=False):
        # Sizes that do not depend on the number of images are treated as constants.
        if name and (fact.sizes is None or any(fact.sizes)):
            computed = fact.sizes is not None and (fact.computed or any(fed.computed for fed in node.fed))
            known.facts[name] = _check(
                node, name, replace(fact, verdict=worst([came, fact.verdict]), computed=computed)
            )


def _apply_rule(node: Node) -> Fact | list[Fact] | None:
    """Return the fact about all outputs of a node, or one for each; None if they do not depend on the images."""
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


def _check(node: Node, name: str, fact: Fact) -> Fact:
    """Return the fact after a comparison of its axis with the inferred shape.

    A fixed size on the batch axis of a model with a free batch fixes the number of images.
    """
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
