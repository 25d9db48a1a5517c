"""Taps -> a plan: which layers, which heads, which results. Nothing runs here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeAlias, TypeVar

from layertap import blocks
from layertap.blocks import BoundBlock
from layertap.errors import (
    BadParameterError,
    DuplicateNameError,
    InvalidRequestError,
    LayertapError,
    NoTapsError,
    ShapeMismatchError,
    TapSyntaxError,
    TooManyTapsError,
)
from layertap.expression import LONGEST, format_tap, parse_tap
from layertap.types import LayerInfo, SkippedLayer, Tap
from layertap_server.blocks import Tensor
from layertap_server.graph import GraphError, ModelGraph, at_size, cost_of, head_type, inexact_layers
from layertap_server.limits import check_head
from layertap_server.selectors import Selection, Selectors, check_name

Head: TypeAlias = tuple[BoundBlock, ...]

MOST_TAPS = 1024
MOST_RESULTS = 4096
KEPT_RESOLUTIONS = 1024
KEPT_SIZES = 16
LONGEST_KEPT_KEY = 16_384
"""Characters: with the counts above, what the caches may take is bounded."""


@dataclass(frozen=True, slots=True)
class PlanInput:
    """What a plan takes: pictures (uint8 N×H×W×3) or the model's own input, of this height and width."""

    pictures: bool
    size: tuple[int, int] | None
    """None where nobody knows it yet: good for a preview."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is computed: the resolved layers, the heads and every parameter, on one load of one model.

    It is the key of the session cache and of the batches at once, so that two callers never share what differs.
    """

    model_key: int
    """Unique for each load of a model: a reloaded model shares nothing with what it was."""
    heads: tuple[tuple[str, Head], ...]
    input: PlanInput

    @property
    def looks_across_images(self) -> bool:
        """Whether one image's result depends on the request's others: such a plan runs all of them at once."""
        return any(blocks.get(block.name).looks_across_images(block) for _, head in self.heads for block in head)

    def is_part_of(self, other: Plan) -> bool:
        """Whether the other plan computes all that this one does, image by image."""
        same = (self.model_key, self.input) == (other.model_key, other.input)
        return same and set(self.heads) <= set(other.heads) and not other.looks_across_images


@dataclass(frozen=True, slots=True)
class Inspection:
    """Layers whose statistics are computed; a key of the session cache, as a plan is."""

    model_key: int
    layers: tuple[str, ...]
    input: PlanInput


@dataclass(frozen=True, slots=True)
class Result:
    """One result of a request."""

    name: str
    layer: str
    head_index: int
    """Which of the plan's heads computes it."""
    tap_index: int
    tensor: Tensor
    """What is known of it before it runs."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """A plan and the results that a request takes from it."""

    plan: Plan
    results: tuple[Result, ...]
    computed_bytes: int
    """What the heads compute for one image, as far as the sizes are known."""
    inexact: frozenset[str] = frozenset()
    """Layers of a quantized model that the taps change by a rounding."""
    skipped: tuple[SkippedLayer, ...] = ()
    """Layers of selectors of several that their heads do not fit."""


@dataclass(slots=True)
class _Draft:
    """A resolution in the making."""

    results: list[Result] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    heads: dict[tuple[str, Head], int] = field(default_factory=dict)
    computed_bytes: int = 0
    skipped: list[SkippedLayer] = field(default_factory=list)


class Planner:
    """Makes plans on one loaded model; the resolutions of recent taps are kept."""

    def __init__(
        self,
        graph: ModelGraph,
        layers: tuple[LayerInfo, ...],
        model_key: int,
        selectors: Selectors,
        heads: Mapping[str, str],
        default_taps: Sequence[str],
    ) -> None:
        """``layers`` are listed, ``heads`` are named taps, ``default_taps`` what a request without taps gets.

        Raises:
            LayertapError: one of these cannot be resolved.
        """
        self._graph = graph
        self._layers = layers
        self._model_key = model_key
        self._selectors = selectors
        self._named = {name: parse_tap(text) for name, text in heads.items()}
        self._default_taps = tuple(default_taps)
        self._resolutions: _Recent[Resolution] = _Recent(KEPT_RESOLUTIONS)
        self._graphs: _Recent[ModelGraph] = _Recent(KEPT_SIZES)
        for name in self._named:
            check_name(name)
        for text in [*self._named, *self._default_taps]:
            self._add_tap(text, 0, _Draft(), graph)

    def graph_for(self, input_: PlanInput) -> ModelGraph:
        """The model with shapes for images of this size.

        Raises:
            ShapeMismatchError: images of this size do not go through the model.
        """
        size = input_.size
        if size is None:
            return self._graph
        try:
            return self._graphs.get(str(size), lambda: at_size(self._graph, size))
        except GraphError as error:
            height, width = size
            message = f"images of {width}×{height} do not go through the model: {error}"
            raise ShapeMismatchError(message, got=f"[{height}, {width}]") from error

    def resolve(self, taps: tuple[Tap | str, ...], input_: PlanInput) -> Resolution:
        """The plan and the results of the taps.

        Raises:
            NoTapsError, TooManyTapsError, TapSyntaxError, UnknownLayerError, NotTappableError, UnknownBlockError,
            BadParameterError, ShapeMismatchError, DuplicateNameError: what is wrong; the field says with which tap.
        """
        if len(taps) > MOST_TAPS:
            message = f"the request has {len(taps)} taps and the limit is {MOST_TAPS}; a selector may name many layers"
            raise TooManyTapsError(message, field="taps", taps=len(taps), limit=MOST_TAPS)
        # As text, in which 1, 1.0 and true differ; in Python they are equal.
        key = repr((input_, [tap if isinstance(tap, str) else (format_tap(tap),) for tap in taps]))
        return self._resolutions.get(key, lambda: self._resolve(taps or self._default_taps, input_))

    def cost(self, plan: Plan) -> tuple[int, int]:
        """Multiply-accumulates of one image, as far as they are known, and how many nodes of the model are run."""
        return cost_of(self.graph_for(plan.input), {layer for layer, _ in plan.heads})

    def is_exact(self, plan: Plan) -> bool:
        """Whether its taps leave all values as they are; see `graph.quantized`."""
        return not inexact_layers(self.graph_for(plan.input).proto.graph, {layer for layer, _ in plan.heads})

    def inspection(self, selectors: Sequence[str], input_: PlanInput) -> Inspection:
        """The layers that the selectors name, each once; without selectors those right after an activation.

        Raises:
            UnknownLayerError, NotTappableError: what is wrong with a selector; the field says which.
        """
        names: dict[str, None] = {}
        for index, selector in enumerate(selectors or ("all:activations",)):
            try:
                names.update(dict.fromkeys(layer.name for layer in self._selectors.find(selector).layers))
            except LayertapError as error:
                raise error.located(f"selectors[{index}]") from None
        if len(names) > MOST_RESULTS:
            raise TooManyTapsError(f"the selectors name more than {MOST_RESULTS} layers", limit=MOST_RESULTS)
        return Inspection(self._model_key, tuple(names), input_)

    def layers(self, selector: str) -> tuple[LayerInfo, ...]:
        """The layers that a selector names; every layer, tappable or not, for an empty one."""
        return self._selectors.find(selector).layers if selector else self._layers

    def _resolve(self, taps: Sequence[Tap | str], input_: PlanInput) -> Resolution:
        if not taps:
            message = "the request has no taps and the model has no default_taps; name a layer, such as stage:-1"
            raise NoTapsError(message, field="taps")
        draft, graph = _Draft(), self.graph_for(input_)
        for index, tap in enumerate(taps):
            try:
                self._add_tap(tap, index, draft, graph)
            except LayertapError as error:
                raise error.located(f"taps[{index}]") from None
        plan = Plan(self._model_key, tuple(draft.heads), input_)
        inexact = inexact_layers(graph.proto.graph, {layer for layer, _ in draft.heads})
        return Resolution(plan, tuple(draft.results), draft.computed_bytes, inexact, tuple(draft.skipped))

    def _add_tap(self, given: Tap | str, index: int, draft: _Draft, graph: ModelGraph) -> None:
        text = given.strip() if isinstance(given, str) else _checked_text(given)
        tap = self._expanded(parse_tap(text))
        check_head(tap.blocks)
        selection = self._selectors.find(tap.selector)
        head = tuple(blocks.bind(block) for block in tap.blocks)
        for layer, (tensor, computed_bytes) in _fitting(graph, selection, head, draft.skipped):
            name = _result_name(tap, layer, text, single=selection.single)
            if name in draft.names:
                message = f"two results would be called {name!r}; give one of them a name of its own with '-> name'"
                raise DuplicateNameError(message, name=name)
            if len(draft.names) == MOST_RESULTS:
                message = f"the request would have more than {MOST_RESULTS} results; send it in parts"
                raise TooManyTapsError(message, limit=MOST_RESULTS)
            head_index = draft.heads.setdefault((layer.name, head), len(draft.heads))
            draft.names.add(name)
            draft.results.append(Result(name, layer.name, head_index, index, tensor))
            draft.computed_bytes += computed_bytes

    def _expanded(self, tap: Tap) -> Tap:
        """The tap with the named tap that its selector stands for, if it does, written out."""
        named = self._named.get(tap.selector)
        if named is None or tap.selector in self._graph.types:
            return tap
        return replace(tap, selector=named.selector, blocks=named.blocks + tap.blocks)


Value = TypeVar("Value")


class _Recent(Generic[Value]):
    """Values by key, the oldest leaving first; any number of threads may ask."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._lock = threading.Lock()
        self._values: dict[str, Value] = {}

    def get(self, key: str, make: Callable[[], Value]) -> Value:
        """The value of the key, made where it is not there; a failure is not kept, nor is what has a very long key."""
        known = self._values.get(key)
        if known is not None:
            return known
        value = make()
        if len(key) <= LONGEST_KEPT_KEY:
            with self._lock:
                while len(self._values) >= self._kept:
                    del self._values[next(iter(self._values))]
                self._values[key] = value
        return value


def _checked_text(tap: Tap) -> str:
    """The tap as an expression, which has a longest length: every way in has the same limits."""
    if max(map(len, (tap.selector, tap.name, *(block.name for block in tap.blocks)))) > LONGEST:
        raise TapSyntaxError(f"a selector, a name and a block's name have at most {LONGEST} characters", position=0)
    if not tap.selector:
        raise TapSyntaxError("the tap has no selector", position=0)
    return format_tap(tap)


def _fitting(
    graph: ModelGraph, selection: Selection, head: Head, skipped: list[SkippedLayer]
) -> Iterator[tuple[LayerInfo, tuple[Tensor, int]]]:
    """Yield the layers that the head fits, with its type on each; append the others to ``skipped``.

    Raises:
        ShapeMismatchError, BadParameterError: it fits none, or not the one that the selector names.
    """
    unfit: list[SkippedLayer] = []
    for layer in selection.layers:
        try:
            head_on_layer = head_type(graph, layer.name, head)
        except (ShapeMismatchError, BadParameterError) as error:
            unfit.append(SkippedLayer(layer.name, error.message))
            if len(unfit) == len(selection.layers):
                raise
            continue
        yield layer, head_on_layer
    skipped.extend(unfit)


def _result_name(tap: Tap, layer: LayerInfo, text: str, *, single: bool) -> str:
    if tap.name:
        if "{" not in tap.name:
            return tap.name
        if "{layer}" in tap.name:
            return tap.name.replace("{layer}", layer.name)
        raise InvalidRequestError(f"the name {tap.name!r} has a placeholder other than {{layer}}", name=tap.name)
    return text if tap.blocks and single else layer.name
