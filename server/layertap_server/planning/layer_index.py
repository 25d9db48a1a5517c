"""Index the layers of one model by every name that a selector may use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from layertap.types import LayerInfo


@dataclass(frozen=True)
class LayerIndex:
    """The layers of one model, by name, node, module path, alias and stage."""

    layers: tuple[LayerInfo, ...]
    """All layers, in execution order."""
    by_name: Mapping[str, LayerInfo]
    by_node: Mapping[str, Sequence[LayerInfo]]
    """Outputs of each node."""
    by_path: Mapping[str, LayerInfo]
    """The last layer computed under each module path."""
    attentions: tuple[LayerInfo, ...] = ()
    """Layers that hold attention probabilities, in execution order."""
    aliases: Mapping[str, LayerInfo] = field(default_factory=dict)
    stages: tuple[LayerInfo, ...] = ()
    """Layers at which the stages end, in execution order."""
    blocks: tuple[LayerInfo, ...] = ()
    """Outputs of the network's repeated blocks, in execution order."""

    @classmethod
    def build(cls, layers: Sequence[LayerInfo]) -> LayerIndex:
        """Return the index of layers in execution order, without aliases, stages and blocks."""
        # Subgraphs of If and Loop may reuse the name of a layer; the name then means the tappable layer.
        by_name = {layer.name: layer for layer in sorted(layers, key=lambda layer: layer.tappable)}
        by_node: dict[str, list[LayerInfo]] = {}
        by_path: dict[str, LayerInfo] = {}
        for layer in layers:
            if layer.node:
                by_node.setdefault(layer.node, []).append(layer)
            for path in _paths(layer.module_path):
                by_path[path] = layer
        attentions = tuple(layer for layer in layers if layer.attention)
        return cls(tuple(layers), by_name, by_node, by_path, attentions)


def _paths(module_path: str) -> list[str]:
    """Return a module path and its parents, outermost first: ``a.b.c`` gives a, a.b and a.b.c."""
    parts = module_path.split(".") if module_path else []
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
