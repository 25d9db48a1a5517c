"""The blocks of a network that carries several tensors from block to block, so that no trunk passes through them.

A TNT has tokens of patches and of the pixels inside them. The blocks form a chain if each needs the output of the one
before; the output of a block is the last tensor that it computes for the blocks after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from layertap_server.graph.block_outputs import block_outputs, grid_sizes, outermost_blocks, step_of
from layertap_server.graph.network_blocks import Modules
from layertap_server.graph.trunk import Step
from layertap_server.graph.walk import reads
from layertap_server.tensor import Tensor

SMALLEST_CHAIN = 3
"""Minimum number of blocks of a chain."""


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
    outputs = block_outputs(graph, outermost_blocks(graph, modules))
    passed = {blocks[0] for step in trunk if (blocks := modules.blocks_of(step.path))}
    if 2 * len(passed) >= len(outputs) or len(outputs) < SMALLEST_CHAIN:
        return list(trunk)
    sizes = grid_sizes(types, image)
    steps = [step_of(node, path, types, sizes) for path, node in outputs.items()]
    found = [step for step in steps if step is not None]
    is_uniform = len(found) == len(steps) and len({step.size for step in found}) == 1
    return found if is_uniform and _is_chain(graph, found) else list(trunk)


def _is_chain(graph: onnx.GraphProto, steps: Sequence[Step]) -> bool:
    """Return whether each step depends on the step before, and an output of the graph on the last one."""
    numbers = {step.name: number for number, step in enumerate(steps)}
    latest: dict[str, int] = {}
    for node in graph.node:
        before = max((latest[name] for name in reads(node) if name in latest), default=-1)
        number = numbers.get(node.output[0], before)
        if node.output[0] in numbers and before != number - 1:
            return False
        latest.update(dict.fromkeys(node.output, number))
    return any(latest.get(value.name) == len(steps) - 1 for value in graph.output)
