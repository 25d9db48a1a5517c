"""Resolve selectors to the layers that they name on one model."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from layertap import blocks
from layertap._nearest import did_you_mean, nearest
from layertap.blocks import BlockKind
from layertap.errors import AmbiguousLayerError, InvalidRequestError, NotTappableError, UnknownLayerError
from layertap.expression import LONGEST
from layertap.types import LayerInfo, Layout

ACTIVATIONS = frozenset(
    {
        *("Celu", "Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "PRelu", "Relu"),
        *("Selu", "Sigmoid", "Softplus", "Softsign", "Swish", "Tanh", "ThresholdedRelu"),
    }
)
"""ONNX operators whose outputs ``all:activations`` names."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The layers that a selector names."""

    layers: tuple[LayerInfo, ...]
    single: bool
    """Whether the form of the selector names exactly one layer."""


class Selectors:
    """Index that resolves selectors on one model."""

    def __init__(self, layers: Sequence[LayerInfo], aliases: Mapping[str, str], stages: Sequence[str]) -> None:
        """Create the index.

        Args:
            layers: all layers of the model, in execution order.
            aliases: selectors of single layers by alias.
            stages: selectors of the layers at which the stages end; if empty, stages are derived from the shapes.

        Raises:
            UnknownLayerError: an alias or a stage names no layer.
            AmbiguousLayerError: an alias or a stage names several layers.
            InvalidRequestError: an alias has the form of a selector.
        """
        self._layers = tuple(layers)
        # Subgraphs of If and Loop may reuse the name of a layer; the name then means the tappable layer.
        self._by_name = {layer.name: layer for layer in sorted(layers, key=lambda layer: layer.tappable)}
        self._by_node: dict[str, list[LayerInfo]] = {}
        self._by_path: dict[str, LayerInfo] = {}
        for layer in layers:
            if layer.node:
                self._by_node.setdefault(layer.node, []).append(layer)
            for path in _paths(layer.module_path):
                self._by_path[path] = layer  # the last layer that is computed under the path
        self._aliases: dict[str, LayerInfo] = {}
        self._stages: tuple[LayerInfo, ...] = ()
        for name in aliases:
            check_name(name)
        self._aliases = {name: self._one(selector) for name, selector in aliases.items()}
        self._stages = tuple(map(self._one, stages)) if stages else tuple(_resolution_ends(self._layers))

    @property
    def stages(self) -> tuple[LayerInfo, ...]:
        """Layers that ``stage:1``, ``stage:2`` … name."""
        return self._stages

    def find(self, selector: str) -> Selection:
        """Return the layers that the selector names, in execution order.

        Raises:
            UnknownLayerError: the selector names no layer; the error suggests the nearest names.
            AmbiguousLayerError: several nodes have the name that the selector gives.
            NotTappableError: none of the named layers can be tapped; the error states the reason.
        """
        if len(selector) > LONGEST:
            message = f"expected a selector of at most {LONGEST} characters, got {len(selector)}"
            raise UnknownLayerError(message, limit=LONGEST)
        if selector in self._by_name:
            return _one_tappable(self._by_name[selector])
        prefix, colon, argument = selector.partition(":")
        if colon and prefix in self._FORMS:
            return self._FORMS[prefix](self, argument)
        if selector == "all":
            return _tappable(self._layers, selector)
        if re.fullmatch(r"#-?[0-9]{1,9}", selector):
            return _one_tappable(self._at(int(selector[1:])))
        if selector in self._aliases:
            return _one_tappable(self._aliases[selector])
        if selector in self._by_node:
            return _one_tappable(self._of_node(selector))
        if selector in self._by_path:
            return _one_tappable(self._by_path[selector])
        if any(character in selector for character in "*?["):
            return self._glob(selector)
        raise self._unknown(selector)

    def _of_node(self, name: str) -> LayerInfo:
        """Return the first output of the node with this name.

        Raises:
            AmbiguousLayerError: several nodes have this name.
        """
        layers = self._by_node[name]
        firsts = [layer for layer in layers if layer.output_index == 0]
        if len(firsts) > 1:
            names = [layer.name for layer in firsts[:5]]
            message = f"{len(firsts)} nodes are called {name!r}; name the layer instead: {', '.join(names)}"
            raise AmbiguousLayerError(message, selector=name, suggestions=names)
        return layers[0]

    def _one(self, selector: str) -> LayerInfo:
        """Return the single layer that an alias or a stage names.

        Raises:
            AmbiguousLayerError: the selector is of a form that names several layers.
        """
        selection = self.find(selector)
        if not selection.single:
            names = [layer.name for layer in selection.layers[:5]]
            message = f"an alias or a stage must name one layer; {selector!r} names {len(selection.layers)}"
            raise AmbiguousLayerError(message, selector=selector, suggestions=names)
        return selection.layers[0]

    def _at(self, ordinal: int) -> LayerInfo:
        """Return the layer at a position in execution order; negative positions count from the end."""
        if not -len(self._layers) <= ordinal < len(self._layers):
            last = len(self._layers) - 1
            message = f"there is no layer #{ordinal}; layers go from #0 to #{last}"
            raise UnknownLayerError(message, selector=f"#{ordinal}")
        return self._layers[ordinal]

    def _stage(self, argument: str) -> Selection:
        """Resolve ``stage:argument``."""
        count = len(self._stages)
        number = int(argument) if re.fullmatch(r"-?[0-9]{1,9}", argument) else 0
        if number == 0 or abs(number) > count:
            message = f"there is no stage:{argument}; they go from stage:1 to stage:{count}, from the end stage:-1"
            raise UnknownLayerError(message, selector=f"stage:{argument}", stages=count)
        return _one_tappable(self._stages[number - 1 if number > 0 else number])

    def _operator(self, argument: str) -> Selection:
        """Resolve ``op:argument``."""
        layers = [layer for layer in self._layers if layer.op_type == argument]
        if not layers:
            suggestions = nearest(argument, {layer.op_type for layer in self._layers})
            message = f"no layer is produced by an operator {argument!r}{did_you_mean(suggestions)}"
            raise UnknownLayerError(
                message, selector=f"op:{argument}", suggestions=[f"op:{name}" for name in suggestions]
            )
        return _tappable(layers, f"op:{argument}")

    def _all(self, argument: str) -> Selection:
        """Resolve ``all:argument``."""
        if argument != "activations":
            raise UnknownLayerError(
                f"there is no all:{argument}; use all or all:activations",
                selector=f"all:{argument}",
                suggestions=["all", "all:activations"],
            )
        return _tappable([layer for layer in self._layers if _is_activation(layer.op_type)], "all:activations")

    def _glob(self, pattern: str) -> Selection:
        """Resolve a pattern with wildcards over layer names and module paths."""
        matches = re.compile(fnmatch.translate(pattern)).match
        layers = [layer for layer in self._layers if matches(layer.name) or matches(layer.module_path)]
        if not layers:
            raise UnknownLayerError(f"no layer matches {pattern!r}", selector=pattern)
        return _tappable(layers, pattern)

    def _unknown(self, selector: str) -> UnknownLayerError:
        """Return the error for a selector that names no layer, with the nearest names."""
        names = [*self._by_name, *self._aliases, *self._by_path, *self._by_node]
        names += [f"stage:{number}" for number in range(1, len(self._stages) + 1)] + ["all", "all:activations"]
        suggestions = nearest(selector, names)
        message = f"there is no layer {selector!r}{did_you_mean(suggestions)}; ListLayers lists them all"
        return UnknownLayerError(message, selector=selector, suggestions=suggestions)

    _FORMS: Mapping[str, Callable[[Selectors, str], Selection]] = {"stage": _stage, "op": _operator, "all": _all}
    """Resolver of each selector form with a prefix."""


def check_name(name: str) -> None:
    """Raise `InvalidRequestError` if a name from model.yaml has the form of another selector and could not be used."""
    if re.fullmatch(r"all|#-?[0-9]+|(stage|op|all):.*", name):
        raise InvalidRequestError(f"the name {name!r} is a form of selector; choose another name", name=name)


def _is_activation(operator: str) -> bool:
    """Return whether an operator type is an activation: an ONNX operator, or a block in a configured model."""
    spec = blocks.find(operator)
    return operator in ACTIVATIONS or (spec is not None and spec.kind is BlockKind.ACTIVATION)


def _paths(module_path: str) -> list[str]:
    """Return a module path and its parents, outermost first: ``a.b.c`` gives a, a.b and a.b.c."""
    parts = module_path.split(".") if module_path else []
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _one_tappable(layer: LayerInfo) -> Selection:
    """Return the selection of one layer.

    Raises:
        NotTappableError: the layer cannot be tapped.
    """
    if not layer.tappable:
        message = f"the layer {layer.name!r} cannot be tapped: {layer.not_tappable_reason}"
        raise NotTappableError(message, layer=layer.name, why=layer.not_tappable_reason)
    return Selection((layer,), single=True)


def _tappable(layers: Sequence[LayerInfo], selector: str) -> Selection:
    """Return the selection of the layers that can be tapped.

    Raises:
        NotTappableError: none of the layers can be tapped.
    """
    found = tuple(layer for layer in layers if layer.tappable)
    if not found:
        why = layers[0].not_tappable_reason if layers else "the model has no such layer"
        raise NotTappableError(f"{selector!r} names no layer that can be tapped: {why}", selector=selector, why=why)
    return Selection(found, single=False)


def _resolution_ends(layers: Sequence[LayerInfo]) -> Iterator[LayerInfo]:
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
