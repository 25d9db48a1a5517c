"""Collect the heads and results of a request, tap by tap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from layertap import blocks
from layertap.errors import (
    BadParameterError,
    DuplicateNameError,
    InvalidRequestError,
    ShapeMismatchError,
    TapSyntaxError,
    TooManyTapsError,
)
from layertap.expression import LONGEST, format_tap
from layertap.types import LayerInfo, SkippedLayer, Tap
from layertap_server.blocks import check_nodes
from layertap_server.graph import HeadType, ModelGraph, head_type
from layertap_server.planning.layer_finders import Selection
from layertap_server.planning.plan import Head, Result, across_images
from layertap_server.request.cancellation import Cancellation
from layertap_server.request.limits import check_head

MOST_RESULTS = 4096
"""Maximum results of one request, and maximum layers of one inspection."""


@dataclass(slots=True)
class Draft:
    """Heads and results of the taps added so far."""

    graph: ModelGraph
    """The model at the size of the request's images."""
    cancellation: Cancellation = field(default_factory=Cancellation)
    results: list[Result] = field(default_factory=list)
    heads: dict[tuple[str, Head], int] = field(default_factory=dict)
    """Index of each distinct head by layer and blocks."""
    computed_bytes: int = 0
    across: str = ""
    """First block that computes across all images of the request, with its tap; empty if there is none."""
    operations: int = 0
    """Estimated operations of all heads per image."""
    most_expensive: tuple[str, int] = ("", 0)
    """Description and operations of the most expensive block."""
    skipped: list[SkippedLayer] = field(default_factory=list)
    _names: set[str] = field(default_factory=set)
    _types: dict[tuple[str, Head], HeadType] = field(default_factory=dict)
    _nodes: int = 0

    def add_tap(self, tap: Tap, text: str, selection: Selection, index: int) -> None:
        """Add the heads and results of one tap.

        Args:
            tap: the tap.
            text: the tap as the caller wrote it, which names its result unless it has a name.
            selection: the layers that its selector names.
            index: index of the tap in the request.

        Raises:
            LayertapError: the head or a name is not valid, or the request has too many results; see
                `Planner.resolve`.
        """
        check_head(tap.blocks)
        head = tuple(blocks.bind(block) for block in tap.blocks)
        if not self.across and (across := across_images(tap.blocks, head)):
            self.across = f"{across} (taps[{index}])"
        for layer, type_ in self._fit_layers(selection, head):
            self.cancellation.check()
            name = _result_name(tap, layer, text, single=selection.single)
            self._add_name(name)
            self._add_head(layer.name, head, type_, index)
            self.results.append(Result(name, layer.name, self.heads[layer.name, head], index, type_.tensor))
            self.computed_bytes += type_.computed_bytes

    def _add_name(self, name: str) -> None:
        """Record the name of a result.

        Raises:
            DuplicateNameError: another result has the name.
            TooManyTapsError: the request has too many results.
        """
        if name in self._names:
            message = f"two results have the name {name!r}; give one of them another name with '-> name'"
            raise DuplicateNameError(message, name=name)
        if len(self._names) == MOST_RESULTS:
            message = f"the request has more than {MOST_RESULTS} results; send several requests with fewer results"
            raise TooManyTapsError(message, limit=MOST_RESULTS)
        self._names.add(name)

    def _add_head(self, layer: str, head: Head, type_: HeadType, tap: int) -> None:
        """Add a head on a layer, unless an earlier tap has added it.

        Raises:
            RequestTooLargeError: all heads together exceed the limit of operators; compiling them would fail too.
        """
        if (layer, head) in self.heads:
            return
        self._types[layer, head] = type_
        self.heads[layer, head] = len(self.heads)
        self.operations += type_.operations
        self._nodes += type_.nodes
        check_nodes(self._nodes)
        block, price = type_.most_expensive
        if price > self.most_expensive[1]:
            self.most_expensive = f"{block} on {layer} (taps[{tap}])", price

    def _fit_layers(self, selection: Selection, head: Head) -> Iterator[tuple[LayerInfo, HeadType]]:
        """Yield the layers that the head fits, with its type on each; add the other layers to `skipped`.

        Raises:
            ShapeMismatchError, BadParameterError: the head fits none of the layers.
        """
        unfit: list[SkippedLayer] = []
        for layer in selection.layers:
            try:
                type_ = self._types.get((layer.name, head)) or head_type(self.graph, layer.name, head)
            except (ShapeMismatchError, BadParameterError) as error:
                unfit.append(SkippedLayer(layer.name, error.message))
                if len(unfit) == len(selection.layers):
                    raise
                continue
            yield layer, type_
        self.skipped.extend(unfit)


def tap_text(given: Tap | str) -> str:
    """Return a tap as an expression, so that structured taps and expressions have the same limits.

    Raises:
        TapSyntaxError: the selector is empty, or a name is too long.
    """
    if isinstance(given, str):
        return given.strip()
    if max(map(len, (given.selector, given.name, *(block.name for block in given.blocks)))) > LONGEST:
        raise TapSyntaxError(f"a selector, a name and a block's name have at most {LONGEST} characters", position=0)
    if not given.selector:
        raise TapSyntaxError("the tap has no selector", position=0)
    return format_tap(given)


def _result_name(tap: Tap, layer: LayerInfo, text: str, *, single: bool) -> str:
    """Return the name of a result.

    This is the name that the tap gives, with ``{layer}`` filled in. Without it, this is the tap's own text, or the
    layer's name if the selector names several layers.

    Raises:
        InvalidRequestError: the name has an unknown placeholder.
    """
    if not tap.name:
        return text if single else layer.name
    if "{" not in tap.name:
        return tap.name
    if "{layer}" in tap.name:
        return tap.name.replace("{layer}", layer.name)
    raise InvalidRequestError(f"the name {tap.name!r} has a placeholder other than {{layer}}", name=tap.name)
