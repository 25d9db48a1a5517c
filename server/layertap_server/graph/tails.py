"""The part of a model between a layer and a target, which runs on values of the layer that are fed."""

from __future__ import annotations

from dataclasses import dataclass

from layertap_server.graph.model_graph import ModelGraph
from layertap_server.graph.walk import depends_on, needed_nodes


@dataclass(frozen=True, slots=True)
class Tail:
    """The part of a model that computes a target from a layer."""

    layers: frozenset[str]
    """Layers that are computed from the layer, without itself."""
    needs_images: bool
    """Whether a path from the images to the target goes around the layer."""


def find_tail(graph: ModelGraph, layer: str, target: str) -> Tail:
    """Return the part of a model that computes the layer ``target`` from a layer."""
    _, needed = needed_nodes(graph.proto.graph, {target}, given={layer})
    return Tail(depends_on(graph.proto.graph, {layer}) - {layer}, graph.main_input.name in needed)
