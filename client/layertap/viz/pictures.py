"""An image as the model saw it, with its results laid out as maps: what the figures are drawn of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from layertap.expression import parse_tap
from layertap.images import ImageLike, describe
from layertap.types import Array, Block, FeatureMap, Features, LayerInfo, Layout, ModelInfo, Tap
from layertap.viz.forms import SUMMARY_BLOCK, Form, form_of, grids_of, summary_form
from layertap.viz.labels import label_of

if TYPE_CHECKING:
    from layertap._client import Client

IMAGE_INPUT = "#0"
"""The selector of a model's input that takes images: its first layer."""
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
    matrices: Array | None = None
    """float32 K×A×B: the last two axes of values that have no place in the picture, such as attention."""
    indices: tuple[str, ...] = ()
    """What to call each map or matrix; empty for the number of the channel."""
    names: tuple[str, ...] = ()
    """Of each value of a vector: the model's classes, or the statistics of a summary."""
    is_summary: bool = False
    """Whether the values are those of the block `stats`."""
    note: str = ""
    """What the maps or matrices are, where they are not the channels of a layer."""

    @property
    def planes(self) -> Array | None:
        """The maps, or the matrices; None for a vector."""
        return self.matrices if self.maps is None else self.maps

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
    info = client.model(model)
    pictures = []
    for index, image in enumerate(images):
        features = client.extract(image, model=model, taps=taps)
        title = describe(image, index).rpartition("/")[2]
        pictures.append(Picture(title, seen(client, image, model), results_of(features, layers, info)))
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
    span = np.where(white == black, 1, white - black)  # a channel that no colour changes stays black
    pixels = np.rint(255 * (values - black) / span).clip(0, 255).astype(np.uint8)
    if pixels.shape[2] != len("RGB"):
        return np.repeat(pixels.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    is_bgr = red[0] == black[0]
    return np.asarray(pixels[..., ::-1] if is_bgr else pixels)


def _channels_last(feature: FeatureMap) -> Array:
    array = feature.array.astype(np.float64)
    return array if feature.layout is Layout.NHWC else np.moveaxis(array, 1, -1)


def results_of(
    features: Features, layers: Mapping[str, LayerInfo], model: ModelInfo | None = None
) -> tuple[Result, ...]:
    """Lay the results of the first image out.

    Without its `LayerInfo` a layer's tokens and places are not known, without the model's information its classes.
    """
    grids = grids_of(layers.values())
    results = []
    for feature in features.maps:
        layer, head = layers.get(feature.layer), _head_of(feature, features, model)
        values = feature.dequantized()[0].astype(np.float32)
        if head and head[-1].name == SUMMARY_BLOCK:
            form = summary_form(values)
        else:
            form = form_of(values, feature.layout, layer, grids, model.labels if model else ())
        is_whole = feature.name == feature.layer if head is None else not head
        results.append(_result(feature, layer, values, form, is_whole=is_whole))
    return tuple(results)


def _head_of(feature: FeatureMap, features: Features, model: ModelInfo | None) -> tuple[Block, ...] | None:
    """Return the blocks that made a result out of its layer; None where the features do not hold their taps."""
    if feature.tap_index >= len(features.taps):
        return None
    tap = parse_tap(features.taps[feature.tap_index])
    named = model.heads.get(tap.selector) if model else None
    return (*(parse_tap(named).blocks if named else ()), *tap.blocks)


def _result(feature: FeatureMap, layer: LayerInfo | None, values: Array, form: Form, *, is_whole: bool) -> Result:
    places = _places(layer, form.maps, is_whole=is_whole) if layer and form.maps is not None else None
    label = label_of(layer) if layer else feature.layer
    name, source = (label, "") if feature.name == feature.layer else (feature.name, label)
    return Result(
        name,
        source,
        "×".join(map(str, values.shape)) or "one value",
        values,
        form.maps,
        places,
        form.matrices,
        form.indices,
        form.names,
        form.is_summary,
        form.note,
    )


def _places(layer: LayerInfo, maps: Array, *, is_whole: bool) -> tuple[Places, Places] | None:
    """Return where values lie by the layer's receptive field, if the head left its rows and columns as they were.

    The field is known along the height alone; `Result.on_picture` decides whether it can be that of the columns too.
    """
    field = layer.receptive_field
    if field is None or layer.layout not in {Layout.NCHW, Layout.NHWC}:
        return None
    spatial = layer.shape[1:3] if layer.layout is Layout.NHWC else layer.shape[-2:]
    kept = (told == size or (told == -1 and is_whole) for told, size in zip(spatial, maps.shape[1:], strict=True))
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
