"""What the server says about a model's layers: shapes, strides, costs, stages and blocks.

A model that accepts images of any size is described at several sizes; see ``graph.size_formulas``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeAlias

from layertap.types import LayerInfo
from layertap_server import graph
from layertap_server.graph import ModelGraph

Described: TypeAlias = tuple[tuple[LayerInfo, ...], graph.Structure]
"""Layers of a model, in execution order, and its stages and blocks."""
SIZES_TO_LIST = ((224, 224), (64, 64), (32, 32))
"""Heights and widths in pixels at which a model is described that accepts several sizes, but not those of `SAMPLES`."""


class Probe(Protocol):
    """Runs of a model on noise when it is loaded; see ``shape_probe``."""

    def complete(self, model: ModelGraph, size: tuple[int, int] | None) -> ModelGraph:
        """Open the first session of a model, and return it with the types that runs at an image size show."""

    def find_multiple(self, model: ModelGraph) -> int:
        """Return the number of pixels of which a model accepts all multiples as height and width."""


class NoProbe:
    """Probe that runs nothing."""

    def complete(self, model: ModelGraph, _size: tuple[int, int] | None) -> ModelGraph:
        """Return the model with its types as inferred."""
        return model

    def find_multiple(self, _model: ModelGraph) -> int:
        """Return 1."""
        return 1


def describe(
    model: ModelGraph, size: tuple[int, int] | None, probe: Probe | None = None, height: int | None = None
) -> Described:
    """Return the layers, stages and blocks of a model.

    Args:
        model: The model.
        size: Height and width of images after preprocessing; None if they vary.
        probe: Shape probe for the sizes at which the model is described if they vary.
        height: Height of images after preprocessing if only their width varies.

    Raises:
        GraphError: The model does not accept images of ``size``.
    """
    probe = probe or NoProbe()
    sized = graph.at_size(model, size) if size else model
    if sized.image_size or not model.takes_pictures:
        return sized.layers, graph.structure_of(sized)
    for sizes in _samples(model, height):
        try:
            described = [probe.complete(graph.at_size(model, one), one) for one in sizes]
        except graph.GraphError:
            continue
        return graph.describe_any_size([one.layers for one in described], sizes), graph.structure_of(described[0])
    return model.layers, _structure_at_any(model)


def _samples(model: ModelGraph, own_height: int | None) -> Iterator[tuple[tuple[int, int], ...]]:
    """Yield groups of heights and widths, with the height or width that the graph or the preprocessing fixes."""
    fixed_height, fixed_width = model.image_sides
    fixed_height = fixed_height or own_height
    for sizes in graph.SAMPLES:
        yield tuple((fixed_height or height, fixed_width or width) for height, width in sizes)


def _structure_at_any(model: ModelGraph) -> graph.Structure:
    """Return the stages and blocks at the first size that the model accepts; none if it accepts none."""
    for size in sizes_to_list(model.image_sides):
        try:
            return graph.structure_of(graph.at_size(model, size))
        except graph.GraphError:
            continue
    return graph.Structure()


def sizes_to_list(sides: tuple[int | None, int | None]) -> list[tuple[int, int]]:
    """Return heights and widths in pixels at which to describe a model whose graph fixes the given sides or none."""
    height, width = sides
    if height and width:
        return [(height, width)]
    return [(height or other[0], width or other[1]) for other in SIZES_TO_LIST]
