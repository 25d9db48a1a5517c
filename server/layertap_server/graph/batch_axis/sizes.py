"""Rules for tensors that are lists of sizes: which of the sizes depend on the number of images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from layertap_server.graph.batch_axis.facts import APART, Fact, Mixing
from layertap_server.graph.batch_axis.node import LARGEST_READ, Node, Rule


def _shape(node: Node) -> Fact:
    """Mark the number of images among the sizes that a Shape returns."""
    fact, rank = node.fact(0), node.rank(0)
    if fact is None or rank is None:
        return node.unsure()
    if fact.sizes is not None:  # the number of sizes in a list is fixed
        return Fact(sizes=(False,) * rank)
    start, end = node.attribute("start", 0), node.attribute("end", rank)
    # If images mix, or may mix, any size may depend on the values of all images.
    is_any = fact.axis is None or fact.verdict.mixing in {Mixing.UNKNOWN, Mixing.REQUEST}
    flags = [is_any or position == getattr(fact.axis, "index", None) for position in range(rank)][start:end]
    computed = fact.axis is None or fact.axis.multiple != 1
    return Fact(sizes=tuple(flags), verdict=fact.verdict if is_any else APART, computed=computed)


def _all_sizes(_node: Node) -> Fact:
    """Mark the number of values that a Size returns."""
    return Fact(sizes=(True,), computed=True)


def _gather_sizes(node: Node) -> Fact:
    """Select the sizes at constant indices."""
    sizes, indices = node.fact(0), node.constant(1)
    if sizes is None or sizes.sizes is None or indices is None:
        return _any_size(node)
    flags = [
        sizes.sizes[int(position)]
        for position in indices.reshape(-1)
        if -len(sizes.sizes) <= position < len(sizes.sizes)
    ]
    return Fact(sizes=tuple(flags))


def _slice_sizes(node: Node) -> Fact:
    """Select a slice of the sizes with constant bounds."""
    sizes = node.fact(0)
    bounds = [node.constant(index) for index in (1, 2)]
    steps = node.constant(4) if node.name(4) else np.ones(1, int)
    if sizes is None or sizes.sizes is None or bounds[0] is None or bounds[1] is None or steps is None:
        return _any_size(node)
    start, end = int(bounds[0].reshape(-1)[0]), int(bounds[1].reshape(-1)[0])
    return Fact(sizes=sizes.sizes[start : end : int(steps.reshape(-1)[0])])


def _concat_sizes(node: Node) -> Fact:
    """Join lists of sizes; sizes in constants do not depend on the number of images."""
    flags: list[bool] = []
    for index in range(len(node.proto.input)):
        fact, shape = node.fact(index), node.shape(index)
        if fact is not None and fact.sizes is not None:
            flags += fact.sizes
        elif shape is not None and len(shape) == 1 and isinstance(shape[0], int) and shape[0] <= LARGEST_READ:
            flags += [False] * shape[0]
        else:
            return _any_size(node)
    return Fact(sizes=tuple(flags))


def _same_sizes(node: Node) -> Fact:
    """Keep the sizes of the first input that depends on the images."""
    return Fact(sizes=next(fact.sizes for fact in node.fed))


def _combine_sizes(node: Node) -> Fact:
    """Combine lists of sizes by elementwise arithmetic; a single size is broadcast."""
    flags = [fact.sizes for fact in node.fed if fact.sizes is not None]
    longest = max(map(len, flags))
    if any(len(item) not in {1, longest} for item in flags):
        return _any_size(node)
    spread = [item * longest if len(item) == 1 else item for item in flags]
    return Fact(sizes=tuple(map(any, zip(*spread, strict=True))), computed=node.op not in CHOOSING)


def _any_size(node: Node) -> Fact:
    """Mark all sizes of the result if any size of the inputs depends on the number of images."""
    shape = node.output_shape
    count = shape[0] if shape and len(shape) == 1 and isinstance(shape[0], int) else 1
    flag = any(any(fact.sizes or ()) for fact in node.fed)
    return Fact(sizes=(flag,) * min(max(count, 1), LARGEST_READ), computed=True)


CHOOSING = frozenset({"Equal", "Where"})
"""Operators on lists of sizes that compute no new sizes: they compare sizes, or choose one of two."""
RULES: Mapping[tuple[str, str], Rule] = {("", "Shape"): _shape, ("", "Size"): _all_sizes}
"""Rules by domain and name of the operators that return sizes."""
OF_SIZES: Mapping[str, Rule] = {
    "Gather": _gather_sizes,
    "Slice": _slice_sizes,
    "Concat": _concat_sizes,
    **dict.fromkeys(("Cast", "Identity", "Squeeze", "Unsqueeze", "Reshape", "Floor", "Ceil", "Neg"), _same_sizes),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Mod", "Max", "Min", "Equal", "Where", "Pow"), _combine_sizes),
    **dict.fromkeys(("ReduceProd", "ReduceSum", "Sqrt", "Greater", "Less", "Round"), _any_size),
}
"""Rules by name of operators whose inputs are lists of sizes."""
