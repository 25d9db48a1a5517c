"""The stages of a network: the output of the last block at each resolution of the trunk.

Layers between the last block and a layer with a stride, such as a norm, an expansion or padding, belong to the next
stage. What follows the last block, such as the norm or convolution in front of the classifier, belongs to no stage. A
stem is a stage if the blocks themselves lead from one resolution to the next, as in a ResNet. In networks with layers
of their own for that, such as the patch merging of a Swin, the stem belongs to the first stage.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum, auto
from functools import reduce
from itertools import pairwise

from layertap.types import Layout
from layertap_server.graph.layouts.forward import CHANNEL_NORMS
from layertap_server.graph.network_blocks import ACTIVATING, SEVERAL, WEIGHTED, Modules, Path, as_maps
from layertap_server.graph.trunk import Step

SHRINKING = 0.6
"""Maximum ratio of positions from one stage to the next; convolutions without padding shrink a map by less."""


class Merging(Enum):
    """Ways to lead from one resolution to the next."""

    IN_BLOCK = auto()
    """A block with a stride, or a pooling."""
    OWN = auto()
    """Layers of their own with an activation."""
    LINEAR = auto()
    """A layer of its own without an activation."""


HEADS = ("head", "classif", "logits", "fc", "pool")
"""Parts of the names of modules that follow the last stage."""
POOLING = frozenset({"MaxPool", "AveragePool"})


def stage_ends(steps: Sequence[Step], modules: Modules, image: Layout = Layout.NCHW) -> list[Step]:
    """Return the steps at which the stages end, in execution order.

    Args:
        steps: the trunk of the network.
        modules: the modules of the network.
        image: layout of the image input.
    """
    segments = list(_segments(steps))
    merging = _merging(segments, modules)
    is_preactivated = _activates_first(segments, modules)
    found: list[tuple[Step, list[Step]]] = []
    for index, own in enumerate(segments):
        kept = _stage(segments, index, modules, merging)
        if is_preactivated:
            kept = _without_activation(kept, modules)
        if (end := _last(kept)) is not None:
            found.append((end, own))
    return as_maps(found, image)


def _stage(segments: Sequence[Sequence[Step]], index: int, modules: Modules, merging: Merging) -> list[Step]:
    """Return the steps of a resolution that belong to its stage; none if it is no stage."""
    own, steps = segments[index], [step for segment in segments for step in segment]
    start = sum(map(len, segments[:index]))
    before, later = steps[:start], steps[start + len(own) :]
    first_block = next((index for index, step in enumerate(steps) if modules.blocks_of(step.path)), len(steps))
    if not later:
        return _without_head(own, modules, _root(steps, modules))
    if start + len(own) <= first_block < len(steps):
        return _stem(own, later, merging)
    following = segments[index + 1]
    kept = _without_preparation(own, following, [*before, *later[len(following) :]], modules)
    is_stem = start + len(kept) <= first_block < len(steps)
    return [] if is_stem and _has_residual(kept) else kept


def _root(steps: Sequence[Step], modules: Modules) -> Path:
    """Return the module that contains the trunk up to the end of the last block, such as a backbone."""
    last = max((index for index, step in enumerate(steps) if _is_body(step, modules)), default=len(steps) - 1)
    return reduce(_common, (step.path for step in steps[: last + 1] if step.path), steps[last].path)


def _segments(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """Yield the steps of each resolution."""
    segment: list[Step] = []
    for step in steps:
        if segment and step.area < SHRINKING * segment[0].area:
            yield segment
            segment = []
        segment.append(step)
    if segment:
        yield segment


def _stem(own: Sequence[Step], later: Sequence[Step], merging: Merging) -> list[Step]:
    """Return the steps of a resolution before the first block, if they are a stage.

    They are none if they contain a residual block, if linear layers of their own lead from one stage to the next, and
    if any layers of their own do and the module of the stem goes on at the next resolution.
    """
    following = later[0]
    shared = _common(own[-1].path, following.path)
    root = _common(own[0].path, later[-1].path)
    is_divided = len(shared) > len(root) and following.op_type not in POOLING
    is_preparing = merging is Merging.LINEAR or (is_divided and merging is Merging.OWN)
    return [] if is_preparing or _has_residual(own) else list(own)


def _merging(segments: Sequence[Sequence[Step]], modules: Modules) -> Merging:
    """Return how most resolutions after the first begin."""
    kinds = [_beginning(segment, modules) for segment in segments[1:]]
    counts = {kind: kinds.count(kind) for kind in Merging}
    if 2 * counts[Merging.LINEAR] > len(kinds):
        return Merging.LINEAR
    return Merging.OWN if 2 * (counts[Merging.LINEAR] + counts[Merging.OWN]) > len(kinds) else Merging.IN_BLOCK


def _activates_first(segments: Sequence[Sequence[Step]], modules: Modules) -> bool:
    """Return whether the blocks that lead to most resolutions begin with an activation, so that outputs have none.

    A normalization may be in front of the activation.
    """
    count = 0
    for own, following in pairwise(segments):
        if blocks := modules.blocks_of(following[0].path):
            inside = [step for step in own if _within(step, blocks[-1]) and step.op_type not in CHANNEL_NORMS]
            count += bool(inside) and inside[0].op_type in ACTIVATING
    return 2 * count > len(segments) - 1


def _without_activation(kept: Sequence[Step], modules: Modules) -> list[Step]:
    """Return the steps without activations at their end outside blocks, which belong to what follows."""
    count = len(kept)
    while count and kept[count - 1].op_type in ACTIVATING and not modules.blocks_of(kept[count - 1].path):
        count -= 1
    return list(kept[:count])


def _beginning(segment: Sequence[Step], modules: Modules) -> Merging:
    """Return how a resolution begins: with a layer of its own, which is linear or not, or in a block."""
    first = next((step for step in segment if not step.moves), None)
    if first is None or first.op_type in POOLING:
        return Merging.IN_BLOCK
    blocks = modules.blocks_of(first.path)
    if blocks and not modules.has_inner_blocks(blocks[-1]):
        if modules.weighted(blocks[-1]) >= SEVERAL:
            return Merging.IN_BLOCK
        module = blocks[-1]
    else:
        module = first.path[: len(blocks[-1]) + 1 if blocks else 1]
    if first.op_type not in WEIGHTED and not modules.weighted(module):
        return Merging.IN_BLOCK
    inside = [step for step in segment if _within(step, module)]
    return Merging.OWN if any(step.op_type in ACTIVATING for step in inside) else Merging.LINEAR


def _has_residual(steps: Sequence[Step]) -> bool:
    """Return whether a step adds a former step to what was computed from it."""
    names = {step.name for step in steps}
    return any(step.op_type == "Add" and names.intersection(step.inputs) for step in steps)


def _without_preparation(
    own: Sequence[Step], following: Sequence[Step], others: Sequence[Step], modules: Modules
) -> list[Step]:
    """Return the steps of a resolution without those of a module that leads to the next resolution.

    Such a module has steps at this resolution and the next, none at others, and no whole block at this resolution.
    """
    path = following[0].path
    for depth in range(1, len(path) + 1):
        module = path[:depth]
        inside = [step for step in own if _within(step, module)]
        if any(_within(step, module) for step in others) or _has_block(inside, following, module, modules):
            continue
        kept = [step for step in own if not _within(step, module)]
        return kept or list(own)
    return list(own)


def _has_block(inside: Sequence[Step], following: Sequence[Step], module: Path, modules: Modules) -> bool:
    """Return whether the module contains a block that ends at this resolution."""
    blocks = {block for step in inside for block in modules.blocks_of(step.path) if len(block) > len(module)}
    blocks = {block for block in blocks if modules.weighted(block) >= SEVERAL}
    return any(not any(_within(step, block) for step in following) for block in blocks)


def _without_head(own: Sequence[Step], modules: Modules, root: Path) -> list[Step]:
    """Return the steps of the last resolution up to the end of the last block, and convolutions that follow it.

    A sum with the end of the last numbered block ends a block too, which has no number.

    What is outside ``root``, the module of the trunk, is not kept, such as a projection behind a detector's backbone.
    Neither are a module that is named as the head, a norm, and a convolution at the end of a flat list of blocks, which
    widens the map for the classifier. A norm with an activation beside the last group of blocks is kept, as in a
    DenseNet; beside a flat list of blocks it belongs to the classifier, as in a DPN.
    """
    last = max((index for index, step in enumerate(own) if _is_body(step, modules)), default=None)
    if last is None:
        return _without_scores(own)
    kept = list(own[: last + 1])
    outermost = modules.blocks_of(own[last].path)[0]
    container = outermost[:-1]
    is_beside = bool(container) and modules.is_group(outermost)
    for step in own[last + 1 :]:
        is_beside = is_beside and _within(step, container) and step.op_type not in WEIGHTED
        is_other = modules.blocks_of(step.path) or _is_head(step) or not _within(step, root)
        if is_other or not (is_beside or _continues(step, kept[-1])):
            break
        kept.append(step)
    return kept


def _continues(step: Step, end: Step) -> bool:
    """Return whether a step after the last block is a convolution, part of its module, or a sum with the block."""
    is_next = end.name in step.inputs
    is_sum = step.op_type == "Add" and step.branches >= SEVERAL
    return step.op_type == "Conv" or (is_next and (is_sum or (bool(step.path) and end.op_type == "Conv")))


def _without_scores(own: Sequence[Step]) -> list[Step]:
    """Return the steps before the last product with a weight if the network ends in it, with scores of each token."""
    last = max((index for index, step in enumerate(own) if step.op_type in WEIGHTED), default=0)
    is_scores = own[last].layout is Layout.TOKENS and _last(own[:last]) is not None
    return list(own[:last]) if is_scores else list(own)


def _is_head(step: Step) -> bool:
    """Return whether the module of a step, or of its weight, is named as the head of the network."""
    names = ".".join((*step.path, *step.inputs[1:2])).lower()
    return any(word in names for word in HEADS)


def _is_body(step: Step, modules: Modules) -> bool:
    """Return whether a step belongs to a block that is no single layer among larger blocks."""
    blocks = modules.blocks_of(step.path)
    return bool(blocks) and not modules.is_plain_among_others(blocks[-1])


def _last(steps: Sequence[Step]) -> Step | None:
    """Return the last step that computes values; None if there is none."""
    return next((step for step in reversed(steps) if not step.moves), None)


def _within(step: Step, module: Path) -> bool:
    """Return whether a step belongs to a module."""
    return step.path[: len(module)] == module


def _common(one: Path, other: Path) -> Path:
    """Return the innermost module that contains both modules."""
    count = 0
    while count < min(len(one), len(other)) and one[count] == other[count]:
        count += 1
    return one[:count]
