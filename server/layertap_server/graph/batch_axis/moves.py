"""Rules for operators that select, join, repeat or move values along axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from layertap_server.graph.batch_axis.beside import broadcast, others_fed
from layertap_server.graph.batch_axis.facts import APART, Axis, Fact, worst
from layertap_server.graph.batch_axis.node import Node, Rule

ENDLESS = 2**31 - 1
"""Smallest end of a Slice that means the end of the axis."""


def _gather(node: Node) -> Fact:
    """Trace the batch axis through a Gather, from its data or from its indices."""
    data, indices = node.fact(0), node.fact(1)
    axis, rank = node.along_axis(node.attribute("axis", 0)), node.rank(1)
    if axis is None or rank is None:
        return node.unsure()
    if data is None and indices is not None:
        return Fact(indices.axis.at_index(axis + indices.axis.index)) if indices.axis else node.unsure()
    if data is None or data.axis is None:
        return node.unsure()
    if data.axis.index == axis:
        is_picked = indices is None and data.axis.multiple == 1
        return node.mixes("selects images by their positions in the batch") if is_picked else node.unsure()
    moved = Fact(data.axis.at_index(data.axis.index + (rank - 1 if data.axis.index > axis else 0)))
    return moved if not others_fed(node, {0}) else node.unsure(moved)


def _elements(node: Node) -> Fact:
    """Trace the batch axis through a GatherElements or ScatterElements, whose inputs must have the same batch axis."""
    axis = node.along_axis(node.attribute("axis", 0))
    axes = {fact.axis if fact else None for fact in node.facts}
    if axis is None or len(axes) != 1 or None in axes:
        return node.along() if node.axis and node.axis.index == axis else node.unsure(Fact(node.axis))
    return node.along() if node.axis and node.axis.index == axis else Fact(node.axis)


def _slice(node: Node) -> Fact:
    """Trace the batch axis through a Slice, which must keep the whole batch axis."""
    data = node.fact(0)
    starts, ends = node.constant(1), node.constant(2)
    if data is None or data.axis is None or others_fed(node, {0}):
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
    """Trace the batch axis through a Split, which must not separate images."""
    data, axis = node.fact(0), node.along_axis(node.attribute("axis", 0))
    if data is None or data.axis is None or axis is None or others_fed(node, {0}):
        return node.unsure()
    if data.axis.index != axis:
        return Fact(data.axis)
    parts, equal = len(node.proto.output), not node.name(1) and node.attribute("split", None) is None
    if equal and data.axis.inner == 1 and data.axis.outer % parts == 0:
        return Fact(replace(data.axis, outer=data.axis.outer // parts))
    return node.mixes("selects images by their positions in the batch")


def _concat(node: Node, inputs: Sequence[int] | None = None) -> Fact:
    """Trace the batch axis through a Concat of the inputs of index ``inputs``; of all inputs if None."""
    used = list(range(len(node.proto.input)) if inputs is None else inputs)
    axis = node.along_axis(node.attribute("axis", 0), used[0])
    axes = [fact.axis for index in used if (fact := node.fact(index)) is not None]
    if axis is None or None in axes or not axes:
        return node.unsure(Fact(node.axis))
    found = [item for item in axes if item is not None]
    if len({item.index for item in found}) > 1:
        return node.mixes("combines each image with every other")
    if found[0].index == axis:
        if len(found) < len(used) or any(item.inner != 1 for item in found):
            return node.unsure()
        return Fact(Axis(axis, outer=sum(item.outer for item in found)))
    if len(set(found)) > 1:
        return node.unsure(Fact(found[0]))
    rank = node.rank(used[0]) or 0
    beside = [broadcast(node, index, found[0], rank) for index in used if node.fact(index) is None]
    # Concat does not repeat a constant of size 1 on the batch axis, so the constant fits only a batch of one image.
    one = [node.pinned for index in used if node.fact(index) is None and _has_one_row(node, index, found[0])]
    return Fact(found[0], worst([*beside, *one]))


def _has_one_row(node: Node, index: int, axis: Axis) -> bool:
    """Return whether an input has size 1 on a batch axis that holds the batch alone."""
    shape = node.shape(index)
    return shape is not None and axis.index < len(shape) and shape[axis.index] == 1 and axis.multiple == 1


def _quantized_concat(node: Node) -> Fact:
    """Trace the batch axis through a QLinearConcat, whose inputs from 2 on are triples of tensor, scale, zero point."""
    tensors = range(2, len(node.proto.input), 3)
    made = _concat(node, tensors)
    return node.unsure(made) if others_fed(node, set(tensors)) else made


def _transpose(node: Node) -> Fact:
    """Trace the batch axis through a Transpose."""
    fact, rank = node.fact(0), node.rank(0)
    if fact is None or fact.axis is None or rank is None:
        return node.unsure()
    order = node.attribute("perm", list(range(rank))[::-1])
    return Fact(fact.axis.at_index(list(order).index(fact.axis.index)))


def _squeeze(node: Node) -> Fact:
    """Trace the batch axis through a Squeeze, which accepts only one image if it removes the batch axis."""
    axes, fact, rank = node.integers(1, "axes"), node.fact(0), node.rank(0)
    if axes is None or fact is None or fact.axis is None or rank is None:
        return node.unsure()
    gone = {axis % rank for axis in axes}
    if fact.axis.index in gone:
        return Fact(None, node.pinned)
    return Fact(fact.axis.at_index(fact.axis.index - sum(axis < fact.axis.index for axis in gone)))


def _unsqueeze(node: Node) -> Fact:
    """Trace the batch axis through an Unsqueeze."""
    axes, fact, rank = node.integers(1, "axes"), node.fact(0), node.rank(0)
    if axes is None or fact is None or fact.axis is None or rank is None:
        return node.unsure()
    new = {axis % (rank + len(axes)) for axis in axes}
    kept = [position for position in range(rank + len(axes)) if position not in new]
    return Fact(fact.axis.at_index(kept[fact.axis.index]))


def _expand(node: Node) -> Fact:
    """Trace the batch axis through an Expand, which must not repeat images."""
    fact, made = node.fact(0), node.output_shape
    if fact is None:
        return _fill(node)
    rank = node.rank(0)
    if fact.axis is None or rank is None or made is None or node.is_of_values:
        return node.unsure()
    axis = fact.axis.at_index(fact.axis.index + len(made) - rank)
    sizes = node.fact(1)
    if sizes is None or sizes.sizes is None:
        return Fact(axis) if _keeps_batch(node, axis, made) else node.unsure(Fact(axis))
    depends = {position + len(made) - len(sizes.sizes) for position, size in enumerate(sizes.sizes) if size}
    return Fact(axis) if depends == {axis.index} else node.unsure(Fact(axis))


def _keeps_batch(node: Node, axis: Axis, made: Sequence[int | str]) -> bool:
    """Return whether an Expand to sizes that do not depend on the number of images keeps the batch axis."""
    given = node.constant(1)
    if given is None:
        return made[axis.index] == node.known.symbol and axis.multiple == 1
    position = axis.index - (len(made) - given.size)
    return position < 0 or given.reshape(-1)[position] == 1 or node.known.symbol is None


def _fill(node: Node) -> Fact:
    """Trace the batch axis through an operator that repeats a constant for each image: all images are alike."""
    if any(fact.sizes is None for fact in node.fed):
        return node.unsure()
    made, symbol = node.output_shape, node.known.symbol
    sizes = node.fact(1 if node.op == "Expand" else 0)
    if made is not None and sizes is not None and sizes.sizes is not None and not sizes.computed:
        flagged = [index + len(made) - len(sizes.sizes) for index, flag in enumerate(sizes.sizes) if flag]
        if len(flagged) == 1 and flagged[0] >= 0:
            axis = Axis(flagged[0])
            return Fact(axis, broadcast(node, 0, axis, len(made)) if node.op == "Expand" else APART)
    positions = [position for position, size in enumerate(made or ()) if size == symbol and symbol is not None]
    known = [size for size in made or () if isinstance(size, int)]
    if made is None or len(positions) != 1 or len(known) != len(made) - 1:
        return node.unsure(Fact(Axis(positions[0]) if positions else None))
    axis = Axis(positions[0])
    return Fact(axis, broadcast(node, 0, axis, len(made)) if node.op == "Expand" else APART)


def _tile(node: Node) -> Fact:
    """Trace the batch axis through a Tile, which repeats the whole batch."""
    fact, repeats = node.fact(0), node.constant(1)
    if fact is None or fact.axis is None or repeats is None:
        return node.unsure()
    return Fact(replace(fact.axis, outer=fact.axis.outer * int(repeats.reshape(-1)[fact.axis.index])))


def _pad(node: Node) -> Fact:
    """Trace the batch axis through a Pad, which must not add positions to the batch axis."""
    fact, pads, rank = node.fact(0), node.integers(1, "pads"), node.rank(0)
    if fact is None or fact.axis is None or pads is None or rank is None or others_fed(node, {0}):
        return node.unsure(Fact(node.axis))
    axes = node.integers(3, "axes") if node.name(3) else list(range(rank))
    if axes is None:
        return node.unsure(Fact(fact.axis))
    positions = [axis % rank for axis in axes]
    if fact.axis.index not in positions:
        return Fact(fact.axis)
    position = positions.index(fact.axis.index)
    is_left = pads[position] == pads[position + len(positions)] == 0
    return Fact(fact.axis) if is_left else node.mixes("adds positions to the batch axis")


def _resize(node: Node) -> Fact:
    """Trace the batch axis through a Resize or Upsample, which must keep the size of the batch axis."""
    fact, rank = node.fact(0), node.rank(0)
    if fact is None or fact.axis is None or rank is None or node.is_of_values:
        return node.unsure()
    if node.attribute("coordinate_transformation_mode", "") == "tf_crop_and_resize":
        return node.unsure(Fact(fact.axis))
    positions = [axis % rank for axis in node.attribute("axes", range(rank))]
    if fact.axis.index not in positions:
        return Fact(fact.axis) if not others_fed(node, {0}) else node.unsure(Fact(fact.axis))
    position = positions.index(fact.axis.index)
    if node.name(3):
        return Fact(fact.axis) if _is_own_size(node, fact.axis, position) else node.unsure(Fact(fact.axis))
    scales = node.constant(1 if node.op == "Upsample" or len(node.proto.input) == 2 else 2)  # noqa: PLR2004
    if scales is None:
        return node.unsure(Fact(fact.axis))
    return Fact(fact.axis) if scales.reshape(-1)[position] == 1 else node.along()


def _is_own_size(node: Node, axis: Axis, position: int) -> bool:
    """Return whether the sizes of a Resize hold the number of images at index ``position``, and nowhere else."""
    given, shape, sizes = node.constant(3), node.shape(0), node.fact(3)
    if given is not None and shape is not None:
        return bool(given.reshape(-1)[position] == shape[axis.index])
    if sizes is None or sizes.sizes is None or sizes.computed or axis.multiple != 1:
        return False
    return [index for index, flag in enumerate(sizes.sizes) if flag] == [position]


def _one_hot(node: Node) -> Fact:
    """Trace the batch axis through a OneHot."""
    fact, rank = node.fact(0), node.rank(0)
    if fact is None or fact.axis is None or rank is None or others_fed(node, {0}):
        return node.unsure()
    new = node.attribute("axis", -1) % (rank + 1)
    return Fact(fact.axis.at_index(fact.axis.index + (new <= fact.axis.index)))


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
    ("", "ConstantOfShape"): _fill,
    ("", "Tile"): _tile,
    ("", "Pad"): _pad,
    ("", "OneHot"): _one_hot,
}
"""Rules by domain and name of the operator."""
