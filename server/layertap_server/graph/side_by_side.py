"""The stages of a network that computes several resolutions side by side, so that it has no trunk.

The stage of a resolution is the output of the last block at it, as in any network. An HRNet has maps of four
resolutions at once, and a CrossViT tokens of two sizes of patches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise

import onnx

from layertap_server.graph.block_outputs import block_outputs, grid_sizes, innermost_repeated, step_of
from layertap_server.graph.module_path import module_path_of
from layertap_server.graph.network_blocks import SEVERAL, WEIGHTED, Modules, Path
from layertap_server.graph.stages import SHRINKING
from layertap_server.graph.trunk import MOVEMENT, Size, Step, size_of
from layertap_server.graph.walk import reads
from layertap_server.tensor import Tensor


def side_by_side_ends(graph: onnx.GraphProto, types: Mapping[str, Tensor], image: str, modules: Modules) -> list[Step]:
    """Return the steps at which the stages of a network without trunk end, from the highest resolution to the lowest.

    A network that returns from a low resolution to a higher one, as a stack of hourglasses, has none: its last blocks
    at the resolutions are not computed in this order.

    Args:
        graph: the graph.
        types: the types of its tensors.
        image: name of the image input.
        modules: the modules of the network.
    """
    last = _last_blocks(graph, types, image, modules)
    if len(last) < SEVERAL:
        return []
    found = [*_stem(graph, types, modules, last), *last.values()]
    is_falling = all(after.area < SHRINKING * before.area for before, after in pairwise(found))
    return found if is_falling else []


def _last_blocks(graph: onnx.GraphProto, types: Mapping[str, Tensor], image: str, modules: Modules) -> dict[Size, Step]:
    """Return the output of the last block at each resolution, in execution order.

    Only blocks at one resolution count: those that exchange maps between resolutions are no blocks of a stage.
    """
    sizes, owners = grid_sizes(types, image), innermost_repeated(graph, modules)
    inside: dict[Path, set[Size]] = {}
    for name, block in owners.items():
        if (size := size_of(types.get(name))) is not None and size != (1, 1):
            inside.setdefault(block, set()).add(size)
    last: dict[Size, Step] = {}
    for block, node in block_outputs(graph, owners).items():
        step = step_of(node, block, types, sizes)
        if step is not None and step.size is not None and step.area and len(inside.get(block, ())) < SEVERAL:
            last.pop(step.size, None)
            last[step.size] = step
    return last


def _stem(graph: onnx.GraphProto, types: Mapping[str, Tensor], modules: Modules, last: Iterable[Size]) -> list[Step]:
    """Return the last tensor at each resolution that is higher than those of the blocks, before the first block."""
    highest = max(height * width for height, width in last)
    weighted: set[str] = set()
    stem: dict[Size, Step] = {}
    for node in graph.node:
        path = tuple(module_path_of(node).split("."))
        if modules.innermost_repeated(path):
            break
        if node.op_type in WEIGHTED or any(name in weighted for name in reads(node)):
            weighted.update(node.output)
            size = size_of(types.get(node.output[0]))
            if size is not None and size[0] * size[1] > highest and node.op_type not in MOVEMENT:
                stem[size] = Step(node.output[0], node.op_type, path, size, 0, tuple(node.input))
    return list(stem.values())
