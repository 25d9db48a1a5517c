"""The outputs of blocks by the module paths of nodes alone, for networks through whose blocks no trunk passes."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from layertap_server.graph.module_path import module_path_of
from layertap_server.graph.network_blocks import Modules, Path
from layertap_server.graph.trunk import MOST_PREFIX_TOKENS, MOVEMENT, TOKEN_AXES, Size, Step, size_of
from layertap_server.tensor import Tensor

LARGEST_PATCH = 64
"""Maximum height and width of a patch in pixels."""


def outermost_blocks(graph: onnx.GraphProto, modules: Modules) -> dict[str, Path]:
    """Return the block of each tensor that lies in no other block, by the tensor's name; () for tensors in no block."""
    owners: dict[str, Path] = {}
    for node in graph.node:
        blocks = modules.blocks_of(tuple(module_path_of(node).split(".")))
        owners.update(dict.fromkeys(node.output, blocks[0] if blocks else ()))
    return owners


def innermost_repeated(graph: onnx.GraphProto, modules: Modules) -> dict[str, Path]:
    """Return the innermost repeated module of each tensor, by the tensor's name; () for tensors in none.

    Tensors that a module with repeated modules in it computes itself are in none.
    """
    owners: dict[str, Path] = {}
    for node in graph.node:
        path = tuple(module_path_of(node).split("."))
        owners.update(dict.fromkeys(node.output, modules.innermost_repeated(path)))
    return owners


def block_outputs(graph: onnx.GraphProto, owners: Mapping[str, Path]) -> dict[Path, onnx.NodeProto]:
    """Return the node of the last tensor that each block computes and another module reads, in execution order.

    Args:
        graph: the graph.
        owners: the block of each tensor, () for none.
    """
    read = {value.name for value in graph.output}
    for node in graph.node:
        read.update(name for name in node.input if owners.get(name) != owners[node.output[0]])
    outputs: dict[Path, onnx.NodeProto] = {}
    for node in graph.node:
        if (block := owners[node.output[0]]) and node.op_type not in MOVEMENT and node.output[0] in read:
            outputs.pop(block, None)
            outputs[block] = node
    return outputs


def grid_sizes(types: Mapping[str, Tensor], image: str) -> Mapping[int, Size]:
    """Return the sizes that tokens may have as a map, by the number of tokens.

    They are the sizes of the maps of a graph, and the grids of square patches of the image.
    """
    height, width = size_of(types.get(image)) or (0, 0)
    patches = [side for side in range(2, LARGEST_PATCH + 1) if not (height % side or width % side)]
    maps = [size for tensor in types.values() if (size := size_of(tensor)) is not None]
    grids = [*((height // side, width // side) for side in patches), *maps]
    return {rows * columns: (rows, columns) for rows, columns in grids}


def step_of(node: onnx.NodeProto, path: Path, types: Mapping[str, Tensor], sizes: Mapping[int, Size]) -> Step | None:
    """Return the first output of a node as a step; None if it is neither a map nor tokens on a grid.

    Args:
        node: the node.
        path: its module path.
        types: the types of the graph's tensors.
        sizes: the sizes that tokens may have as a map, by their number; the one with the fewest prefix tokens is taken.
    """
    name = node.output[0]
    tensor = types.get(name)
    if tensor is None:
        return None
    size, prefix = size_of(tensor), tensor.prefix or 0
    count = tensor.shape[1] if len(tensor.shape) == TOKEN_AXES + 1 else None
    if size is None and isinstance(count, int):
        known = (extra for extra in range(MOST_PREFIX_TOKENS + 1) if count - extra in sizes)
        prefix = next(known, 0)
        size = sizes.get(count - prefix)
    return Step(name, node.op_type, path, size, prefix, tuple(node.input), tensor.layout) if size else None
