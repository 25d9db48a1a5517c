"""The stages and blocks of a model, by the names of their output layers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from layertap_server.graph.block_chain import through_blocks
from layertap_server.graph.model_graph import ModelGraph
from layertap_server.graph.network_blocks import Modules, block_ends, without_class_attention
from layertap_server.graph.side_by_side import side_by_side_ends
from layertap_server.graph.stages import stage_ends
from layertap_server.graph.trunk import Step, find_trunk


@dataclass(frozen=True, slots=True)
class Structure:
    """Output layers of the stages and of the blocks of a network, each in execution order."""

    stages: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()


def structure_of(model: ModelGraph) -> Structure:
    """Derive the stages and blocks of a model whose shapes are known for one image size.

    A model without maps or tokens has none. One that computes several resolutions side by side from the start has
    stages and no blocks, since its blocks have no order.
    """
    graph, image, layout = model.proto.graph, model.main_input.name, model.main_input.layout
    types = {**model.types, **model.batch_first}
    trunk = find_trunk(graph, types, image)
    modules = Modules(graph, trunk)
    tappable = {layer.name for layer in model.layers if layer.tappable}
    if not trunk and (ends := side_by_side_ends(graph, types, image, modules)):
        return Structure(_names(ends, tappable))
    steps = without_class_attention(through_blocks(trunk, graph, types, image, modules), modules)
    return Structure(
        _names(stage_ends(steps, modules, layout), tappable), _names(block_ends(steps, modules, layout), tappable)
    )


def _names(steps: Iterable[Step], tappable: set[str]) -> tuple[str, ...]:
    """Return the names of the steps that can be tapped."""
    return tuple(step.name for step in steps if step.name in tappable)
