"""The stages and blocks of a model, by the names of their output layers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from layertap_server.graph.block_chain import through_blocks
from layertap_server.graph.model_graph import ModelGraph
from layertap_server.graph.network_blocks import Modules, block_ends, without_class_attention
from layertap_server.graph.stages import stage_ends
from layertap_server.graph.trunk import Step, find_trunk


@dataclass(frozen=True, slots=True)
class Structure:
    """Output layers of the stages and of the blocks of a network, each in execution order."""

    stages: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()


def structure_of(model: ModelGraph) -> Structure:
    """Derive the stages and blocks of a model whose shapes are known for one image size.

    A model without a trunk of maps or tokens has none, such as one that computes several resolutions side by side from
    the start.
    """
    graph = model.proto.graph
    types, image_input = {**model.types, **model.batch_first}, model.main_input.name
    trunk = find_trunk(graph, types, image_input)
    modules = Modules(graph, trunk)
    steps = without_class_attention(through_blocks(trunk, graph, types, image_input, modules), modules)
    image = model.main_input.layout
    tappable = {layer.name for layer in model.layers if layer.tappable}
    return Structure(
        _names(stage_ends(steps, modules, image), tappable),
        _names(block_ends(steps, modules, image), tappable),
    )


def _names(steps: Iterable[Step], tappable: set[str]) -> tuple[str, ...]:
    """Return the names of the steps that can be tapped."""
    return tuple(step.name for step in steps if step.name in tappable)
