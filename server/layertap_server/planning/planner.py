"""Resolve taps to a plan: its layers, its heads and the results of the request. Nothing is run here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
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
    TooFewImagesError,
    TooManyTapsError,
    UnavailableError,
)
from layertap.expression import LONGEST, format_block, format_tap, parse_tap
from layertap.types import Batching, Block, LayerInfo, SkippedLayer, Tap
from layertap_server.blocks import Tensor, check_nodes
from layertap_server.blocks.operations import ELEMENT
from layertap_server.graph import (
    APART,
    GraphError,
    HeadType,
    Mixing,
    ModelGraph,
    NativeLostError,
    Verdict,
    at_size,
    cost_of,
    head_type,
    inexact_layers,
    mixing_of,
    price_of,
    prices_of,
    worst,
)
from layertap_server.planning.layer_finders import Selection
from layertap_server.planning.selectors import Selectors, check_name
from layertap_server.request import cancellation
from layertap_server.request.limits import check_head

Head: TypeAlias = tuple[BoundBlock, ...]

PREAMBLE = 8 * ELEMENT
"""Operations per image value of the image preamble, which transposes, casts and normalizes."""
INSPECTION = 40 * ELEMENT
"""Operations per layer value for the layer's statistics, which take about 40 passes."""
MOST_TAPS = 1024
"""Maximum taps or selectors of one request."""
MOST_RESULTS = 4096
"""Maximum results of one request, and maximum layers of one inspection."""
KEPT_RESOLUTIONS = 1024
"""Number of recent resolutions that a planner caches."""
RETRY_AFTER_MS = 500
"""Milliseconds after which a caller may retry a request whose child process was killed."""
KEPT_SIZES = 16
"""Number of recent image sizes for which a planner caches the graph, the mixing and the prices."""
BATCHING = {
    Mixing.NONE: Batching.JOINED,
    Mixing.RUN: Batching.ONE_IMAGE,
    Mixing.ONE: Batching.ONE_IMAGE,
    Mixing.UNKNOWN: Batching.ONE_REQUEST,
    Mixing.REQUEST: Batching.ONE_REQUEST,
}
"""Images that run together, by how the layers of a plan mix images."""
LONGEST_KEPT_KEY = 16_384
"""Maximum characters of a cached key; with the numbers above, it bounds the memory of the caches."""


@dataclass(frozen=True, slots=True)
class PlanInput:
    """Kind and size of the images that a plan takes."""

    pictures: bool
    """Whether the images are pictures (uint8, N×H×W×C); otherwise they are arrays of the model's own input."""
    size: tuple[int, int] | None
    """Height and width in pixels; None if they are not known, which suffices for a preview."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The computation of a request: layers, heads and all parameters, on one load of one model.

    The plan is the key of the session cache, so that requests share a session only if they compute the same.
    """

    model_key: int
    """Key of the load of the model, unique per load: after a reload, no session of the old model is used."""
    heads: tuple[tuple[str, Head], ...]
    """Layer name and head of each distinct output."""
    input: PlanInput
    batching: Batching = Batching.JOINED
    """Images that run together, as required by the model's layers and the blocks of the heads."""

    @property
    def looks_across_images(self) -> bool:
        """Whether any block computes across all images of the request."""
        return any(blocks.get(block.name).looks_across_images(block) for _, head in self.heads for block in head)

    def is_part_of(self, other: Plan) -> bool:
        """Return whether the other plan computes all heads of this plan with the same values.

        This requires the same input and batching, and no block that computes across images.
        """
        same = (self.model_key, self.input, self.batching) == (other.model_key, other.input, other.batching)
        return same and set(self.heads) <= set(other.heads) and not other.looks_across_images


@dataclass(frozen=True, slots=True)
class Inspection:
    """Layers whose statistics are computed; like a plan, a key of the session cache."""

    model_key: int
    layers: tuple[str, ...]
    input: PlanInput
    batching: Batching = Batching.JOINED
    """Images that run together, as required by the model's layers."""
    operations: int = 0
    """Estimated operations per image."""


@dataclass(frozen=True, slots=True)
class Result:
    """One result of a request."""

    name: str
    layer: str
    head_index: int
    """Index of the plan's head that computes the result."""
    tap_index: int
    """Index of the request's tap that asks for the result."""
    tensor: Tensor
    """Dtype, shape and layout, as far as they are known before the run."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """A plan and the results of a request that runs it."""

    plan: Plan
    results: tuple[Result, ...]
    computed_bytes: int
    """Bytes that the heads compute per image, as far as the sizes are known."""
    inexact: frozenset[str] = frozenset()
    """Layers of a quantized model whose values change by rounding because they are tapped."""
    mixing: Verdict = APART
    """How the model itself mixes the images of a run, and why."""
    across: str = ""
    """First block that computes across all images of the request, with its tap; empty if there is none."""
    operations: int = 0
    """Estimated operations per image of the model's nodes and the heads; see ``blocks.operations``."""
    dearest: str = ""
    """Description of the most expensive part, for error messages."""
    skipped: tuple[SkippedLayer, ...] = ()
    """Layers that a selector of several layers names and that its head does not fit."""


@dataclass(slots=True)
class _Draft:
    """Resolution under construction."""

    results: list[Result] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    heads: dict[tuple[str, Head], int] = field(default_factory=dict)
    computed_bytes: int = 0
    across: str = ""
    operations: int = 0
    dearest: tuple[str, int] = ("", 0)
    types: dict[tuple[str, Head], HeadType] = field(default_factory=dict)
    nodes: int = 0
    skipped: list[SkippedLayer] = field(default_factory=list)

    def add(self, layer: str, head: Head, type_: HeadType, tap: int) -> None:
        """Add a head on a layer, unless an earlier tap has added it.

        Raises:
            RequestTooLargeError: all heads together exceed the limit of operators; compiling them would fail too.
        """
        if (layer, head) in self.heads:
            return
        self.types[layer, head] = type_
        self.heads[layer, head] = len(self.heads)
        self.operations += type_.operations
        self.nodes += type_.nodes
        check_nodes(self.nodes)
        block, price = type_.dearest
        if price > self.dearest[1]:
            self.dearest = f"{block} on {layer} (taps[{tap}])", price


class Planner:
    """Planner of one loaded model; it caches the resolutions of recent taps and is safe to use from any thread."""

    def __init__(
        self,
        graph: ModelGraph,
        layers: tuple[LayerInfo, ...],
        model_key: int,
        selectors: Selectors,
        heads: Mapping[str, str],
        default_taps: Sequence[str],
    ) -> None:
        """Create a planner.

        Args:
            graph: the model.
            layers: all layers of the model, in execution order.
            model_key: key of this load of the model.
            selectors: the index of the layers.
            heads: tap expressions by name.
            default_taps: taps of a request without taps.

        Raises:
            LayertapError: a named or default tap cannot be resolved.
        """
        self._graph = graph
        self._layers = layers
        self._model_key = model_key
        self._selectors = selectors
        self._named = {name: parse_tap(text) for name, text in heads.items()}
        self._default_taps = tuple(default_taps)
        self._resolutions: _Recent[Resolution] = _Recent(KEPT_RESOLUTIONS)
        self._graphs: _Recent[ModelGraph] = _Recent(KEPT_SIZES)
        self._mixing: _Recent[Mapping[str, Verdict]] = _Recent(KEPT_SIZES)
        self._prices: _Recent[Mapping[str, int]] = _Recent(KEPT_SIZES)
        self._listed_at: PlanInput = PlanInput(pictures=False, size=None)
        for name in self._named:
            check_name(name)
        for text in [*self._named, *self._default_taps]:
            self._add_tap(text, 0, _Draft(), graph)

    def graph_for(self, input_: PlanInput) -> ModelGraph:
        """Return the model with shapes for images of this size.

        Raises:
            ShapeMismatchError: images of this size do not go through the model.
            UnavailableError: the process that infers the shapes was killed from outside or could not be started.
        """
        size = input_.size
        if size is None:
            return self._graph
        try:
            return self._graphs.get(str(size), lambda: at_size(self._graph, size))
        except NativeLostError as error:
            message = f"the shapes for images of this size were not inferred: {error}; send the request again"
            raise UnavailableError(message, retry_after_ms=RETRY_AFTER_MS) from error
        except GraphError as error:
            height, width = size
            message = f"images of {width}×{height} do not go through the model: {error}"
            raise ShapeMismatchError(message, got=f"[{height}, {width}]") from error

    def resolve(self, taps: tuple[Tap | str, ...], input_: PlanInput) -> Resolution:
        """Resolve taps to a plan and its results.

        Raises:
            NoTapsError, TooManyTapsError, TapSyntaxError, UnknownLayerError, NotTappableError, UnknownBlockError,
            BadParameterError, ShapeMismatchError, DuplicateNameError: a tap is not valid; the error's field names it.
        """
        if len(taps) > MOST_TAPS:
            message = f"the request has {len(taps)} taps and the limit is {MOST_TAPS}; a selector may name many layers"
            raise TooManyTapsError(message, field="taps", taps=len(taps), limit=MOST_TAPS)
        # The key is text, since the parameters 1, 1.0 and true differ as text and are equal in Python.
        key = repr((input_, [tap if isinstance(tap, str) else (format_tap(tap),) for tap in taps]))
        return self._resolutions.get(key, lambda: self._resolve(taps or self._default_taps, input_))

    def cost(self, plan: Plan) -> tuple[int, int]:
        """Return the multiply-accumulates per image, as far as they are known, and the number of model nodes run."""
        return cost_of(self.graph_for(plan.input), {layer for layer, _ in plan.heads})

    def price(self, layers: Collection[str], input_: PlanInput) -> int:
        """Return the estimated operations per image of the model's nodes that the layers need."""
        graph = self.graph_for(input_)
        prices = self._prices.get(str(input_.size), lambda: prices_of(graph))
        return price_of(graph, prices, layers) + PREAMBLE * graph.types[graph.image_input.name].values

    def is_exact(self, plan: Plan) -> bool:
        """Return whether tapping leaves the values of all layers unchanged; see ``graph.quantized``."""
        return not inexact_layers(self.graph_for(plan.input).proto.graph, {layer for layer, _ in plan.heads})

    def mixing(self, layers: Iterable[str], input_: PlanInput) -> Verdict:
        """Return how the layers mix the images of a run, derived from the graph.

        A layer that the graph does not decide counts as computing across images.
        """
        graph = self.graph_for(input_)
        found = self._mixing.get(str(input_.size), lambda: mixing_of(graph))
        return worst(_decided(found.get(layer, APART)) for layer in layers)

    def undecided(self, input_: PlanInput) -> list[str]:
        """Return the tappable layers for which the graph does not show whether they mix images."""
        found = mixing_of(self.graph_for(input_))
        names = (layer.name for layer in self._layers if layer.tappable)
        return [name for name in names if found.get(name, APART).mixing is Mixing.UNKNOWN]

    def list_at(self, input_: PlanInput) -> None:
        """Set the image size at which layers are listed; call it before the model receives requests."""
        self._listed_at = input_

    def inspection(self, selectors: Sequence[str], input_: PlanInput) -> Inspection:
        """Resolve selectors to layers for statistics, each layer once; without selectors, to all activations.

        Raises:
            UnknownLayerError, NotTappableError, AmbiguousLayerError: a selector is invalid; the field names it.
            TooManyTapsError: there are too many selectors or layers.
        """
        if len(selectors) > MOST_TAPS:
            message = (
                f"the request has {len(selectors)} selectors and the limit is {MOST_TAPS}; one selector may name many "
                "layers"
            )
            raise TooManyTapsError(message, field="selectors", selectors=len(selectors), limit=MOST_TAPS)
        names: dict[str, None] = {}
        job = cancellation.current()
        # Each selector is resolved once, at the index where it occurs first.
        first = {selector: index for index, selector in reversed(list(enumerate(selectors or ("all:activations",))))}
        for selector, index in sorted(first.items(), key=lambda item: item[1]):
            job.check()
            try:
                names.update(dict.fromkeys(layer.name for layer in self._selectors.find(selector).layers))
            except LayertapError as error:
                raise error.about_field(f"selectors[{index}]") from None
        if len(names) > MOST_RESULTS:
            message = f"the selectors name more than {MOST_RESULTS} layers; send several requests"
            raise TooManyTapsError(message, limit=MOST_RESULTS)
        batching = BATCHING[self.mixing(names, input_).mixing]
        types = self.graph_for(input_).types
        operations = self.price(names, input_) + INSPECTION * sum(types[name].values for name in names)
        return Inspection(self._model_key, tuple(names), input_, batching, operations)

    def layers(self, selector: str) -> tuple[LayerInfo, ...]:
        """Return the tappable layers that a selector names; for an empty selector, all layers."""
        found = self._selectors.find(selector).layers if selector else self._layers
        return tuple(replace(layer, batching=self._batching_of(layer)) for layer in found)

    def _batching_of(self, layer: LayerInfo) -> Batching | None:
        """Return which images run together when the layer is tapped; None if it cannot be tapped."""
        return BATCHING[self.mixing([layer.name], self._listed_at).mixing] if layer.tappable else None

    def _resolve(self, taps: Sequence[Tap | str], input_: PlanInput) -> Resolution:
        """Resolve taps without the cache; see `resolve`."""
        if not taps:
            message = "the request has no taps and the model has no default_taps; name a layer, such as stage:-1"
            raise NoTapsError(message, field="taps")
        draft, graph = _Draft(), self.graph_for(input_)
        for index, tap in enumerate(taps):
            try:
                self._add_tap(tap, index, draft, graph)
            except LayertapError as error:
                raise error.about_field(f"taps[{index}]") from None
        layers = {layer for layer, _ in draft.heads}
        mixing = self.mixing(layers, input_)
        batching = Batching.ONE_REQUEST if draft.across else BATCHING[mixing.mixing]
        plan = Plan(self._model_key, tuple(draft.heads), input_, batching)
        inexact = inexact_layers(graph.proto.graph, layers)
        own = self.price(layers, input_)
        name, price = draft.dearest
        dearest = name if price > own else "the model's own layers"
        operations = own + draft.operations
        return Resolution(
            plan=plan,
            results=tuple(draft.results),
            computed_bytes=draft.computed_bytes,
            inexact=inexact,
            mixing=mixing,
            across=draft.across,
            operations=operations,
            dearest=dearest,
            skipped=tuple(draft.skipped),
        )

    def _add_tap(self, given: Tap | str, index: int, draft: _Draft, graph: ModelGraph) -> None:
        """Resolve one tap and add its heads and results to the draft."""
        text = given.strip() if isinstance(given, str) else _check_and_format(given)
        tap = self._expand(parse_tap(text))
        check_head(tap.blocks)
        job = cancellation.current()
        job.check()
        selection = self._selectors.find(tap.selector)
        head = tuple(blocks.bind(block) for block in tap.blocks)
        if not draft.across and (across := across_images(tap.blocks, head)):
            draft.across = f"{across} (taps[{index}])"
        for layer, type_ in _fit_layers(graph, selection, head, draft):
            job.check()
            name = _result_name(tap, layer, text, single=selection.single)
            if name in draft.names:
                message = f"two results have the name {name!r}; give one of them another name with '-> name'"
                raise DuplicateNameError(message, name=name)
            if len(draft.names) == MOST_RESULTS:
                message = f"the request has more than {MOST_RESULTS} results; send several requests with fewer results"
                raise TooManyTapsError(message, limit=MOST_RESULTS)
            draft.add(layer.name, head, type_, index)
            draft.names.add(name)
            draft.results.append(Result(name, layer.name, draft.heads[layer.name, head], index, type_.tensor))
            draft.computed_bytes += type_.computed_bytes

    def _expand(self, tap: Tap) -> Tap:
        """Replace a selector that is the name of a named tap by that tap; a layer of the same name takes precedence."""
        named = self._named.get(tap.selector)
        if named is None or tap.selector in self._graph.types:
            return tap
        return replace(tap, selector=named.selector, blocks=named.blocks + tap.blocks)


def across_images(given: Sequence[Block], head: Head) -> str:
    """Return the first block that computes across images, in the caller's notation; empty if there is none."""
    pairs = zip(given, head, strict=True)
    return next((format_block(one) for one, bound in pairs if blocks.get(bound.name).looks_across_images(bound)), "")


def check_several(across: str, images: int) -> None:
    """Raise `TooFewImagesError` if the block ``across`` computes across images and the request has one image."""
    if across and images == 1:
        message = (
            f"{across} takes its statistics from all images of one request, and this request has one image; send the "
            "images together in one request (in bulk and in streams each image is a request of its own)"
        )
        raise TooFewImagesError(message, field="images", block=across, images=images)


def _decided(verdict: Verdict) -> Verdict:
    """Return the verdict, where the graph does not tell the one that keeps each request whole and alone."""
    return replace(verdict, mixing=Mixing.REQUEST) if verdict.mixing is Mixing.UNKNOWN else verdict


Value = TypeVar("Value")


class _Recent(Generic[Value]):
    """Cache of a fixed number of values, the oldest evicted first; safe to use from any number of threads."""

    def __init__(self, kept: int) -> None:
        """Create an empty cache of at most ``kept`` values."""
        self._kept = kept
        self._lock = threading.Lock()
        self._values: dict[str, Value] = {}

    def get(self, key: str, make: Callable[[], Value]) -> Value:
        """Return the value of a key, computing it if needed; exceptions and values of very long keys are not cached."""
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


def _check_and_format(tap: Tap) -> str:
    """Format a tap as an expression, so that structured taps and expressions have the same limits.

    Raises:
        TapSyntaxError: the selector is empty, or a name is too long.
    """
    if max(map(len, (tap.selector, tap.name, *(block.name for block in tap.blocks)))) > LONGEST:
        raise TapSyntaxError(f"a selector, a name and a block's name have at most {LONGEST} characters", position=0)
    if not tap.selector:
        raise TapSyntaxError("the tap has no selector", position=0)
    return format_tap(tap)


def _fit_layers(
    graph: ModelGraph, selection: Selection, head: Head, draft: _Draft
) -> Iterator[tuple[LayerInfo, HeadType]]:
    """Yield the layers that the head fits, with its type on each; add the other layers to the draft's ``skipped``.

    Raises:
        ShapeMismatchError, BadParameterError: the head fits none of the layers.
    """
    unfit: list[SkippedLayer] = []
    for layer in selection.layers:
        try:
            type_ = draft.types.get((layer.name, head)) or head_type(graph, layer.name, head)
        except (ShapeMismatchError, BadParameterError) as error:
            unfit.append(SkippedLayer(layer.name, error.message))
            if len(unfit) == len(selection.layers):
                raise
            continue
        yield layer, type_
    draft.skipped.extend(unfit)


def _result_name(tap: Tap, layer: LayerInfo, text: str, *, single: bool) -> str:
    """Return the name of a result.

    This is the name that the tap gives, with ``{layer}`` filled in. Without it, this is the tap's own text, or the
    layer's name if the selector names several layers.

    Raises:
        InvalidRequestError: the name has an unknown placeholder.
    """
    if tap.name:
        if "{" not in tap.name:
            return tap.name
        if "{layer}" in tap.name:
            return tap.name.replace("{layer}", layer.name)
        raise InvalidRequestError(f"the name {tap.name!r} has a placeholder other than {{layer}}", name=tap.name)
    return text if single else layer.name
