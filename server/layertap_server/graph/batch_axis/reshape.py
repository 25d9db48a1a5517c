"""Rules for Reshape and Flatten, which merge and split axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from layertap_server.graph.batch_axis.facts import BATCH_FIRST, Axis, Fact
from layertap_server.graph.batch_axis.node import Node, Rule, product


def _flatten(node: Node) -> Fact:
    """Trace the batch axis through a Flatten."""
    fact, shape = node.fact(0), node.shape(0)
    axis = node.along_axis(node.attribute("axis", 1))
    if fact is None or fact.axis is None or shape is None or axis is None:
        return node.unsure()
    start, end = (0, axis) if fact.axis.index < axis else (axis, len(shape))
    major, minor = product(shape[start : fact.axis.index]), product(shape[fact.axis.index + 1 : end])
    if major is None or minor is None:
        return node.unsure()
    return Fact(Axis(0 if fact.axis.index < axis else 1, major * fact.axis.outer, fact.axis.inner * minor))


def _reshape(node: Node) -> Fact:
    """Trace the batch axis through a Reshape."""
    fact, shape = node.fact(0), node.shape(0)
    target = None if node.is_of_values else _target(node, shape)
    if fact is None or fact.axis is None or shape is None or target is None:
        return node.unsure()
    axis = fact.axis
    if _leaves(node, axis, shape, target):
        return _confirm(node, Fact(axis))
    major, minor = product(shape[: axis.index]), product(shape[axis.index + 1 :])
    if major is None or minor is None:
        return node.unsure()
    return _confirm(node, _regroup(node, major * axis.outer, axis.inner * minor, target))


def _confirm(node: Node, made: Fact) -> Fact:
    """Compare the batch axis of a fact with the given sizes, and return the fact, undecided if they differ.

    The shape that a model file declares may be wrong, so it is compared with the sizes that depend on the images.
    """
    sizes = node.fact(1)
    if sizes is None or sizes.sizes is None or made.axis is None:
        return made
    positions = [position for position, flag in enumerate(sizes.sizes) if flag]
    return made if positions == [made.axis.index] else node.unsure(made)


def _target(node: Node, shape: tuple[int | str, ...] | None) -> list[int | str] | None:
    """Return the sizes after a Reshape, each a number or a symbol; None if they are not known."""
    given = node.constant(1)
    if given is None:
        made = node.output_shape
        return None if made is None else list(made)
    copies = not node.attribute("allowzero", 0)
    sizes: list[int | str] = [int(size) for size in given.reshape(-1)]
    for position, size in enumerate(sizes):
        if size == 0 and copies:
            sizes[position] = shape[position] if shape is not None and position < len(shape) else "?"
        elif size == -1:
            sizes[position] = "?"
    return sizes


def _leaves(node: Node, axis: Axis, shape: tuple[int | str, ...], target: Sequence[int | str]) -> bool:
    """Return whether a Reshape keeps the batch axis and all axes before it."""
    symbol = node.known.symbol
    if axis.index >= len(target) or list(shape[: axis.index]) != list(target[: axis.index]):
        return False
    if symbol is None:
        return shape[axis.index] == target[axis.index]
    given = node.constant(1)
    copied = given is not None and given.size > axis.index and given.reshape(-1)[axis.index] == 0
    return bool(copied and not node.attribute("allowzero", 0)) or (axis.multiple == 1 and target[axis.index] == symbol)


def _regroup(node: Node, major: int, minor: int, target: Sequence[int | str]) -> Fact:
    """Find the batch axis among the sizes after a Reshape of major × N × minor values, with N the number of images."""
    free = [position for position, size in enumerate(target) if not isinstance(size, int)]
    if not free and node.known.symbol is not None:
        is_one = product(target) == major * minor
        return Fact(_first(target, major), node.pinned) if is_one else node.unsure()
    if len(free) > 1:
        return node.unsure()
    for position in free or range(len(target)):
        before, after = product(target[:position]), product(target[position + 1 :])
        if before and after and major % before == 0 and minor % after == 0:
            return Fact(Axis(position, major // before, minor // after))
    if target[0] == 1 and major == 1:  # exported for one image: more images would be merged
        return Fact(BATCH_FIRST, node.pinned)
    return node.unsure()


def _first(target: Sequence[int | str], major: int) -> Axis | None:
    """Return the first axis as that of a batch of one image, if nothing is before the batch; None if it is not known.

    ``major`` is the size of the axes before the batch.
    """
    return BATCH_FIRST if major == 1 and list(target[:1]) == [1] else None


RULES: Mapping[tuple[str, str], Rule] = {("", "Reshape"): _reshape, ("", "Flatten"): _flatten}
"""Rules by domain and name of the operator."""
