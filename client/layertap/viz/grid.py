"""Channels of each result as small maps beside the image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from PIL import Image, ImageOps

from layertap.types import Array, Features
from layertap.viz.pictures import Picture, Result, results_of
from layertap.viz.style import COLOURS, LINE, finite, limits, new_figure, number, plain, save, show_picture, styled

COLUMNS = 6
IMAGE_INCHES = 2.6
MAP_INCHES = 1.3
ROW_INCHES = 1.45
"""A map and its title."""
TITLE_INCHES = 0.3
VALUES_INCHES = 1.3
LEGEND = "above a map, its channel and range;\nbrighter is higher"


@styled
def maps_figure(pictures: Sequence[Picture], *, channels: int = 12, picked: Sequence[int] = ()) -> Figure:
    """The pictures, each with the maps of its results; brighter is higher.

    Of each result the ``channels`` maps with most energy (Euclidean norm, over all the pictures) are shown, or those
    that are picked. Each is scaled to its own range, which its title tells behind the channel's number. A result
    whose values have no place is drawn as a line of its values.

    Raises:
        ValueError: there is no result, or none of the picked channels.
    """
    if not pictures or not pictures[0].results:
        raise ValueError("there is no result to draw")
    chosen = [chosen_channels(results, channels, picked) for results in of_each_result(pictures)]
    heights = [TITLE_INCHES + (-(-len(some) // COLUMNS) * ROW_INCHES if some else VALUES_INCHES) for some in chosen]
    height = max(sum(heights), IMAGE_INCHES)
    figure = new_figure(IMAGE_INCHES + COLUMNS * MAP_INCHES, height * len(pictures))
    for part, picture in zip(figure.subfigures(len(pictures), 1, squeeze=False).ravel(), pictures, strict=True):
        left, right = part.subfigures(1, 2, width_ratios=[IMAGE_INCHES, COLUMNS * MAP_INCHES])
        axes = left.subplots()
        show_picture(axes, picture.pixels, picture.title)
        axes.set_anchor("N")
        axes.text(0, -0.03, LEGEND, transform=axes.transAxes, va="top", fontsize=8)
        rows = right.subfigures(len(heights), 1, height_ratios=heights, squeeze=False).ravel()
        for row, result, some in zip(rows, picture.results, chosen, strict=True):
            _draw_result(row, result, some)
    return figure


def draw_maps(
    image: str | os.PathLike[str], features: Features, out: str | os.PathLike[str], *, channels: int = 12
) -> None:
    """Draws the first image's maps (`maps_figure`) beside the image file, and saves them.

    Raises:
        ValueError: there is no result.
    """
    with Image.open(image) as opened:
        pixels = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    picture = Picture(Path(image).name, pixels, results_of(features, {}))
    save(maps_figure([picture], channels=channels), out)


def of_each_result(pictures: Sequence[Picture]) -> list[tuple[Result, ...]]:
    """Each result as every picture has it."""
    return list(zip(*(picture.results for picture in pictures), strict=True))


def chosen_channels(results: Sequence[Result], count: int, picked: Sequence[int]) -> list[int]:
    """Those that were picked, else the ``count`` of most energy, most first; none where there are no maps.

    Raises:
        ValueError: a channel that the result does not have.
    """
    maps = [result.maps for result in results if result.maps is not None]
    if not maps:
        return []
    if missing := [channel for channel in picked if not 0 <= channel < len(maps[0])]:
        raise ValueError(f"{results[0].name} has channels 0 to {len(maps[0]) - 1}, not {missing[0]}")
    energy = sum(np.square(finite(array).astype(np.float64)).sum(axis=(1, 2)) for array in maps)
    order = [int(channel) for channel in np.argsort(-energy, kind="stable")]
    return list(picked) or order[:count]


def title_of(result: Result) -> str:
    """Its name, its layer where that is called otherwise, and its shape."""
    source = f"  of {plain(result.source)}" if result.source else ""
    return f"{plain(result.name)}{source}  ({result.shape})"


def _draw_result(part: SubFigure, result: Result, channels: Sequence[int]) -> None:
    part.suptitle(title_of(result), fontweight="bold", x=0.01, ha="left")
    if result.maps is None or not channels:
        draw_values(part.subplots(), result.values)
        return
    axes = part.subplots(-(-len(channels) // COLUMNS), COLUMNS, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, channel in zip(axes, channels, strict=False):
        _draw_map(axis, result.maps[channel], channel)


def _draw_map(axes: Axes, plane: Array, channel: int) -> None:
    low, high = limits([plane])
    axes.imshow(plane, cmap=COLOURS, interpolation="nearest")
    axes.set_title(f"{channel}:  {number(low)} … {number(high)}", fontsize=8, pad=2)


def draw_values(axes: Axes, values: Array) -> None:
    """The values as a line."""
    axes.plot(values.ravel(), linewidth=0.7, color=LINE)
    axes.margins(x=0.01)
    axes.set_xlabel("feature")
    axes.set_ylabel("value")
