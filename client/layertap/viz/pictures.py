"""Collect what the figures show: an image as the model saw it, and its results arranged as maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from layertap._features import Features
from layertap.expression import parse_tap
from layertap.images import ImageLike, describe
from layertap.types import Array, Block, FeatureMap, LayerInfo, Layout, ModelInfo, Tap
from layertap.viz.forms import SUMMARY_BLOCK, Form, choose_form, grids_of, summary_form
from layertap.viz.labels import label_of

if TYPE_CHECKING:
    from layertap._client import Client

IMAGE_INPUT = "#0"
"""Selector of a model's image input, which is its first layer."""
_PROBES = np.zeros((3, 16, 16, 3), np.uint8)
"""A black, a white and a red image."""
_PROBES[1] = 255
_PROBES[2, ..., 0] = 255


@dataclass(frozen=True, slots=True)
class Positions:
    """Positions of a map's values along one axis of the picture, in pixels."""

    first: float
    """Centre of the first value; 0 is the centre of the first pixel."""
    step: float
    """Distance between values."""


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """One result for one image."""

    name: str
    """Label: the layer's name and module path, or the name that the tap gives."""
    source: str
    """Label of the layer, if the name does not contain it."""
    shape: str
    """Shape as the server sent it, without the batch: ``24×56×56``."""
    values: Array
    """Values as float32, in that shape."""
    maps: Array | None = None
    """Values as float32 of shape C×H×W; None if they have no spatial positions."""
    positions: tuple[Positions, Positions] | None = None
    """Positions of rows and of columns, from the receptive field.

    None if the values are spread evenly over the picture.
    """
    matrices: Array | None = None
    """Values as float32 of shape K×A×B for a layer without spatial positions, such as K heads of attention over A×B
    tokens; None for any other layer."""
    indices: tuple[str, ...] = ()
    """Label of each map or matrix; empty to number them."""
    names: tuple[str, ...] = ()
    """Name of each value of a vector: the model's classes, or the statistics of a summary."""
    is_summary: bool = False
    """Whether the values are those of the block `stats`."""
    note: str = ""
    """What the maps or matrices are, if they are not a layer's channels."""

    @property
    def planes(self) -> Array | None:
        """The maps or the matrices; None for a vector."""
        return self.matrices if self.maps is None else self.maps

    def on_picture(self, plane: Array, height: int, width: int, *, smooth: bool = True) -> Array:
        """Resample one map to the size of the picture, each value at its spatial position.

        Args:
            plane: array of shape H×W.
            height: height of the picture in pixels.
            width: width of the picture in pixels.
            smooth: interpolate between positions; otherwise take the nearest value.

        Returns:
            An array of shape height×width.
        """
        rows, columns = self._positions_on(plane, height, width)
        weights = _weights if smooth else _nearest_weights
        return np.asarray(weights(rows, plane.shape[0], height) @ plane @ weights(columns, plane.shape[1], width).T)

    def _positions_on(self, plane: Array, height: int, width: int) -> tuple[Positions, Positions]:
        """Return the positions of rows and columns in a picture of this size.

        The receptive field is only known along the height. Columns get the same step if it leaves as many pixels of the
        width uncovered: none in a network with padding, and the kernels' margin in one without. Otherwise columns are
        spread evenly.
        """
        count_down, count_across = plane.shape
        rows, columns = self.positions or (_even_positions(count_down, height), _even_positions(count_across, width))
        left_down, left_across = height - rows.step * count_down, width - columns.step * count_across
        is_same = self.positions is None or abs(left_across - left_down) <= columns.step
        return rows, columns if is_same else _even_positions(count_across, width)


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One image with its results."""

    title: str
    """Name of the image."""
    pixels: Array
    """The image as the model saw it, resized and cropped: uint8 of shape H×W×3."""
    results: tuple[Result, ...]
    """Results of the image."""

    @property
    def height_by_width(self) -> float:
        """Ratio of height to width."""
        height, width = self.pixels.shape[:2]
        return float(height / width)


def collect(client: Client, images: Sequence[ImageLike], *, model: str, taps: Sequence[Tap | str]) -> list[Picture]:
    """Extract the taps of each image, and the image as the model saw it.

    Args:
        client: the client.
        images: the images.
        model: name of the model.
        taps: what to extract.

    Returns:
        One picture for each image.

    Raises:
        LayertapError: as in `Client.extract`.
    """
    layers = {layer.name: layer for layer in client.layers(model)}
    info = client.model(model)
    pictures = []
    for index, image in enumerate(images):
        features = client.extract(image, model=model, taps=taps)
        title = describe(image, index).rpartition("/")[2]
        pictures.append(Picture(title, extract_view(client, image, model), results_of(features, layers, info)))
    return pictures


def extract_view(client: Client, image: ImageLike, model: str) -> Array:
    """Return an image as the model saw it, as uint8 of shape H×W×3.

    The model's input is extracted for the image and for a black, a white and a red image. These show how pixels are
    scaled, and whether the channels are RGB or BGR.
    """
    given = client.extract(image, model=model, taps=IMAGE_INPUT)
    values = _channels_last(given.maps[0])[0]
    probes = _channels_last(client.extract(list(_PROBES), model=model, taps=IMAGE_INPUT).maps[0])
    # Sample the centre, which no letterbox or padding covers.
    black, white, red = probes[:, probes.shape[1] // 2, probes.shape[2] // 2]
    span = np.where(white == black, 1, white - black)  # a channel that ignores the colour stays black
    pixels = np.rint(255 * (values - black) / span).clip(0, 255).astype(np.uint8)
    if pixels.shape[2] != len("RGB"):
        return np.repeat(pixels.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    is_bgr = red[0] == black[0]
    return np.asarray(pixels[..., ::-1] if is_bgr else pixels)


def _channels_last(feature: FeatureMap) -> Array:
    """Return the values as float64 with the channels on the last axis."""
    array = feature.array.astype(np.float64)
    return array if feature.layout is Layout.NHWC else np.moveaxis(array, 1, -1)


def results_of(
    features: Features, layers: Mapping[str, LayerInfo], model: ModelInfo | None = None
) -> tuple[Result, ...]:
    """Arrange the results of the first image for drawing.

    Args:
        features: the features.
        layers: the model's layers by name; without them tokens and spatial positions are unknown.
        model: the model, which provides the names of classes and heads.
    """
    grids = grids_of(layers.values())
    results = []
    for feature in features.maps:
        layer, head = layers.get(feature.layer), _head_of(feature, features, model)
        values = feature.dequantized()[0].astype(np.float32)
        if head and head[-1].name == SUMMARY_BLOCK:
            form = summary_form(values)
        else:
            form = choose_form(values, feature.layout, layer, grids, model.labels if model else ())
        is_whole = feature.name == feature.layer if head is None else not head
        results.append(_result(feature, layer, values, form, is_whole=is_whole))
    return tuple(results)


def _head_of(feature: FeatureMap, features: Features, model: ModelInfo | None) -> tuple[Block, ...] | None:
    """Return the blocks that made a result from its layer; None if the features do not contain their taps."""
    if feature.tap_index >= len(features.taps):
        return None
    tap = parse_tap(features.taps[feature.tap_index])
    named = model.heads.get(tap.selector) if model else None
    return (*(parse_tap(named).blocks if named else ()), *tap.blocks)


def _result(feature: FeatureMap, layer: LayerInfo | None, values: Array, form: Form, *, is_whole: bool) -> Result:
    """Return one result with its labels and positions."""
    positions = _positions(layer, form.maps, is_whole=is_whole) if layer and form.maps is not None else None
    label = label_of(layer) if layer else feature.layer
    name, source = (label, "") if feature.name == feature.layer else (feature.name, label)
    return Result(
        name,
        source,
        "×".join(map(str, values.shape)) or "one value",
        values,
        form.maps,
        positions,
        form.matrices,
        form.indices,
        form.names,
        form.is_summary,
        form.note,
    )


def _positions(layer: LayerInfo, maps: Array, *, is_whole: bool) -> tuple[Positions, Positions] | None:
    """Return the positions of values from the layer's receptive field, if the head kept rows and columns.

    The receptive field is only known along the height; `Result.on_picture` decides whether it applies to the columns
    too.
    """
    field = layer.receptive_field
    if field is None or layer.layout not in {Layout.NCHW, Layout.NHWC}:
        return None
    spatial = layer.shape[1:3] if layer.layout is Layout.NHWC else layer.shape[-2:]
    kept = (known == size or (known == -1 and is_whole) for known, size in zip(spatial, maps.shape[1:], strict=True))
    return (Positions(field.offset, field.stride),) * 2 if all(kept) else None


def _even_positions(count: int, size: int) -> Positions:
    """Return positions that are spread evenly over ``size`` pixels."""
    step = size / count
    return Positions((step - 1) / 2, step)


def _weights(positions: Positions, count: int, size: int) -> Array:
    """Return the weights, of shape size×count, with which values contribute to each pixel.

    Pixels before the first and after the last position take the value there.
    """
    centres = positions.first + positions.step * np.arange(count)
    return np.stack([np.interp(np.arange(size), centres, unit) for unit in np.eye(count)], axis=1)


def _nearest_weights(positions: Positions, count: int, size: int) -> Array:
    """Return weights, of shape size×count, that select the nearest value for each pixel."""
    index = np.rint((np.arange(size) - positions.first) / positions.step).clip(0, count - 1).astype(int)
    return np.asarray(np.eye(count)[index])
