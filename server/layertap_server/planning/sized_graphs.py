"""What a model's graph says at one image size: shapes, cost, prices, and how layers mix images; cached by size."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from layertap.errors import ShapeMismatchError, UnavailableError
from layertap_server.blocks.operations import ELEMENT
from layertap_server.graph import (
    APART,
    GraphError,
    Mixing,
    ModelGraph,
    NativeLostError,
    Verdict,
    at_shape,
    at_size,
    cost_of,
    inexact_layers,
    mixing_of,
    price_of,
    prices_of,
    with_feeds,
    worst,
)
from layertap_server.planning.plan import PlanInput
from layertap_server.planning.recent import Recent

PREAMBLE = 8 * ELEMENT
"""Operations per image value of the image preamble, which transposes, casts and normalizes."""
RETRY_AFTER_MS = 500
"""Milliseconds after which a caller may retry a request whose child process was killed."""
SIZES = 16
"""Number of recent image sizes for which the graph, the mixing and the prices are cached."""


class SizedGraphs:
    """One model at recent image sizes; safe to use from any thread."""

    def __init__(self, graph: ModelGraph) -> None:
        """Describe ``graph``, whose shapes may depend on the image size."""
        self._graph = graph
        self._graphs: Recent[ModelGraph] = Recent(SIZES)
        self._mixing: Recent[Mapping[str, Verdict]] = Recent(SIZES)
        self._prices: Recent[Mapping[str, int]] = Recent(SIZES)

    def at(self, input_: PlanInput) -> ModelGraph:
        """Return the model with shapes for images of this size, with the layers that the caller feeds as inputs.

        Raises:
            BadFeedError: a feed does not have the shape of its layer.
            ShapeMismatchError: images of this size do not go through the model.
            UnavailableError: the process that infers the shapes was killed from outside or could not be started.
        """
        if input_.size is None and not input_.feeds:
            return self._graph
        key = _key(input_)
        return self._graphs.get(key) or self._graphs.put(key, _infer(self._graph, input_))

    def cost(self, layers: Collection[str], input_: PlanInput) -> tuple[int, int]:
        """Return the multiply-accumulates per image, as far as they are known, and the number of model nodes run."""
        return cost_of(self.at(input_), set(layers))

    def price(self, layers: Collection[str], input_: PlanInput) -> int:
        """Return the estimated operations per image of the model's nodes that the layers need."""
        graph = self.at(input_)
        return price_of(graph, self._prices_at(input_), layers) + PREAMBLE * graph.types[graph.main_input.name].values

    def price_through(self, outputs: Collection[str], input_: PlanInput) -> int:
        """Return the estimated operations per image of the nodes with these first outputs."""
        prices = self._prices_at(input_)
        return sum(prices[name] for name in outputs)

    def _prices_at(self, input_: PlanInput) -> Mapping[str, int]:
        """Return the operations of each node per image, by the name of its first output."""
        prices = self._prices.get(_key(input_))
        return self._prices.put(_key(input_), prices_of(self.at(input_))) if prices is None else prices

    def inexact(self, layers: Collection[str], input_: PlanInput) -> frozenset[str]:
        """Return the layers whose values change because they are tapped; see ``graph.quantized``."""
        return inexact_layers(self.at(input_).proto.graph, set(layers))

    def mixing(self, layers: Iterable[str], input_: PlanInput) -> Verdict:
        """Return how the layers mix the images of a run, derived from the graph.

        A layer that the graph does not decide counts as computing across images.
        """
        found = self._verdicts(input_)
        return worst(_decided(found.get(layer, APART)) for layer in layers)

    def undecided(self, layers: Iterable[str], input_: PlanInput) -> list[str]:
        """Return the layers for which the graph does not show whether they mix images."""
        found = self._verdicts(input_)
        return [layer for layer in layers if found.get(layer, APART).mixing is Mixing.UNKNOWN]

    def _verdicts(self, input_: PlanInput) -> Mapping[str, Verdict]:
        """Return how each layer mixes the images of a run."""
        key = _key(input_)
        found = self._mixing.get(key)
        return self._mixing.put(key, mixing_of(self.at(input_))) if found is None else found


@contextmanager
def unavailable_if_lost() -> Iterator[None]:
    """Raise `UnavailableError` if the child process that infers shapes was killed or could not be started."""
    try:
        yield
    except NativeLostError as error:
        message = f"the shapes of this request were not inferred: {error}; send it again"
        raise UnavailableError(message, retry_after_ms=RETRY_AFTER_MS) from error


def _key(input_: PlanInput) -> str:
    """Return the key of the shapes of an input."""
    return f"{input_.name}{input_.size}{input_.feeds}"


def _infer(graph: ModelGraph, input_: PlanInput) -> ModelGraph:
    """Infer the shapes for an image size or a shape of arrays; see `SizedGraphs.at` for the errors."""
    size = input_.size or ()
    try:
        with unavailable_if_lost():
            return with_feeds(_at_size(graph, input_), input_.feeds) if input_.feeds else _at_size(graph, input_)
    except GraphError as error:
        message = f"{describe_size(input_, graph)} do not go through the model: {error}"
        raise ShapeMismatchError(message, got=str(list(size))) from error


def _at_size(graph: ModelGraph, input_: PlanInput) -> ModelGraph:
    """Return the model at the size of its images or arrays, without feeds.

    Raises:
        GraphError: the model cannot compute arrays of this shape.
    """
    if input_.size is None or input_.name in {feed.input for feed in input_.feeds}:
        return graph
    if input_.name or not graph.takes_pictures:
        return at_shape(graph, input_.name or graph.main_input.name, input_.size)
    height, width = input_.size
    return at_size(graph, (height, width))


def describe_size(input_: PlanInput, graph: ModelGraph) -> str:
    """Return images or arrays with their size as text, such as ``images of 640×480``."""
    sizes = input_.size or ()
    if input_.name or not graph.takes_pictures:
        return f"arrays of [N, {', '.join(map(str, sizes))}]"
    return f"images of {'×'.join(map(str, reversed(sizes)))}"


def _decided(verdict: Verdict) -> Verdict:
    """Return the verdict; if the graph does not decide it, the verdict that keeps each request whole and alone."""
    return replace(verdict, mixing=Mixing.REQUEST) if verdict.mixing is Mixing.UNKNOWN else verdict
