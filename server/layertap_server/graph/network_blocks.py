"""The blocks that a network repeats, such as residual blocks, transformer layers and MBConv blocks.

A module of the original network is a block if its name ends in a number, like ``layer1.0`` or ``blocks.4``, and it
contains several layers with weights. Numbered layers inside blocks, such as separable convolutions beside a shortcut,
are no blocks. Without module paths, a block ends where branches are added or concatenated.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest

import onnx

from layertap.types import Layout
from layertap_server.graph.module_path import module_path_of
from layertap_server.graph.trunk import Step

Path = tuple[str, ...]
"""Components of a module path."""

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "ConvInteger", "QLinearConv", "QLinearMatMul"})
"""Operators that hold most of a network's weights."""
SEVERAL = 2
"""Minimum number of weighted layers, and of blocks of one kind."""
SHARE = 0.1
"""Minimum share of the network's weighted layers in all blocks of one kind; a stem has less."""
NUMBER = re.compile(r"\d+$")
JOINING = frozenset({"Add", "Concat", "Sum"})
ACTIVATING = frozenset({"Relu", "LeakyRelu", "Clip", "PRelu", "Elu", "Selu", "HardSwish", "Sigmoid", "Mul", "Gelu"})


MAPS = frozenset({Layout.NCHW, Layout.NHWC})
"""Layouts with rows and columns."""


class Modules:
    """The modules of a network, by their paths."""

    def __init__(self, graph: onnx.GraphProto, steps: Sequence[Step] = ()) -> None:
        """Count the weighted layers of each module.

        Args:
            graph: the graph.
            steps: the trunk of the network; without it, separable convolutions inside blocks count as blocks.
        """
        self._weighted: Counter[Path] = Counter()
        total = 0
        for node in graph.node:
            path = module_path_of(node)
            if path and node.op_type in WEIGHTED:
                total += 1
                parts = tuple(path.split("."))
                self._weighted.update(parts[:count] for count in range(1, len(parts) + 1))
        numbered = [path for path in self._weighted if NUMBER.search(path[-1]) and self._weighted[path] >= SEVERAL]
        members = Counter(map(kind_of, numbered))
        layers = Counter(
            {kind: sum(self._weighted[path] for path in numbered if kind_of(path) == kind) for kind in members}
        )
        self._kinds: set[Path] = {
            kind for kind in members if members[kind] >= SEVERAL and layers[kind] >= SHARE * total
        }
        self._kinds -= self._layer_kinds(numbered, steps)
        self._numbered = numbered
        self._repeated = {path for path in numbered if members[kind_of(path)] >= SEVERAL}
        self._containers = {path[:count] for path in self._repeated for count in range(1, len(path))}
        found = [path for path in numbered if kind_of(path) in self._kinds]
        self._outer = {path[:count] for path in found for count in range(1, len(path))}

    def _layer_kinds(self, numbered: Sequence[Path], steps: Sequence[Step]) -> set[Path]:
        """Return the kinds that are layers of blocks: inside blocks of the trunk, most of them lie beside the trunk."""
        on_trunk = {step.path[:count] for step in steps if not step.moves for count in range(1, len(step.path) + 1)}
        members: dict[Path, list[bool]] = {}
        for path in numbered:
            outer = [path[:count] for count in range(1, len(path)) if kind_of(path[:count]) in self._kinds]
            if kind_of(path) in self._kinds and outer and outer[-1] in on_trunk:
                members.setdefault(kind_of(path), []).append(path in on_trunk)
        return {kind for kind, inside in members.items() if 2 * sum(inside) < len(inside)}

    def weighted(self, path: Path) -> int:
        """Return the number of weighted layers of a module."""
        return self._weighted[path]

    def blocks_of(self, path: Path) -> list[Path]:
        """Return the blocks that contain a module, the outermost first."""
        prefixes = (path[:count] for count in range(1, len(path) + 1))
        return [prefix for prefix in prefixes if NUMBER.search(prefix[-1]) and kind_of(prefix) in self._kinds]

    def innermost_repeated(self, path: Path) -> Path:
        """Return the innermost repeated module that contains a module, whatever its share of the network; () for none.

        A module with repeated modules in it counts as none.
        """
        prefixes = (path[:count] for count in range(len(path), 0, -1))
        found = next((prefix for prefix in prefixes if prefix in self._repeated), ())
        return () if found in self._containers else found

    def has_inner_blocks(self, block: Path) -> bool:
        """Return whether a block contains blocks, as a stage contains those of its resolution."""
        return block in self._outer

    def is_group(self, module: Path) -> bool:
        """Return whether a module contains numbered modules of several weighted layers, as a stage or a dense block."""
        return any(len(path) > len(module) and path[: len(module)] == module for path in self._numbered)

    def is_plain_among_others(self, block: Path) -> bool:
        """Return whether a block is a single weighted layer at the end of a flat list of larger blocks."""
        kind = kind_of(block)
        is_flat = sum(bool(NUMBER.search(part)) for part in block) == 1
        others = (path for path in self._weighted if len(path) == len(block) and kind_of(path) == kind)
        return is_flat and self._weighted[block] == 1 and any(self._weighted[path] >= SEVERAL for path in others)


def kind_of(path: Path) -> Path:
    """Return the kind of a numbered module: its path without numbers, such as ``("layer#", "#")``."""
    return tuple(NUMBER.sub("#", part) for part in path)


def without_class_attention(steps: Sequence[Step], modules: Modules) -> list[Step]:
    """Return the steps before class tokens join the tokens of the blocks; what follows prepares the classifier.

    If blocks of the same kind follow, as in a ConViT, they are part of the network.
    """
    ends = block_ends(steps, modules)
    if not ends or ends[0].prefix:
        return list(steps)
    first = steps.index(ends[0])
    joined = next((index for index, step in enumerate(steps) if index > first and step.prefix), len(steps))
    kinds = {kind_of(block) for block in modules.blocks_of(ends[0].path)}
    is_same = any(kinds.intersection(map(kind_of, modules.blocks_of(step.path))) for step in steps[joined:])
    return list(steps if is_same else steps[:joined])


def block_ends(steps: Sequence[Step], modules: Modules, image: Layout = Layout.NCHW) -> list[Step]:
    """Return the outputs of the blocks on the trunk, in execution order.

    Args:
        steps: the trunk of the network.
        modules: the modules of the network.
        image: layout of the image input.
    """
    ends: dict[Path, Step] = {}
    for step in steps:
        if (blocks := modules.blocks_of(step.path)) and not step.moves:
            ends[blocks[-1]] = step
    if not ends:
        return as_maps([(end, steps) for end in _joins(steps)], image)
    innermost = [path for path in ends if not _has_inner(path, ends)]
    return as_maps(
        [(ends[path], [step for step in steps if step.path[: len(path)] == path]) for path in innermost], image
    )


def as_maps(ends: Sequence[tuple[Step, Sequence[Step]]], image: Layout) -> list[Step]:
    """Return the outputs of stages or blocks as the maps that the framework's modules return.

    Tokens of a Swin become a map again. Networks whose image has its channels last turn the map of each convolution
    back; these are returned if all outputs can be had in the layout of the image, so that they have one layout.

    Args:
        ends: the last step of each stage or block that computes values, and the steps among which its map is searched.
        image: layout of the image input.
    """
    moved = [_moved(end, steps) for end, steps in ends]
    outside = [end if end.layout is image else map_ for (end, _), map_ in zip(ends, moved, strict=True)]
    if all(step.layout is image for step in outside):
        return outside
    return [end if end.layout in MAPS else map_ for (end, _), map_ in zip(ends, moved, strict=True)]


def _moved(end: Step, steps: Sequence[Step]) -> Step:
    """Return the step after the end that only moves its values into a map; the end if there is none."""
    following = steps[steps.index(end) + 1 :]
    moved = next((step for step in following if end.name in step.inputs and step.moves), end)
    return moved if moved.layout in MAPS else end


def _has_inner(path: Path, ends: dict[Path, Step]) -> bool:
    """Return whether another block lies inside the module."""
    return any(len(other) > len(path) and other[: len(path)] == path for other in ends)


def _joins(steps: Sequence[Step]) -> list[Step]:
    """Return the steps at which branches are joined, each with the activation that follows it."""
    found: list[Step] = []
    for step, after in zip_longest(steps, steps[1:]):
        if step.op_type not in JOINING or step.branches < SEVERAL:
            continue
        is_activated = after is not None and after.op_type in ACTIVATING and step.name in after.inputs
        found.append(after if is_activated and after is not None else step)
    return found
