"""Collect the heads and results of a request, tap by tap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from layertap import blocks
from layertap.errors import (
    BadParameterError,
    DuplicateNameError,
    InvalidRequestError,
    LayertapError,
    NotDifferentiableError,
    ShapeMismatchError,
    TapSyntaxError,
    TooManyTapsError,
)
from layertap.expression import LONGEST, format_tap
from layertap.types import SkippedLayer, Tap
from layertap_server.blocks import check_nodes
from layertap_server.graph import Gradient, HeadType, ModelGraph, head_type
from layertap_server.planning.layer_finders import LISTED, Selection
from layertap_server.planning.plan import Head, Result, Source, across_images, layer_of
from layertap_server.planning.targets import NONE, Derivatives
from layertap_server.request.cancellation import Cancellation
from layertap_server.request.limits import check_head

MOST_RESULTS = 4096
"""Maximum results of one request, and maximum layers of one inspection."""


@dataclass(frozen=True, slots=True)
class Selected:
    """One tap of a request and the layers that its selector names."""

    tap: Tap
    text: str
    """The tap as the caller wrote it, which names its result unless it has a name."""
    selection: Selection
    index: int
    """Index of the tap in the request."""


@dataclass(slots=True)
class Draft:
    """Heads and results of the taps added so far."""

    graph: ModelGraph
    """The model at the size of the request's images."""
    derivatives: Derivatives = NONE
    """The gradients that the taps may name."""
    cancellation: Cancellation = field(default_factory=Cancellation)
    results: list[Result] = field(default_factory=list)
    heads: dict[tuple[Source, Head], int] = field(default_factory=dict)
    """Index of each distinct head by source and blocks."""
    computed_bytes: int = 0
    across: str = ""
    """First block that computes across all images of the request, with its tap; empty if there is none."""
    operations: int = 0
    """Estimated operations of all heads per image."""
    most_expensive: tuple[str, int] = ("", 0)
    """Description and operations of the most expensive block."""
    skipped: list[SkippedLayer] = field(default_factory=list)
    _names: set[str] = field(default_factory=set)
    _types: dict[tuple[Source, Head], HeadType] = field(default_factory=dict)
    _nodes: int = 0

    def add_tap(self, selected: Selected) -> None:
        """Add the heads and results of one tap.

        Raises:
            LayertapError: the head or a name is not valid, or the request has too many results; see
                `Planner.resolve`.
        """
        tap, index = selected.tap, selected.index
        check_head(tap.blocks)
        head = tuple(blocks.bind(block) for block in tap.blocks)
        if not self.across and (across := across_images(tap.blocks, head)):
            self.across = f"{across} (taps[{index}])"
        for source, type_ in self._fit_sources(selected.selection, head):
            self.cancellation.check()
            name = _result_name(selected, source)
            self._add_name(name)
            self._add_head(source, head, type_, index)
            self.results.append(Result(name, str(source), self.heads[source, head], index, type_.tensor))
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

    def _add_head(self, source: Source, head: Head, type_: HeadType, tap: int) -> None:
        """Add a head on a layer or gradient, unless an earlier tap has added it.

        Raises:
            RequestTooLargeError: all heads together exceed the limit of operators; compiling them would fail too.
        """
        if (source, head) in self.heads:
            return
        self._types[source, head] = type_
        self.heads[source, head] = len(self.heads)
        self.operations += type_.operations
        self._nodes += type_.nodes
        check_nodes(self._nodes)
        block, price = type_.most_expensive
        if price > self.most_expensive[1]:
            self.most_expensive = f"{block} on {source} (taps[{tap}])", price

    def _fit_sources(self, selection: Selection, head: Head) -> Iterator[tuple[Source, HeadType]]:
        """Yield the layers or gradients that the head fits, with its type on each; add the others to `skipped`.

        Raises:
            ShapeMismatchError, BadParameterError, NotDifferentiableError: the head fits none of the layers, or none of
                the gradients can be computed.
        """
        unfit: list[SkippedLayer] = []
        for layer in selection.layers:
            source: Source = Gradient(layer.name) if selection.is_gradient else layer.name
            try:
                type_ = self._type_on(source, layer.name, head)
            except (ShapeMismatchError, BadParameterError, NotDifferentiableError) as error:
                unfit.append(SkippedLayer(str(source), error.message))
                if len(unfit) == len(selection.layers):
                    raise _fits_none(error, unfit) from None
                continue
            yield source, type_
        self.skipped.extend(unfit)

    def _type_on(self, source: Source, layer: str, head: Head) -> HeadType:
        """Return the type of a head on a layer, or on the gradient with respect to it.

        Raises:
            ShapeMismatchError, BadParameterError: the head does not fit.
            NotDifferentiableError: the gradient cannot be computed.
        """
        if isinstance(source, Gradient) and layer in self.derivatives.errors:
            raise self.derivatives.errors[layer]
        return self._types.get((source, head)) or head_type(self.graph, layer, head)


def _fits_none(error: LayertapError, unfit: Sequence[SkippedLayer]) -> LayertapError:
    """Return the error of a head that fits none of several layers, with the reason of each; that of a single layer.

    Args:
        error: the error on the last layer, whose kind is kept.
        unfit: all layers that the selector names.
    """
    if len(unfit) == 1:
        return error
    reasons = "; ".join(f"{one.layer}: {one.reason}" for one in unfit[:LISTED])
    more = f"; and {len(unfit) - LISTED} more" if len(unfit) > LISTED else ""
    message = f"the tap fits none of the {len(unfit)} layers that its selector names: {reasons}{more}"
    return type(error)(message, **error.metadata)


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


def _result_name(selected: Selected, source: Source) -> str:
    """Return the name of a result.

    This is the name that the tap gives, with ``{layer}`` filled in. Without it, this is the tap's own text, or the
    layer's name if the selector names several layers (``grad:`` and the layer's name for a gradient).

    Raises:
        InvalidRequestError: the name has an unknown placeholder.
    """
    tap = selected.tap
    if not tap.name:
        return selected.text if selected.selection.single else str(source)
    if "{" not in tap.name:
        return tap.name
    if "{layer}" in tap.name:
        return tap.name.replace("{layer}", layer_of(source))
    raise InvalidRequestError(f"the name {tap.name!r} has a placeholder other than {{layer}}", name=tap.name)
