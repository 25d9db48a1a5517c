"""An image as the model saw it, with its results laid out as maps: what the figures are drawn of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from layertap.images import ImageLike, describe
from layertap.types import Array, FeatureMap, Features, LayerInfo, Layout, Tap, TokenGrid
from layertap.viz.labels import label_of

if TYPE_CHECKING:
    from layertap._client import Client

IMAGE_INPUT = "#0"
"""The selector of a model's input that takes images: its first layer."""
_MAP_RANK, _TOKENS_RANK = 4, 3
_PROBES = np.zeros((3, 16, 16, 3), np.uint8)
"""A black, a white and a red image."""
_PROBES[1] = 255
_PROBES[2, ..., 0] = 255


@dataclass(frozen=True, slots=True)
class Places:
    """Where the values of a map lie along a side of the picture, in its pixels."""

    first: float
    """Centre of the first value; 0 is the centre of the first pixel."""
    step: float


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """One result for one image."""

    name: str
    """What to call it: its layer by name and module path, or the name that the tap gave it."""
    source: str
    """The layer, where the name does not tell it."""
    shape: str
    """As the server sent it, without the batch: ``24×56×56``."""
    values: Array
    """float32, of that shape."""
    maps: Array | None = None
    """float32 C×H×W; None where the values have no place."""
    places: tuple[Places, Places] | None = None
    """Of rows and of columns, by the receptive field; None where values are spread evenly over the picture."""

    def on_picture(self, plane: Array, height: int, width: int, *, smooth: bool = True) -> Array:
        """One plane of H×W in the picture's pixels: each value at its place.

        Between the places values are interpolated, or, where that is not wanted, those of the nearest place.
        """
        rows, columns = self._places_on(plane, height, width)
        weights = _weights if smooth else _nearest
        return np.asarray(weights(rows, plane.shape[0], height) @ plane @ weights(columns, plane.shape[1], width).T)

    def _places_on(self, plane: Array, height: int, width: int) -> tuple[Places, Places]:
        """The field is known along the height: columns have its step where it leaves as much of the width uncovered.

        That is nothing in a network that pads, and what the kernels take off in one that does not.
        """
        count_down, count_across = plane.shape
        rows, columns = self.places or (_even(count_down, height), _even(count_across, width))
        left_down, left_across = height - rows.step * count_down, width - columns.step * count_across
        is_same = self.places is None or abs(left_across - left_down) <= columns.step
        return rows, columns if is_same else _even(count_across, width)


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One image and what was asked of it."""

    title: str
    pixels: Array
    """uint8 H×W×3: as the model saw it, resized and cropped."""
    results: tuple[Result, ...]

    @property
    def height_by_width(self) -> float:
        height, width = self.pixels.shape[:2]
        return float(height / width)


def collect(client: Client, images: Sequence[ImageLike], *, model: str, taps: Sequence[Tap | str]) -> list[Picture]:
    """Extracts the taps of each image, and what the model saw of it.

    Raises:
        LayertapError: as of `Client.extract`.
    """
    layers = {layer.name: layer for layer in client.layers(model)}
    pictures = []
    for index, image in enumerate(images):
        features = client.extract(image, model=model, taps=taps)
        title = describe(image, index).rpartition("/")[2]
        pictures.append(Picture(title, seen(client, image, model), results_of(features, layers)))
    return pictures


def seen(client: Client, image: ImageLike, model: str) -> Array:
    """What the model sees of an image, as uint8 H×W×3.

    The server is asked for the model's own input, and for that of a black, a white and a red image: these tell how
    pixels became numbers, and in which order the colours come.
    """
    given = client.extract(image, model=model, taps=IMAGE_INPUT)
    values = _channels_last(given.maps[0])[0]
    answers = _channels_last(client.extract(list(_PROBES), model=model, taps=IMAGE_INPUT).maps[0])
    # In the middle, where no letterbox fills and no crop reaches beyond the image.
    black, white, red = answers[:, answers.shape[1] // 2, answers.shape[2] // 2]
    pixels = np.rint(255 * (values - black) / (white - black)).clip(0, 255).astype(np.uint8)
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    is_bgr = red[0] == black[0]
    return np.asarray(pixels[..., ::-1] if is_bgr else pixels)


def _channels_last(feature: FeatureMap) -> Array:
    array = feature.array.astype(np.float64)
    return array if feature.layout is Layout.NHWC else np.moveaxis(array, 1, -1)


def results_of(features: Features, layers: Mapping[str, LayerInfo]) -> tuple[Result, ...]:
    """The results of the first image; without its `LayerInfo` a layer's tokens and places are not known."""
    return tuple(_result(feature, layers.get(feature.layer)) for feature in features.maps)


def _result(feature: FeatureMap, layer: LayerInfo | None) -> Result:
    values = feature.dequantized()[0].astype(np.float32)
    maps = _maps(values, feature.layout, layer.tokens if layer else None)
    places = _places(feature, layer, maps) if layer and maps is not None else None
    label = label_of(layer) if layer else feature.layer
    name, source = (label, "") if feature.name == feature.layer else (feature.name, label)
    return Result(name, source, "×".join(map(str, values.shape)), values, maps, places)


def _maps(values: Array, layout: Layout, tokens: TokenGrid | None) -> Array | None:
    """C×H×W; tokens that are no place (class, registers) are left out."""
    if values.ndim == _MAP_RANK - 1 and layout in {Layout.NCHW, Layout.NHWC}:
        return np.moveaxis(values, -1, 0) if layout is Layout.NHWC else values
    if values.ndim == _TOKENS_RANK - 1 and layout is Layout.TOKENS and tokens:
        prefix = len(values) - tokens.height * tokens.width
        if prefix in {0, tokens.prefix}:
            return values[prefix:].T.reshape(-1, tokens.height, tokens.width)
    return None


def _places(feature: FeatureMap, layer: LayerInfo, maps: Array) -> tuple[Places, Places] | None:
    """By the layer's receptive field, where the head left its rows and columns as they were.

    The field is known along the height alone; `Result.on_picture` asks whether it can be that of the columns too.
    """
    field = layer.receptive_field
    if field is None or layer.layout not in {Layout.NCHW, Layout.NHWC}:
        return None
    spatial = layer.shape[1:3] if layer.layout is Layout.NHWC else layer.shape[-2:]
    is_own = feature.name == feature.layer
    kept = (told == size or (told == -1 and is_own) for told, size in zip(spatial, maps.shape[1:], strict=True))
    return (Places(field.offset, field.stride),) * 2 if all(kept) else None


def _even(count: int, size: int) -> Places:
    step = size / count
    return Places((step - 1) / 2, step)


def _weights(places: Places, count: int, size: int) -> Array:
    """size×count: of which values each pixel is made; before the first and behind the last stands that value."""
    centres = places.first + places.step * np.arange(count)
    return np.stack([np.interp(np.arange(size), centres, unit) for unit in np.eye(count)], axis=1)


def _nearest(places: Places, count: int, size: int) -> Array:
    """As `_weights`, all of it on the nearest value."""
    index = np.rint((np.arange(size) - places.first) / places.step).clip(0, count - 1).astype(int)
    return np.asarray(np.eye(count)[index])
