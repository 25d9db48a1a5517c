"""Index the layers of one model by every name that a selector may use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from layertap.types import LayerInfo, Layout


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

    @classmethod
    def build(cls, layers: Sequence[LayerInfo]) -> LayerIndex:
        """Return the index of layers in execution order, without aliases and stages."""
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


def resolution_ends(layers: Sequence[LayerInfo]) -> Iterator[LayerInfo]:
    """Yield the last tappable layer at each spatial resolution while the stride grows; skip a decoder's upsampling."""
    ends: dict[float, LayerInfo] = {}
    deepest = 0.0
    for layer in layers[1:]:
        has_positions = layer.layout in {Layout.NCHW, Layout.NHWC} and set(_spatial_size(layer)) != {1}
        if layer.tappable and has_positions and layer.stride is not None and layer.stride >= deepest:
            deepest = layer.stride
            ends[deepest] = layer
    yield from ends.values()


def _spatial_size(layer: LayerInfo) -> tuple[int, ...]:
    """Return the height and width of a layer in layout NCHW or NHWC."""
    return layer.shape[1:3] if layer.layout is Layout.NHWC else layer.shape[2:4]
