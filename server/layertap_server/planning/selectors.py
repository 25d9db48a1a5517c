"""Resolve selectors to the layers that they name on one model.

`FORMS` is the table of all forms of selectors. The resolution, the reserved names, the suggestions and messages of
errors, and the table in ``docs/taps.md`` come from it: a new form is one row here, and a function in `layer_finders`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

from layertap._nearest import did_you_mean, nearest
from layertap.errors import AmbiguousLayerError, InvalidRequestError, UnknownLayerError
from layertap.expression import LONGEST
from layertap.types import LayerInfo
from layertap_server.planning.layer_finders import (
    LISTED,
    Selection,
    find_alias,
    find_all,
    find_module,
    find_name,
    find_node,
    find_numbered,
    find_operator,
    find_path,
    find_pattern,
    find_position,
    one,
)
from layertap_server.planning.layer_index import LayerIndex

GRADIENT = "grad:"
"""Prefix of the selectors of gradients."""
INPUT_NAME = "input"
"""Name of the image input in ``grad:input``, unless a layer has this name."""


def list_none(_index: LayerIndex) -> Iterable[str]:
    """Return no selector: the default of forms whose selectors cannot be listed."""
    return ()


def list_all(_index: LayerIndex) -> Iterable[str]:
    """Return the selectors that every model has."""
    return "all", "all:activations"


@dataclass(frozen=True, slots=True)
class Form:
    """A form of selector: how it is written, and how its layers are found."""

    find: Callable[[LayerIndex, str], Selection | None]
    """Return the layers of a selector. None means that the selector is of another form; only a form without a pattern
    returns it."""
    examples: tuple[str, ...]
    meaning: str
    """The layers that the examples name, for the documentation (Markdown)."""
    pattern: str = ""
    """Regular expression of all selectors of the form. They are reserved: no name in model.yaml may match it. Empty for
    forms that are names, for which `find` decides."""
    written: str = ""
    """The form in error messages, such as ``stage:N``; empty for forms that are names."""
    selectors: Callable[[LayerIndex], Iterable[str]] = list_none
    """Return the selectors of this form on a model, to suggest."""

    def matches(self, selector: str) -> bool:
        """Return whether a selector is reserved for this form."""
        return bool(self.pattern) and re.fullmatch(self.pattern, selector, re.DOTALL) is not None


def numbered(
    prefix: str, members: Callable[[LayerIndex], Sequence[LayerInfo]], *, examples: tuple[str, ...], meaning: str
) -> Form:
    """Return the form ``prefix:N``: the N-th of some layers, counted from 1, or from the end if N is negative.

    Args:
        prefix: a singular noun, such as ``stage``.
        members: returns the numbered layers of a model, in execution order.
        examples: selectors of the form.
        meaning: the layers that the examples name.
    """

    def find(index: LayerIndex, selector: str) -> Selection:
        return find_numbered(prefix, members(index), selector)

    def selectors(index: LayerIndex) -> Iterable[str]:
        return [f"{prefix}:{number}" for number in range(1, len(members(index)) + 1)]

    return Form(find, examples, meaning, pattern=f"{prefix}:.*", written=f"{prefix}:N", selectors=selectors)


def find_gradient(index: LayerIndex, selector: str) -> Selection:
    """Return the layers with respect to which ``grad:SELECTOR`` takes gradients.

    Raises:
        InvalidRequestError: the selector has a second ``grad:``.
    """
    inner = selector.removeprefix(GRADIENT)
    if inner.startswith(GRADIENT) and inner not in index.by_name:
        raise InvalidRequestError(f"{selector!r} is a gradient of a gradient; use one {GRADIENT}", selector=selector)
    if inner == INPUT_NAME and inner not in index.by_name:
        return replace(one(index.layers[0]), is_gradient=True)
    return replace(find_layers(index, inner), is_gradient=True)


def find_layers(index: LayerIndex, selector: str) -> Selection:
    """Return the layers that a selector names; see `Selectors.find` for the errors."""
    if len(selector) > LONGEST:
        message = f"expected a selector of at most {LONGEST} characters, got {len(selector)}"
        raise UnknownLayerError(message, limit=LONGEST)
    for form in FORMS:
        if not form.pattern or form.matches(selector):
            selection = form.find(index, selector)
            if selection is not None:
                return selection
    raise unknown_layer(index, selector)


def unknown_layer(index: LayerIndex, selector: str) -> UnknownLayerError:
    """Return the error for a selector that names no layer, with the nearest names."""
    suggestions = nearest(selector, [name for form in FORMS for name in form.selectors(index)])
    message = f"there is no layer {selector!r}{did_you_mean(suggestions)}; ListLayers lists them all"
    if re.match(r"[A-Za-z_]+:", selector):
        message += f". Forms with a prefix: {', '.join(form.written for form in FORMS if ':' in form.written)}"
    return UnknownLayerError(message, selector=selector, suggestions=suggestions)


FORMS = (
    Form(
        find_name,
        examples=("blocks.4.expand", "r31"),
        meaning="the layer of that name; a layer's name takes precedence over all forms below",
        selectors=attrgetter("by_name"),
    ),
    numbered(
        "stage",
        attrgetter("stages"),
        examples=("stage:3", "stage:-1"),
        meaning="the output of the third stage (spatial resolution); the output of the last stage",
    ),
    numbered(
        "block",
        attrgetter("blocks"),
        examples=("block:2", "block:-1"),
        meaning="the output of the second repeated block of the network, such as a residual block or a transformer "
        "layer; the output of the last one",
    ),
    numbered(
        "attention",
        attrgetter("attentions"),
        examples=("attention:2", "attention:-1"),
        meaning="the attention probabilities of the second attention, images×heads×tokens×tokens; of the last",
    ),
    Form(
        find_gradient,
        examples=("grad:stage:-1", "grad:input"),
        meaning="the gradient of the request's target with respect to that layer, in the layer's shape; "
        "`grad:input` is the gradient with respect to the image input",
        pattern="grad:.*",
        written="grad:SELECTOR",
    ),
    Form(
        find_operator,
        examples=("op:Conv",),
        meaning="every layer that an operator of that type produces",
        pattern="op:.*",
        written="op:TYPE",
    ),
    Form(
        find_all,
        examples=("all", "all:activations"),
        meaning="every layer that can be tapped; every result of an activation, also of one written as several nodes",
        pattern="all(:.*)?",
        written="all:activations",
        selectors=list_all,
    ),
    Form(
        find_position,
        examples=("#12", "#-1"),
        meaning="the layer at that position in execution order",
        pattern="#-?[0-9]+",
        written="#N",
    ),
    Form(
        find_alias,
        examples=("embedding",),
        meaning="an alias or a named tap of `model.yaml`",
        selectors=attrgetter("aliases"),
    ),
    Form(
        find_node,
        examples=("/stem/conv/Conv",),
        meaning="the first output of the node of that name",
        selectors=attrgetter("by_node"),
    ),
    Form(
        find_path,
        examples=("blocks.4",),
        meaning="a module path: the last layer that this module computes",
        selectors=attrgetter("by_path"),
    ),
    Form(
        find_module,
        examples=("activation_1", "layer1.0"),
        meaning="the end of a module path, in whole components, if only one module has it: the last layer that this "
        "module computes",
    ),
    Form(
        find_pattern,
        examples=("blocks.*.add", "*relu*"),
        meaning="every layer whose name or module path matches; `*`, `?` and `[abc]` as in a shell",
    ),
)
"""All forms of selectors, in the order in which they are tried."""


class Selectors:
    """Resolver of selectors on one model."""

    def __init__(
        self,
        layers: Sequence[LayerInfo],
        aliases: Mapping[str, str],
        stages: Sequence[str],
        blocks: Sequence[str] = (),
    ) -> None:
        """Index the layers.

        Args:
            layers: all layers of the model, in execution order.
            aliases: selectors of single layers by alias.
            stages: selectors of the layers at which the stages end.
            blocks: names of the output layers of the network's repeated blocks.

        Raises:
            UnknownLayerError: an alias or a stage names no layer.
            AmbiguousLayerError: an alias or a stage names several layers.
            InvalidRequestError: an alias has the form of a selector.
        """
        for name in aliases:
            check_name(name)
        self._index = LayerIndex.build(layers)
        self._index = replace(self._index, aliases={name: self._one(selector) for name, selector in aliases.items()})
        ends = [self._index.by_name[name] for name in blocks]
        self._index = replace(self._index, stages=tuple(map(self._one, stages)), blocks=tuple(ends))

    @property
    def stages(self) -> tuple[LayerInfo, ...]:
        """Layers that ``stage:1``, ``stage:2`` … name."""
        return self._index.stages

    @property
    def blocks(self) -> tuple[LayerInfo, ...]:
        """Layers that ``block:1``, ``block:2`` … name."""
        return self._index.blocks

    def find(self, selector: str) -> Selection:
        """Return the layers that the selector names, in execution order.

        Raises:
            UnknownLayerError: the selector names no layer; the error suggests the nearest names.
            AmbiguousLayerError: several nodes have the name that the selector gives.
            NotTappableError: none of the named layers can be tapped; the error states the reason.
            InvalidRequestError: the selector names a gradient, which is no layer of the model.
        """
        selection = find_layers(self._index, selector)
        if selection.is_gradient:
            message = f"expected a layer, got the gradient {selector!r}; gradients can be tapped, and nothing else"
            raise InvalidRequestError(message, selector=selector)
        return selection

    def find_tapped(self, selector: str) -> Selection:
        """Return the layers that the selector of a tap names, or the layers of its gradients.

        Raises:
            UnknownLayerError, AmbiguousLayerError, NotTappableError: as `find` raises them.
            InvalidRequestError: the selector is a gradient of a gradient.
        """
        return find_layers(self._index, selector)

    def _one(self, selector: str) -> LayerInfo:
        """Return the single layer that an alias or a stage names.

        Raises:
            AmbiguousLayerError: the selector is of a form that names several layers.
        """
        selection = self.find(selector)
        if not selection.single:
            names = [layer.name for layer in selection.layers[:LISTED]]
            message = f"an alias or a stage must name one layer; {selector!r} names {len(selection.layers)}"
            raise AmbiguousLayerError(message, selector=selector, suggestions=names)
        return selection.layers[0]


def check_name(name: str) -> None:
    """Raise `InvalidRequestError` if a name from model.yaml has the form of another selector and could not be used."""
    if any(form.matches(name) for form in FORMS):
        raise InvalidRequestError(f"the name {name!r} is a form of selector; choose another name", name=name)
