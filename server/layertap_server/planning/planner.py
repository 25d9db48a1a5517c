"""Resolve taps to plans, and selectors to layers. Nothing is run here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from layertap.errors import BadTargetError, LayertapError, NoTapsError, TooManyTapsError
from layertap.expression import format_tap, parse_tap
from layertap.types import Batching, LayerInfo, Tap, Target
from layertap_server.blocks.operations import ELEMENT
from layertap_server.graph import Edit, ModelGraph
from layertap_server.planning.draft import MOST_RESULTS, Draft, Selected, tap_text
from layertap_server.planning.edits import check_read, find_edits, price_of_edits
from layertap_server.planning.feeds import check_feeds_read, find_feeds
from layertap_server.planning.layer_finders import Selection
from layertap_server.planning.plan import BATCHING, FoundTarget, Inspection, Plan, PlanInput, Resolution, layer_of
from layertap_server.planning.profiles import Profiles, fill_profiles
from layertap_server.planning.recent import Recent
from layertap_server.planning.selectors import Selectors, check_name
from layertap_server.planning.sized_graphs import SizedGraphs
from layertap_server.planning.targets import BACKWARD, NONE, Derivatives, default_target, find_derivatives, find_target
from layertap_server.request.cancellation import Cancellation

INSPECTION = 40 * ELEMENT
"""Operations per layer value for the layer's statistics, which take about 40 passes."""
MOST_TAPS = 1024
"""Maximum taps or selectors of one request."""
KEPT_RESOLUTIONS = 1024
"""Number of recent resolutions that a planner caches."""


@contextmanager
def about_tap(index: int) -> Iterator[None]:
    """Name the tap at a position of the request in the errors that the block raises."""
    try:
        yield
    except LayertapError as error:
        raise error.about_field(f"taps[{index}]") from None


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
        profiles: Profiles | None = None,
        target: str = "",
    ) -> None:
        """Create a planner.

        Args:
            graph: the model.
            layers: all layers of the model, in execution order.
            model_key: key of this load of the model.
            selectors: the index of the layers.
            heads: tap expressions by name.
            default_taps: taps of a request without taps.
            profiles: profiles of the model, for blocks with ``profile=NAME``.
            target: expression of the target of gradients if a request names none; empty for the only vector output.

        Raises:
            LayertapError: a named or default tap, or the target, cannot be resolved.
        """
        self.graphs = SizedGraphs(graph)
        """The model at recent image sizes."""
        self._graph = graph
        self._layers = layers
        self._model_key = model_key
        self._profiles = profiles
        self._selectors = selectors
        self._named = {name: parse_tap(text) for name, text in heads.items()}
        self._default_taps = tuple(default_taps)
        self._resolutions: Recent[Resolution] = Recent(KEPT_RESOLUTIONS)
        self._stages = {layer.name: number for number, layer in enumerate(selectors.stages, 1)}
        self._blocks = {layer.name: number for number, layer in enumerate(selectors.blocks, 1)}
        self._listed_at: PlanInput = PlanInput(pictures=False, size=None)
        for name in self._named:
            check_name(name)
        self._target = target
        if target:
            self._find_target(target, graph)
        for text in [*self._named, *self._default_taps]:
            self._draft([text], Target(), graph, Cancellation())

    def resolve(
        self,
        taps: Sequence[Tap | str],
        input_: PlanInput,
        cancellation: Cancellation | None = None,
        target: Target | Tap | str = "",
        edits: Sequence[Tap | str] = (),
    ) -> Resolution:
        """Resolve taps to a plan and its results; without taps, the model's default taps.

        Args:
            taps: taps or tap expressions.
            input_: kind and size of the images.
            cancellation: cancellation state of the request; None if nobody cancels it.
            target: target of the gradients, whose index has no influence; empty for the model's default.
            edits: edits of the network.

        Raises:
            BadEditError: an edit is not valid, or no tap reads what it changes.
            BadTargetError, NotDifferentiableError: the target is not valid, or a gradient cannot be computed.
            NoTapsError, TooManyTapsError, TapSyntaxError, UnknownLayerError, NotTappableError, UnknownBlockError,
            BadParameterError, ShapeMismatchError, DuplicateNameError: a tap is not valid; the error's field names it.
            CancelledError: the request was cancelled.
        """
        if len(taps) > MOST_TAPS:
            message = f"the request has {len(taps)} taps and the limit is {MOST_TAPS}; a selector may name many layers"
            raise TooManyTapsError(message, field="taps", taps=len(taps), limit=MOST_TAPS)
        # The key is text, since the parameters 1, 1.0 and true differ as text and are equal in Python.
        goal = target if isinstance(target, Target) else Target(target)
        texts = [tap if isinstance(tap, str) else (format_tap(tap),) for tap in (goal.tap, *taps, *edits)]
        key = repr((input_, len(taps), texts, goal.guided))
        known = self._resolutions.get(key)
        if known is not None:
            return known
        stop = cancellation or Cancellation()
        return self._resolutions.put(key, self._resolve(taps or self._default_taps, goal, edits, input_, stop))

    def inspection(
        self,
        selectors: Sequence[str],
        input_: PlanInput,
        cancellation: Cancellation | None = None,
        edits: Sequence[Tap | str] = (),
    ) -> Inspection:
        """Resolve selectors to layers for statistics, each layer once; without selectors, to all activations.

        Raises:
            UnknownLayerError, NotTappableError, AmbiguousLayerError: a selector is invalid; the field names it.
            TooManyTapsError: there are too many selectors or layers.
            CancelledError: the request was cancelled.
        """
        if len(selectors) > MOST_TAPS:
            message = (
                f"the request has {len(selectors)} selectors and the limit is {MOST_TAPS}; one selector may name many "
                "layers"
            )
            raise TooManyTapsError(message, field="selectors", selectors=len(selectors), limit=MOST_TAPS)
        names = self._layers_of(selectors or ("all:activations",), cancellation or Cancellation())
        if len(names) > MOST_RESULTS:
            message = f"the selectors name more than {MOST_RESULTS} layers; send several requests"
            raise TooManyTapsError(message, limit=MOST_RESULTS)
        batching = BATCHING[self.graphs.mixing(names, input_).mixing]
        graph = self.graphs.at(input_)
        changed = check_read(find_edits(edits, self._select_edit, graph), tuple(names), graph)
        check_feeds_read(input_.feeds, names, graph)
        operations = self.graphs.price(names, input_) + INSPECTION * sum(graph.types[name].values for name in names)
        operations += price_of_edits(changed, graph)
        return Inspection(self._model_key, tuple(names), input_, batching, operations, changed)

    def list_at(self, input_: PlanInput) -> list[str]:
        """Set the image size at which layers are listed; call it before the model receives requests.

        Returns:
            The tappable layers for which the graph does not show whether they mix images.

        Raises:
            ShapeMismatchError: images of this size do not go through the model; the former size is kept.
        """
        names = [layer.name for layer in self._layers if layer.tappable]
        undecided = self.graphs.undecided(names, input_)
        self._listed_at = input_
        return undecided

    def layers(self, selector: str, size: tuple[int, int] | None = None) -> tuple[LayerInfo, ...]:
        """Return the tappable layers that a selector names; for an empty selector, all layers.

        Args:
            selector: the selector.
            size: height and width of the images in pixels; None for the size at which the model was described.

        Raises:
            UnknownLayerError, NotTappableError, AmbiguousLayerError: the selector is invalid.
            ShapeMismatchError: images of this size do not go through the model.
        """
        found = self._selectors.find(selector).layers if selector else self._layers
        if size is not None:
            sized = {layer.name: layer for layer in self.graphs.at(PlanInput(pictures=False, size=size)).layers}
            found = tuple(sized[layer.name] for layer in found)
        return tuple(map(self._describe, found))

    def _describe(self, layer: LayerInfo) -> LayerInfo:
        """Return a layer with its batching and the reason, and the numbers of the stage and the block it ends."""
        stage, block = self._stages.get(layer.name), self._blocks.get(layer.name)
        if not layer.tappable:
            return replace(layer, stage=stage, block=block)
        mixing = self.graphs.mixing([layer.name], self._listed_at)
        batching = BATCHING[mixing.mixing]
        return replace(layer, batching=batching, batching_reason=mixing.why, stage=stage, block=block)

    def _layers_of(self, selectors: Sequence[str], cancellation: Cancellation) -> dict[str, None]:
        """Return the names of the layers that the selectors name, each once; see `inspection` for the errors."""
        names: dict[str, None] = {}
        # Each selector is resolved once, at the index where it occurs first.
        first = {selector: index for index, selector in reversed(list(enumerate(selectors)))}
        for selector, index in sorted(first.items(), key=lambda item: item[1]):
            cancellation.check()
            try:
                names.update(dict.fromkeys(layer.name for layer in self._selectors.find(selector).layers))
            except LayertapError as error:
                raise error.about_field(f"selectors[{index}]") from None
        return names

    def _resolve(
        self,
        taps: Sequence[Tap | str],
        target: Target,
        edits: Sequence[Tap | str],
        input_: PlanInput,
        stop: Cancellation,
    ) -> Resolution:
        """Resolve taps without the cache; see `resolve`."""
        if not taps:
            message = "the request has no taps and the model has no default_taps; name a layer, such as stage:-1"
            raise NoTapsError(message, field="taps")
        graph = self.graphs.at(input_)
        changes = find_edits(edits, self._select_edit, graph)
        draft = self._draft(taps, target, graph, stop, [edit for several in changes for edit in several])
        return self._resolution(draft, changes, input_)

    def _select_edit(self, given: Tap | str) -> tuple[Tap, Selection]:
        """Parse an edit and find its layers."""
        tap = self._expand(parse_tap(tap_text(given)))
        return tap, self._selectors.find_tapped(tap.selector)

    def _draft(
        self,
        taps: Sequence[Tap | str],
        target: Target,
        graph: ModelGraph,
        stop: Cancellation,
        edits: Sequence[Edit] = (),
    ) -> Draft:
        """Return the heads and results of taps; see `resolve` for the errors."""
        selected: list[Selected] = []
        for index, tap in enumerate(taps):
            stop.check()
            with about_tap(index):
                selected.append(self._select(tap, index))
        draft = Draft(graph, self._derivatives(selected, target, graph, edits), stop)
        for one in selected:
            with about_tap(one.index):
                draft.add_tap(one)
        return draft

    def _derivatives(
        self, selected: Sequence[Selected], target: Target, graph: ModelGraph, edits: Sequence[Edit]
    ) -> Derivatives:
        """Return the gradients that taps name.

        Raises:
            BadTargetError: the target is not valid, or no tap names a gradient of it.
        """
        layers = [layer.name for one in selected if one.selection.is_gradient for layer in one.selection.layers]
        if not layers and target.tap:
            message = "the request has a target, and no tap has a gradient of it, such as grad:stage:-1"
            raise BadTargetError(message, field="target")
        if not layers:
            return NONE
        found = self._find_target(target.tap or self._target, graph)
        found = replace(found, target=replace(found.target, guided=target.guided))
        return find_derivatives(graph, found, layers, edits)

    def find_feeds(self, names: Iterable[str]) -> dict[str, str]:
        """Return the layers that a request feeds; see ``feeds.find_feeds``."""
        return find_feeds(self._selectors, names)

    def edits_of(self, given: Sequence[Tap | str]) -> list[Tap]:
        """Return edits with one layer each, named by the layer itself."""
        selected = map(self._select_edit, given)
        return [Tap(layer.name, tap.blocks) for tap, selection in selected for layer in selection.layers]

    def find_target(self, given: Tap | str, input_: PlanInput) -> FoundTarget:
        """Return the target that an expression describes, or the model's default target if it is empty.

        Raises:
            LayertapError: the target is not valid; the field of the error is "target".
        """
        return self._find_target(given or self._target, self.graphs.at(input_))

    def _find_target(self, given: Tap | str, graph: ModelGraph) -> FoundTarget:
        """Return the target that an expression describes, or the only vector output of the model if it is empty.

        Raises:
            LayertapError: the target is not valid; the field of the error is "target".
        """
        try:
            if not given:
                return default_target(graph)
            tap = self._expand(parse_tap(tap_text(given)))
            return find_target(tap, self._selectors.find_tapped(tap.selector), graph)
        except LayertapError as error:
            raise error.about_field("target") from None

    def _resolution(self, draft: Draft, changes: Sequence[Sequence[Edit]], input_: PlanInput) -> Resolution:
        """Return the resolution of a complete draft."""
        found, gradients = draft.derivatives.target, draft.derivatives
        target = found.target if found else None
        layers = {*map(layer_of, (source for source, _ in draft.heads)), *([target.layer] if target else [])}
        edits = check_read(changes, sorted(layers), draft.graph)
        check_feeds_read(input_.feeds, layers, draft.graph)
        mixing = self.graphs.mixing(layers, input_)
        batching = Batching.ONE_REQUEST if draft.across else BATCHING[mixing.mixing]
        own = self.graphs.price(layers, input_) + BACKWARD * self.graphs.price_through(gradients.through, input_)
        block, price = draft.most_expensive
        return Resolution(
            plan=Plan(self._model_key, tuple(draft.heads), input_, batching, target, edits),
            results=tuple(draft.results),
            computed_bytes=draft.computed_bytes + gradients.computed_bytes,
            inexact=self.graphs.inexact(layers, input_),
            mixing=mixing,
            across=draft.across,
            operations=own + draft.operations + price_of_edits(edits, draft.graph),
            most_expensive=block if price > own else "the model's own layers",
            skipped=tuple(draft.skipped),
            target=found,
        )

    def _select(self, given: Tap | str, index: int) -> Selected:
        """Parse one tap and find its layers."""
        text = tap_text(given)
        tap = self._expand(parse_tap(text))
        selection = self._selectors.find_tapped(tap.selector)
        return Selected(fill_profiles(tap, selection, self._profiles), text, selection, index)

    def _expand(self, tap: Tap) -> Tap:
        """Replace a selector that is the name of a named tap by that tap; a layer of the same name takes precedence."""
        named = self._named.get(tap.selector)
        if named is None or tap.selector in self._graph.types:
            return tap
        return replace(tap, selector=named.selector, blocks=named.blocks + tap.blocks)
