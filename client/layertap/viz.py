"""Pictures of feature maps, with matplotlib. Needs the extra ``viz``."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes  # noqa: TID251 - this is the place
from matplotlib.figure import Figure  # noqa: TID251
from matplotlib.gridspec import SubplotSpec  # noqa: TID251
from matplotlib.layout_engine import ConstrainedLayoutEngine  # noqa: TID251
from PIL import Image  # noqa: TID251

from layertap.types import Array, FeatureMap, Features, Layout

COLOURS = "viridis"
"""Even in lightness, and safe for colour-blind readers."""
COLUMNS = 6
IMAGE_INCHES = 3.2
MAP_INCHES = 1.35
ROW_INCHES = 1.4
"""A map and its title."""
TITLE_INCHES = 0.45
LONGEST_TITLE = 60


def draw_maps(
    image: str | os.PathLike[str], features: Features, out: str | os.PathLike[str], *, channels: int = 12
) -> None:
    """Draws the first image's maps beside the image itself and saves a PNG.

    Of each result the ``channels`` maps with most energy (Euclidean norm) are shown, each scaled to its own range;
    a map's title is its channel and that range. A result without height and width is drawn as a line of its values.

    Raises:
        ValueError: there is no result.
    """
    if not features.maps:
        raise ValueError("there is no result to draw")
    heights = [_rows(feature, channels) * ROW_INCHES + TITLE_INCHES for feature in features.maps]
    layout = ConstrainedLayoutEngine(h_pad=0.02, w_pad=0.03, hspace=0.02, wspace=0.02)
    figure = Figure(figsize=(IMAGE_INCHES + COLUMNS * MAP_INCHES, sum(heights)), layout=layout)
    grid = figure.add_gridspec(1, 2, width_ratios=[IMAGE_INCHES, COLUMNS * MAP_INCHES])
    _draw_image(figure.add_subplot(grid[0]), image)
    rows = grid[1].subgridspec(len(heights), 1, height_ratios=heights)
    for row, feature in enumerate(features.maps):
        _draw_feature(figure, rows[row], feature, channels)
    figure.savefig(Path(out), dpi=110, format="png")


def _is_map(feature: FeatureMap) -> bool:
    return feature.layout in {Layout.NCHW, Layout.NHWC} and feature.array.ndim == 4  # noqa: PLR2004


def _channels_first(feature: FeatureMap) -> Array:
    """The first image's maps, C×H×W."""
    first = feature.array[0].astype(np.float32)
    return np.moveaxis(first, -1, 0) if feature.layout is Layout.NHWC else first


def _rows(feature: FeatureMap, channels: int) -> int:
    shown = min(channels, len(_channels_first(feature))) if _is_map(feature) else 1
    return -(-shown // COLUMNS)


def _draw_image(axes: Axes, image: str | os.PathLike[str]) -> None:
    with Image.open(image) as opened:
        axes.imshow(np.asarray(opened.convert("RGB")))
    axes.set_title(Path(image).name, fontsize=10)
    axes.set_anchor("N")
    axes.set_axis_off()


def _draw_feature(figure: Figure, place: SubplotSpec, feature: FeatureMap, channels: int) -> None:
    shape = "×".join(map(str, feature.array.shape[1:]))
    part = figure.add_subfigure(place)
    name = feature.name if len(feature.name) <= LONGEST_TITLE else feature.name[: LONGEST_TITLE - 1] + "…"
    source = "" if feature.layer == feature.name else f"  of {feature.layer}"
    # A dollar sign would begin a formula.
    part.suptitle(f"{name}{source}  ({shape})".replace("$", r"\$"), fontsize=10, fontweight="bold", x=0.01, ha="left")
    if not _is_map(feature):
        _draw_values(part.subplots(), feature)
        return
    maps = _channels_first(feature)
    order = _most_energy(maps)[:channels]
    axes = part.subplots(_rows(feature, channels), COLUMNS, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, channel in zip(axes, order, strict=False):
        shown = maps[channel]
        axis.imshow(shown, cmap=COLOURS, interpolation="nearest")
        axis.set_title(f"{channel}: {shown.min():.3g} … {shown.max():.3g}", fontsize=7, pad=2)


def _most_energy(maps: Array) -> list[int]:
    energy = np.square(maps.astype(np.float64)).sum(axis=(1, 2))
    return [int(channel) for channel in np.argsort(-energy, kind="stable")]


def _draw_values(axes: Axes, feature: FeatureMap) -> None:
    values = feature.array[0].ravel()
    axes.plot(values, linewidth=0.6, color="#2a6f97")
    axes.margins(x=0.01)
    axes.tick_params(labelsize=7)
    axes.set_xlabel("feature", fontsize=7)
