"""Find the layers of each form of selector."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass

from layertap import blocks
from layertap._nearest import did_you_mean, nearest
from layertap.errors import AmbiguousLayerError, NotTappableError, UnknownLayerError
from layertap.types import LayerInfo
from layertap_server.planning.layer_index import LayerIndex

LISTED = 5
"""Maximum number of layers that an error about a selector of several layers lists."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The layers that a selector names."""

    layers: tuple[LayerInfo, ...]
    single: bool
    """Whether the form of the selector names exactly one layer."""
    is_gradient: bool = False
    """Whether the gradients with respect to the layers are meant instead of the layers."""


def find_name(index: LayerIndex, selector: str) -> Selection | None:
    """Return the layer of this name."""
    return one(index.by_name[selector]) if selector in index.by_name else None


def find_alias(index: LayerIndex, selector: str) -> Selection | None:
    """Return the layer of this alias."""
    return one(index.aliases[selector]) if selector in index.aliases else None


def find_path(index: LayerIndex, selector: str) -> Selection | None:
    """Return the last layer computed under this module path."""
    return one(index.by_path[selector]) if selector in index.by_path else None


def find_module(index: LayerIndex, selector: str) -> Selection | None:
    """Return the last layer of the module whose path ends in the selector, component by component.

    Exporters put the names of outer modules in front, as in ``StatefulPartitionedCall/model/activation_1/Relu:0``.

    Raises:
        AmbiguousLayerError: several modules' paths end so.
    """
    wanted = tuple(re.split(r"[./]", selector))
    modules: dict[tuple[str, ...], LayerInfo] = {}
    for layer in index.layers:
        path = _module_of(layer)
        for end in range(len(wanted), len(path) + 1):
            if path[end - len(wanted) : end] == wanted:
                modules[path[:end]] = layer
    if len(modules) > 1:
        names = ["/".join(path) for path in list(modules)[:LISTED]]
        message = (
            f"the paths of {len(modules)} modules end in {selector!r}: {', '.join(names)}; name one of them in full"
        )
        raise AmbiguousLayerError(message, selector=selector, suggestions=names)
    return one(next(iter(modules.values()))) if modules else None


def _module_of(layer: LayerInfo) -> tuple[str, ...]:
    """Return the path of a layer's module; without one, what the name has in front of the operator."""
    if layer.module_path:
        return tuple(layer.module_path.split("."))
    return tuple(layer.name.split("/")[:-1])


def find_node(index: LayerIndex, selector: str) -> Selection | None:
    """Return the first output of the node of this name.

    Raises:
        AmbiguousLayerError: several nodes have this name.
    """
    if selector not in index.by_node:
        return None
    layers = index.by_node[selector]
    firsts = [layer for layer in layers if layer.output_index == 0]
    if len(firsts) > 1:
        names = [layer.name for layer in firsts[:LISTED]]
        message = f"{len(firsts)} nodes are called {selector!r}; name the layer instead: {', '.join(names)}"
        raise AmbiguousLayerError(message, selector=selector, suggestions=names)
    return one(layers[0])


def find_position(index: LayerIndex, selector: str) -> Selection:
    """Return the layer at a position in execution order; negative positions count from the end."""
    ordinal, count = int(selector[1:]), len(index.layers)
    if not -count <= ordinal < count:
        message = f"there is no layer {selector}; layers go from #0 to #{count - 1}"
        raise UnknownLayerError(message, selector=selector)
    return one(index.layers[ordinal])


def find_operator(index: LayerIndex, selector: str) -> Selection:
    """Return the layers that an operator of this type produces, or a block or activation of this name or alias."""
    operator = selector.removeprefix("op:")
    block = blocks.find(operator)
    names = {operator, block.name} if block is not None else {operator}
    layers = [layer for layer in index.layers if layer.op_type in names]
    if not layers:
        suggestions = nearest(operator, {layer.op_type for layer in index.layers})
        message = f"no layer is produced by an operator {operator!r}{did_you_mean(suggestions)}"
        raise UnknownLayerError(message, selector=selector, suggestions=[f"op:{name}" for name in suggestions])
    return several(layers, selector)


def find_all(index: LayerIndex, selector: str) -> Selection:
    """Return all layers, or those directly after an activation."""
    if selector == "all":
        return several(index.layers, selector)
    if selector != "all:activations":
        message = f"there is no {selector}; use all or all:activations"
        raise UnknownLayerError(message, selector=selector, suggestions=["all", "all:activations"])
    return several([layer for layer in index.layers if layer.activation], selector)


def find_pattern(index: LayerIndex, selector: str) -> Selection | None:
    """Return the layers whose names or module paths match a pattern with wildcards."""
    if not any(character in selector for character in "*?["):
        return None
    matches = re.compile(fnmatch.translate(selector)).match
    layers = [layer for layer in index.layers if matches(layer.name) or matches(layer.module_path)]
    if not layers:
        raise UnknownLayerError(f"no layer matches {selector!r}", selector=selector)
    return several(layers, selector)


def find_numbered(prefix: str, layers: Sequence[LayerInfo], selector: str) -> Selection:
    """Return the N-th of some layers for ``prefix:N``, counted from 1, or from the end if N is negative."""
    number = selector.removeprefix(f"{prefix}:")
    ordinal = int(number) if re.fullmatch(r"-?[0-9]{1,9}", number) else 0
    if ordinal == 0 or abs(ordinal) > len(layers):
        span = f"they go from {prefix}:1 to {prefix}:{len(layers)}, from the end {prefix}:-1"
        message = f"there is no {selector}; {span if layers else f'this model has no {prefix}s'}"
        raise UnknownLayerError(message, selector=selector, **{f"{prefix}s": len(layers)})
    return one(layers[ordinal - 1 if ordinal > 0 else ordinal])


def one(layer: LayerInfo) -> Selection:
    """Return the selection of one layer.

    Raises:
        NotTappableError: the layer cannot be tapped.
    """
    if not layer.tappable:
        message = f"the layer {layer.name!r} cannot be tapped: {layer.not_tappable_reason}"
        raise NotTappableError(message, layer=layer.name, why=layer.not_tappable_reason)
    return Selection((layer,), single=True)


def several(layers: Sequence[LayerInfo], selector: str) -> Selection:
    """Return the selection of the layers that can be tapped.

    Raises:
        NotTappableError: none of the layers can be tapped.
    """
    found = tuple(layer for layer in layers if layer.tappable)
    if not found:
        why = layers[0].not_tappable_reason if layers else "the model has no such layer"
        raise NotTappableError(f"{selector!r} names no layer that can be tapped: {why}", selector=selector, why=why)
    return Selection(found, single=False)
