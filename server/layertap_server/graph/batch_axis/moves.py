"""Rules for operators that select, join, repeat or move values along axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from layertap_server.graph.batch_axis.beside import broadcast, others_fed
from layertap_server.graph.batch_axis.facts import Axis, Fact, worst
from layertap_server.graph.batch_axis.node import Node, Rule

ENDLESS = 2**31 - 1
"""Smallest end of a Slice that means the end of the axis."""


def _gather(node: Node) -> Fact:
    """Follow a Gather, by its data or by its indices."""
    data, indices = node.fact(0), node.fact(1)
    axis, rank = node.along_axis(node.attribute("axis", 0)), node.rank(1)
    if axis is None or rank is None:
        return node.unsure()
    if data is None and indices is not None:
        return Fact(indices.axis.moved(axis + indices.axis.index)) if indices.axis else node.unsure()
    if data is None or data.axis is None:
        return node.unsure()
    if data.axis.index == axis:
        is_picked = indices is None and data.axis.multiple == 1
        return node.mixes("selects images by their positions in the batch") if is_picked else node.unsure()
    moved = Fact(data.axis.moved(data.axis.index + (rank - 1 if data.axis.index > axis else 0)))
    return moved if not others_fed(node, {0}) else node.unsure(moved)


def _elements(node: Node) -> Fact:
    """Follow a GatherElements or ScatterElements, whose inputs must all have the same batch axis."""
    axis = node.along_axis(node.attribute("axis", 0))
    axes = {fact.axis if fact else None for fact in node.facts}
    if axis is None or len(axes) != 1 or None in axes:
        return node.along() if node.axis and node.axis.index == axis else node.unsure(Fact(node.axis))
    return node.along() if node.axis and node.axis.index == axis else Fact(node.axis)


def _slice(node: Node) -> Fact:
    """Follow a Slice."""
    data = node.fact(0)
    starts, ends = node.constant(1), node.constant(2)
    if data is None or data.axis is None:
        return node.unsure()
    count = (node.shape(1) or ["?"])[0]
    axes = node.integers(3, "axes") if node.name(3) else list(range(count)) if isinstance(count, int) else None
    rank = node.rank(0)
    if axes is None or rank is None:
        return node.unsure(Fact(data.axis))
    positions = [axis % rank for axis in axes]
    if data.axis.index not in positions:
        return Fact(data.axis)
    position = positions.index(data.axis.index)
    steps = node.constant(4) if node.name(4) else np.ones(len(positions), int)
    if starts is None or ends is None or steps is None:
        return node.unsure(Fact(data.axis))
    if starts[position] == 0 and steps[position] == 1 and ends[position] >= ENDLESS:
        return Fact(data.axis)
    return node.mixes("selects images by their positions in the batch")


def _split(node: Node) -> Fact:
    """Follow a Split."""
    data, axis = node.fact(0), node.along_axis(node.attribute("axis", 0))
    if data is None or data.axis is None or axis is None:
        return node.unsure()
    if data.axis.index != axis:
        return Fact(data.axis)
    parts, equal = len(node.proto.output), not node.name(1) and node.attribute("split", None) is None
    if equal and data.axis.inner == 1 and data.axis.outer % parts == 0:
        return Fact(replace(data.axis, outer=data.axis.outer // parts))
    return node.mixes("selects images by their positions in the batch")


def _concat(node: Node, inputs: Sequence[int] | None = None) -> Fact:
    """Follow a Concat of the inputs with these indices; of all if None."""
    used = list(range(len(node.proto.input)) if inputs is None else inputs)
    axis = node.along_axis(node.attribute("axis", 0), used[0])
    axes = [fact.axis for index in used if (fact := node.fact(index)) is not None]
    if axis is None or None in axes or not axes:
        return node.unsure(Fact(node.axis))
    known = [item for item in axes if item is not None]
    if len({item.index for item in known}) > 1:
        return node.mixes("combines each image with every other")
    if known[0].index == axis:
        if len(known) < len(used) or any(item.inner != 1 for item in known):
            return node.unsure()
        return Fact(Axis(axis, outer=sum(item.outer for item in known)))
    if len(set(known)) > 1:
        return node.unsure(Fact(known[0]))
    rank = node.rank(used[0]) or 0
    beside = [broadcast(node, index, known[0], rank) for index in used if node.fact(index) is None]
    # Concat does not broadcast: a constant of size 1 along the batch axis requires a batch of 1.
    one = [node.pinned for index in used if node.fact(index) is None and _has_one_row(node, index, known[0])]
    return Fact(known[0], worst([*beside, *one]))


def _has_one_row(node: Node, index: int, axis: Axis) -> bool:
    """Return whether an input has size 1 along the batch axis."""
    shape = node.shape(index)
    return shape is not None and axis.index < len(shape) and shape[axis.index] == 1 and axis.multiple == 1


def _quantized_concat(node: Node) -> Fact:
    """Follow a QLinearConcat, whose inputs each come with scale and zero point."""
    return _concat(node, range(2, len(node.proto.input), 3))


def _transpose(node: Node) -> Fact:
    """Follow a Transpose."""
    fact, rank = node.fact(0), node.rank(0)
    if fact is None or fact.axis is None or rank is None:
        return node.unsure()
    order = node.attribute("perm", list(range(rank))[::-1])
    return Fact(fact.axis.moved(list(order).index(fact.axis.index)))


def _squeeze(node: Node) -> Fact:
    """Follow a Squeeze of given axes."""
    axes, fact, rank = node.integers(1, "axes"), node.fact(0), node.rank(0)
    if axes is None or fact is None or fact.axis is None or rank is None:
        return node.unsure()
    gone = {axis % rank for axis in axes}
    if fact.axis.index in gone:
        return Fact(None, node.pinned)
    return Fact(fact.axis.moved(fact.axis.index - sum(axis < fact.axis.index for axis in gone)))


def _unsqueeze(node: Node) -> Fact:
    """Follow an Unsqueeze of given axes."""
    axes, fact, rank = node.integers(1, "axes"), node.fact(0), node.rank(0)
    if axes is None or fact is None or fact.axis is None or rank is None:
        return node.unsure()
    new = {axis % (rank + len(axes)) for axis in axes}
    kept = [position for position in range(rank + len(axes)) if position not in new]
    return Fact(fact.axis.moved(kept[fact.axis.index]))


def _expand(node: Node) -> Fact:
    """Follow an Expand, of images or of a constant."""
    fact, made = node.fact(0), node.output_shape
    if fact is None:
        return _filled(node)
    rank = node.rank(0)
    if fact.axis is None or rank is None or made is None:
        return node.unsure()
    axis = fact.axis.moved(fact.axis.index + len(made) - rank)
    sizes = node.fact(1)
    if sizes is None or sizes.sizes is None or not any(sizes.sizes):
        return Fact(axis)
    depends = {position + len(made) - len(sizes.sizes) for position, size in enumerate(sizes.sizes) if size}
    return Fact(axis) if depends == {axis.index} else node.unsure(Fact(axis))


def _filled(node: Node) -> Fact:
    """Follow a constant that is repeated once per image, so that each image gets the same values."""
    made, symbol = node.output_shape, node.known.symbol
    positions = [position for position, size in enumerate(made or ()) if size == symbol and symbol is not None]
    known = [size for size in made or () if isinstance(size, int)]
    if made is None or len(positions) != 1 or len(known) != len(made) - 1:
        return node.unsure(Fact(Axis(positions[0]) if positions else None))
    return Fact(Axis(positions[0]))


def _tile(node: Node) -> Fact:
    """Follow a Tile with constant repeats."""
    fact, repeats = node.fact(0), node.constant(1)
    if fact is None or fact.axis is None or repeats is None:
        return node.unsure()
    return Fact(replace(fact.axis, outer=fact.axis.outer * int(repeats.reshape(-1)[fact.axis.index])))


def _pad(node: Node) -> Fact:
    """Follow a Pad with constant padding."""
    fact, pads, rank = node.fact(0), node.integers(1, "pads"), node.rank(0)
    if fact is None or fact.axis is None or pads is None or rank is None:
        return node.unsure(Fact(node.axis))
    axes = node.integers(3, "axes") if node.name(3) else list(range(rank))
    if axes is None:
        return node.unsure(Fact(fact.axis))
    positions = [axis % rank for axis in axes]
    if fact.axis.index not in positions:
        return Fact(fact.axis)
    position = positions.index(fact.axis.index)
    is_left = pads[position] == pads[position + len(positions)] == 0
    return Fact(fact.axis) if is_left else node.mixes("adds rows to the batch")


def _resize(node: Node) -> Fact:
    """Follow a Resize, which must not scale the batch axis."""
    fact = node.fact(0)
    if fact is None or fact.axis is None:
        return node.unsure()
    made = node.output_shape
    scales = node.constant(1 if node.op == "Upsample" or len(node.proto.input) == 2 else 2)  # noqa: PLR2004
    axes = node.attribute("axes", None)
    position = fact.axis.index
    if axes is not None and position not in axes:
        return Fact(fact.axis)
    if axes is None and scales is not None and scales.size > position:
        return Fact(fact.axis) if scales.reshape(-1)[position] == 1 else node.along()
    same = made is not None and made[position] == node.known.symbol and fact.axis.multiple == 1
    return Fact(fact.axis) if same else node.unsure(Fact(fact.axis))


def _one_hot(node: Node) -> Fact:
    """Follow a OneHot, which inserts an axis."""
    fact, rank = node.fact(0), node.rank(0)
    if fact is None or fact.axis is None or rank is None or others_fed(node, {0}):
        return node.unsure()
    new = node.attribute("axis", -1) % (rank + 1)
    return Fact(fact.axis.moved(fact.axis.index + (new <= fact.axis.index)))


RULES: Mapping[tuple[str, str], Rule] = {
    **{("", name): _elements for name in ("GatherElements", "ScatterElements", "Scatter")},
    **{("", name): _resize for name in ("Resize", "Upsample")},
    ("", "Gather"): _gather,
    ("", "Slice"): _slice,
    ("", "Split"): _split,
    ("", "Concat"): _concat,
    ("com.microsoft", "QLinearConcat"): _quantized_concat,
    ("", "Transpose"): _transpose,
    ("", "Squeeze"): _squeeze,
    ("", "Unsqueeze"): _unsqueeze,
    ("", "Expand"): _expand,
    ("", "ConstantOfShape"): _filled,
    ("", "Tile"): _tile,
    ("", "Pad"): _pad,
    ("", "OneHot"): _one_hot,
}
"""Rules by domain and name of the operator."""
