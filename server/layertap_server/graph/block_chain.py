"""The blocks of a network that carries several tensors from block to block, so that no trunk passes through them.

A TNT has tokens of patches and of the pixels inside them. The blocks form a chain if each needs the output of the one
before; the output of a block is the last tensor that it computes for the blocks after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import onnx

from layertap_server.graph.module_path import module_path_of
from layertap_server.graph.network_blocks import Modules, Path
from layertap_server.graph.trunk import MOST_PREFIX_TOKENS, MOVEMENT, TOKEN_AXES, Size, Step, size_of
from layertap_server.graph.walk import depends_on
from layertap_server.tensor import Tensor

SMALLEST_CHAIN = 3
"""Minimum number of blocks of a chain."""
LARGEST_PATCH = 64
"""Maximum height and width of a patch in pixels."""


def through_blocks(
    trunk: Sequence[Step], graph: onnx.GraphProto, types: Mapping[str, Tensor], image: str, modules: Modules
) -> list[Step]:
    """Return the outputs of the blocks as the trunk if most blocks lie beside it and form a chain; else the trunk.

    Args:
        trunk: the trunk of the network.
        graph: the graph.
        types: the types of its tensors.
        image: name of the image input.
        modules: the modules of the network.
    """
    outputs = _block_outputs(graph, modules)
    passed = {blocks[0] for step in trunk if (blocks := modules.blocks_of(step.path))}
    size = size_of(types.get(image))
    if size is None or 2 * len(passed) >= len(outputs) or len(outputs) < SMALLEST_CHAIN:
        return list(trunk)
    steps = [_step(node, path, types, size) for path, node in outputs.items()]
    found = [step for step in steps if step is not None]
    is_uniform = len(found) == len(steps) and len({step.size for step in found}) == 1
    return found if is_uniform and _is_chain(graph, found) else list(trunk)


def _block_outputs(graph: onnx.GraphProto, modules: Modules) -> dict[Path, onnx.NodeProto]:
    """Return the node of the last tensor that each outermost block computes and another module reads."""
    owners: dict[str, Path] = {}
    outputs: dict[Path, onnx.NodeProto] = {}
    for node in graph.node:
        block = next(iter(modules.blocks_of(tuple(module_path_of(node).split(".")))), ())
        owners.update(dict.fromkeys(node.output, block))
    read = {
        name for node in graph.node for name in node.input for one in node.output if owners.get(name) != owners[one]
    }
    read.update(value.name for value in graph.output)
    for node in graph.node:
        if (block := owners[node.output[0]]) and node.op_type not in MOVEMENT and node.output[0] in read:
            outputs[block] = node
    return outputs


def _step(node: onnx.NodeProto, path: Path, types: Mapping[str, Tensor], image: Size) -> Step | None:
    """Return the output of a block as a step; None if it is neither a map nor the tokens of patches."""
    tensor = types.get(node.output[0])
    grids = dict(_grids(tensor, image)) if tensor is not None else {}
    if tensor is None or not grids:
        return None
    prefix = min(grids)
    return Step(node.output[0], node.op_type, path, grids[prefix], prefix, tuple(node.input), tensor.layout)


def _grids(tensor: Tensor, image: Size) -> Iterator[tuple[int, Size]]:
    """Yield the number of prefix tokens and the grid of patches that tokens may be; for a map, 0 and its size."""
    if (size := size_of(tensor)) is not None:
        yield tensor.prefix or 0, size
        return
    count = tensor.shape[1] if len(tensor.shape) == TOKEN_AXES + 1 else None
    for patch in range(2, LARGEST_PATCH + 1):
        grid = image[0] // patch, image[1] // patch
        prefix = count - grid[0] * grid[1] if isinstance(count, int) else -1
        if not (image[0] % patch or image[1] % patch) and 0 <= prefix <= MOST_PREFIX_TOKENS:
            yield prefix, grid


def _is_chain(graph: onnx.GraphProto, steps: Sequence[Step]) -> bool:
    """Return whether each step depends on the step before, and an output of the graph on the last one."""
    if not all(after.name in depends_on(graph, [before.name]) for before, after in pairwise(steps)):
        return False
    following = depends_on(graph, [steps[-1].name])
    return any(value.name in following for value in graph.output)
