"""Compare two images, or two models, layer by layer on a server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from layertap.similarity import Difference, LayerSimilarity, cka_matrix, linear_cka
from layertap.types import Array, Block, LayerInfo, Layout, Tap

if TYPE_CHECKING:
    from layertap._client import Client
    from layertap.images import ImageLike

FEWEST_IMAGES = 3
"""Minimum number of images for CKA; for two images it is 1 whatever their features are."""
DEFAULT_SELECTORS = ("all:activations",)
"""Selectors used if none are given."""
_HAS_POSITIONS = {Layout.NCHW, Layout.NHWC, Layout.NCT, Layout.NCDHW, Layout.TOKENS}
"""Layouts with spatial positions or tokens, over which ``gap`` averages."""
_HAS_MEANS = {"float32", "float16"}
"""Element types that ``gap`` accepts."""


@dataclass(frozen=True, slots=True, eq=False)
class CkaMatrix:
    """Linear CKA of each layer of one model with each layer of another."""

    rows: tuple[str, ...]
    """Layers of the first model."""
    columns: tuple[str, ...]
    """Layers of the second model."""
    values: Array
    """CKA values, float64, rows × columns."""


def select_layers(client: Client, model: str, selectors: Sequence[str] = ()) -> list[LayerInfo]:
    """Return the layers matched by the selectors, each once, in execution order.

    Raises:
        LayertapError: as for `Client.layers`; also if a selector matches no layer that can be tapped.
    """
    named = [layer for selector in selectors or DEFAULT_SELECTORS for layer in client.layers(model, selector)]
    return sorted({layer.name: layer for layer in named}.values(), key=lambda layer: layer.ordinal)


def compare_images(
    client: Client, one: ImageLike, other: ImageLike, *, model: str, selectors: Sequence[str] = ()
) -> list[LayerSimilarity]:
    """Compare the values of one model's layers for two images.

    Raises:
        LayertapError: as for `Client.extract`.
    """
    names = [layer.name for layer in select_layers(client, model, selectors)]
    taps = [Tap(name) for name in names]
    pair = (client.extract(image, model=model, taps=taps) for image in (one, other))
    differences = _differences(names, [tuple([feature.dequantized() for feature in side.maps] for side in pair)])
    return [_similarity(name, difference) for name, difference in zip(names, differences, strict=True)]


def compare_models(
    client: Client, images: Sequence[ImageLike], *, models: tuple[str, str], selectors: Sequence[str] = ()
) -> list[LayerSimilarity]:
    """Compare two models on the same images, for the layers whose name occurs in both; empty if there are none.

    Cosine similarity and distance are over all values of all images; CKA is of the features after ``gap``.

    Raises:
        LayertapError: as for `Client.extract`; also if a single image cannot be used.
    """
    one, other = (select_layers(client, model, selectors) for model in models)
    shared = {layer.name for layer in one} & {layer.name for layer in other}
    names = [layer.name for layer in one if layer.name in shared]
    if not names:
        return []
    taps = [Tap(name) for name in names]
    sides = [_each(client, images, model, taps) for model in models]
    differences = _differences(names, zip(*sides, strict=True))
    ckas: list[float | None] = [None] * len(names)
    if len(images) >= FEWEST_IMAGES:
        features = [
            _features(client, images, model, [layer for layer in layers if layer.name in shared])
            for model, layers in zip(models, (one, other), strict=True)
        ]
        ckas = [linear_cka(*(side[name] for side in features)) for name in names]
    return [_similarity(*row) for row in zip(names, differences, ckas, strict=True)]


def compare_layers(
    client: Client, images: Sequence[ImageLike], *, models: tuple[str, str], selectors: Sequence[str] = ()
) -> CkaMatrix:
    """Compute the linear CKA of every layer of one model with every layer of another, of their features after ``gap``.

    Raises:
        ValueError: there are fewer than three images.
        LayertapError: as for `compare_models`.
    """
    if len(images) < FEWEST_IMAGES:
        raise ValueError(f"expected at least {FEWEST_IMAGES} images for CKA, got {len(images)}")
    one, other = (_features(client, images, model, select_layers(client, model, selectors)) for model in models)
    return CkaMatrix(tuple(one), tuple(other), cka_matrix(list(one.values()), list(other.values())))


def _each(client: Client, images: Sequence[ImageLike], model: str, taps: Sequence[Tap]) -> Iterator[list[Array]]:
    """Yield the results of each image in the order of the images; raise the error of an image that has one."""
    for item in client.extract_many(images, model=model, taps=taps):
        if item.error is not None:
            raise item.error.about_image(item.id)
        if item.features is not None:
            yield [feature.dequantized() for feature in item.features.maps]


def _features(client: Client, images: Sequence[ImageLike], model: str, layers: Sequence[LayerInfo]) -> dict[str, Array]:
    """Return features N×C by layer name."""
    taps = [Tap(layer.name, _mean_over_positions(layer), name=layer.name) for layer in layers]
    rows = zip(*_each(client, images, model, taps), strict=True)
    return {
        layer.name: np.concatenate([one.reshape(1, -1) for one in row]) for layer, row in zip(layers, rows, strict=True)
    }


def _mean_over_positions(layer: LayerInfo) -> tuple[Block, ...]:
    """Return the head that averages over spatial positions or tokens; empty for a layer that has none."""
    if layer.layout not in _HAS_POSITIONS:
        return ()
    cast = () if layer.dtype in _HAS_MEANS else (Block("cast", {"dtype": "float32"}),)
    return (*cast, Block("gap"))


def _differences(names: Sequence[str], pairs: Iterable[tuple[list[Array], ...]]) -> list[Difference | None]:
    """Return each layer's difference over all pairs of images; None if the shapes of a pair differ."""
    differences: list[Difference | None] = [Difference() for _ in names]
    for one, other in pairs:
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            difference = differences[index]
            if a.shape != b.shape:
                differences[index] = None
            elif difference is not None:
                difference.add(a, b)
    return differences


def _similarity(layer: str, difference: Difference | None, cka: float | None = None) -> LayerSimilarity:
    """Return the similarity of one layer."""
    if difference is None:
        return LayerSimilarity(layer, cka=cka)
    return LayerSimilarity(layer, difference.cosine, difference.relative_l2, cka)
