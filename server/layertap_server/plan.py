"""Taps -> a plan: which layers, which heads, which results. Nothing runs here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from layertap import blocks
from layertap.blocks import BoundBlock
from layertap.errors import DuplicateNameError, InvalidRequestError, LayertapError, NoTapsError
from layertap.expression import format_tap, parse_tap
from layertap.types import LayerInfo, Layout, Tap
from layertap_server.blocks import Dim, Tensor
from layertap_server.graph import ModelGraph, head_type
from layertap_server.selectors import Selectors

Head: TypeAlias = tuple[BoundBlock, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is computed: the resolved layers, the heads and every parameter, on one load of one model.

    It is the key of the session cache and of the batches at once, so that two callers never share what differs.
    """

    model_key: int
    """Unique for each load of a model: a reloaded model shares nothing with what it was."""
    heads: tuple[tuple[str, Head], ...]
    image_size: tuple[int, int] | None
    """Height and width of the uint8 images it takes; None where it takes the model's own input."""

    @property
    def looks_across_images(self) -> bool:
        """Whether one image's result depends on the request's others: such a plan runs all of them at once."""
        return any(blocks.get(block.name).looks_across_images(block) for _, head in self.heads for block in head)


@dataclass(frozen=True, slots=True)
class Result:
    """One result of a request: its name and what is known of it before it runs."""

    name: str
    layer: str
    head_index: int
    """Which of the plan's heads computes it."""
    tap_index: int
    dtype: str
    shape: tuple[Dim, ...]
    layout: Layout

    def bytes_for(self, images: int) -> int | None:
        """Bytes of the result for so many images; None where a size is known only when it runs."""
        sizes = [size for size in self.shape[1:] if isinstance(size, int)]
        if len(sizes) != len(self.shape) - 1:
            return None
        return images * math.prod(sizes) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class Resolution:
    """A plan and the results that a request takes from it."""

    plan: Plan
    results: tuple[Result, ...]


class Planner:
    """Makes plans on one loaded model; the resolutions of recent taps are kept."""

    def __init__(
        self,
        graph: ModelGraph,
        model_key: int,
        selectors: Selectors,
        heads: Mapping[str, str],
        default_taps: Sequence[str],
    ) -> None:
        """``heads`` are named taps, ``default_taps`` what a request without taps gets.

        Raises:
            LayertapError: one of these cannot be resolved.
        """
        self._graph = graph
        self._model_key = model_key
        self._selectors = selectors
        self._named = {name: parse_tap(text) for name, text in heads.items()}
        self._default_taps = tuple(default_taps)
        self._resolutions: dict[tuple[tuple[Tap | str, ...], tuple[int, int] | None], Resolution] = {}
        for name in self._named:
            self.resolve((name,), None)
        if self._default_taps:
            self.resolve((), None)

    _KEPT_RESOLUTIONS = 1024

    def resolve(self, taps: tuple[Tap | str, ...], image_size: tuple[int, int] | None) -> Resolution:
        """The plan and the results of the taps, for uint8 images of this size or for the model's own input.

        Raises:
            NoTapsError, TapSyntaxError, UnknownLayerError, NotTappableError, UnknownBlockError, BadParameterError,
            ShapeMismatchError, DuplicateNameError: what is wrong; the field says with which tap.
        """
        key = (taps, image_size)
        known = self._resolutions.get(key)
        if known is None:
            known = self._resolve(taps or self._default_taps, image_size)
            while len(self._resolutions) >= self._KEPT_RESOLUTIONS:
                self._resolutions.pop(next(iter(self._resolutions)), None)
            self._resolutions[key] = known
        return known

    def layers(self, selector: str) -> tuple[LayerInfo, ...]:
        """The layers that a selector names; every layer, tappable or not, for an empty one."""
        return self._selectors.find(selector).layers if selector else self._graph.layers

    def _resolve(self, taps: Sequence[Tap | str], image_size: tuple[int, int] | None) -> Resolution:
        if not taps:
            message = "the request has no taps and the model has no default_taps; name a layer, such as stage:-1"
            raise NoTapsError(message, field="taps")
        results: list[Result] = []
        heads: dict[tuple[str, Head], int] = {}
        for index, tap in enumerate(taps):
            try:
                self._add_tap(tap, index, results, heads)
            except LayertapError as error:
                raise error.located(f"taps[{index}]") from None
        return Resolution(Plan(self._model_key, tuple(heads), image_size), tuple(results))

    def _add_tap(self, given: Tap | str, index: int, results: list[Result], heads: dict[tuple[str, Head], int]) -> None:
        tap = self._expanded(parse_tap(given) if isinstance(given, str) else given)
        selection = self._selectors.find(tap.selector)
        head = tuple(blocks.bind(block) for block in tap.blocks)
        for layer in selection.layers:
            tensor = head_type(self._graph, layer.name, head)
            name = _result_name(tap, layer, single=selection.single)
            if any(result.name == name for result in results):
                message = f"two results would be called {name!r}; give one of them a name of its own with '-> name'"
                raise DuplicateNameError(message, name=name)
            head_index = heads.setdefault((layer.name, head), len(heads))
            results.append(_result(name, layer.name, head_index, index, tensor))

    def _expanded(self, tap: Tap) -> Tap:
        """The tap with the named tap that its selector stands for, if it does, written out."""
        named = self._named.get(tap.selector)
        if named is None or tap.selector in self._graph.types:
            return tap
        return replace(tap, selector=named.selector, blocks=named.blocks + tap.blocks, text=str(tap))


def _result(name: str, layer: str, head_index: int, tap_index: int, tensor: Tensor) -> Result:
    return Result(name, layer, head_index, tap_index, tensor.dtype, tensor.shape, tensor.layout)


def _result_name(tap: Tap, layer: LayerInfo, *, single: bool) -> str:
    if tap.name:
        if "{" not in tap.name:
            return tap.name
        if "{layer}" in tap.name:
            return tap.name.replace("{layer}", layer.name)
        raise InvalidRequestError(f"the name {tap.name!r} has a placeholder other than {{layer}}", name=tap.name)
    if tap.blocks and single:
        return tap.text or format_tap(tap)
    return layer.name
