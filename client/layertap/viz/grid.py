"""Draw results of images beside the model's view: channels as small maps, class scores, summaries and vectors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image

from layertap import _pixels
from layertap._features import Features
from layertap.types import Array, ModelInfo
from layertap.viz.page import MARGIN, Page
from layertap.viz.pictures import Picture, Result, results_of
from layertap.viz.scale import GREY_REMARK, colours, draw_bar, mask_nonfinite, scale_of
from layertap.viz.style import finite, limits, number, save, show_picture, with_style
from layertap.viz.text import height_of, width_of
from layertap.viz.values import HEIGHT as VALUES_HEIGHT
from layertap.viz.values import draw_scores, draw_summary, draw_values, scores_height

COLUMNS = 6
"""Number of maps in a row."""
PHOTO, MAP, GAP = 2.4, 1.22, 0.1
"""Widths of the photograph, of a map and of the gap between maps, in inches."""
BAR, BAR_LABELS = 0.1, 0.55
"""Widths of the colour bar and of its labels, in inches."""
TITLE, NOTE, CAPTION = 9.0, 8.0, 7.5
"""Font sizes in points."""
CAPTION_HEIGHT = 0.15
"""Height of the text above a map, in inches."""
BETWEEN = 0.14
"""Distance between results, and between pictures, in inches."""
BLOCK = COLUMNS * (MAP + GAP) - GAP
"""Width of a row of maps, in inches."""
MIN_RATIO, MAX_RATIO = 0.25, 1.5
"""Minimum and maximum ratio of a map's height to its width; other maps are stretched to it."""
MAX_MAPS = 1200
"""Maximum maps of one figure; more take minutes to draw and are unreadable."""
SCALES = ("common", "channel")
"""Values of ``scale``: one for all maps of a result, or one for each channel."""
LEGENDS = {
    "common": "The maps of a result share one scale, over all pictures. Above each map: its channel and its own range.",
    "channel": "Each channel has a scale of its own, over all pictures: dark is its lowest value, bright its highest. "
    "Above each map: its channel and its own range.",
}
"""Text below the figure for each scale."""


@dataclass(frozen=True, slots=True)
class _Column:
    """One result of all pictures, with its channels to draw and their scales."""

    results: tuple[Result, ...]
    """The result of each picture."""
    channels: list[int]
    """Channels to draw, in order."""
    scales: dict[int, Normalize]
    """Scale of each channel."""
    is_common: bool
    """Whether all channels share one scale."""

    @property
    def rows(self) -> int:
        """Number of rows of maps."""
        return -(-len(self.channels) // self.columns)

    def planes_of(self, picture: int) -> Array:
        """Return the maps or matrices of one picture; an empty array for a vector."""
        planes = self.results[picture].planes
        return np.zeros((0, 1, 1)) if planes is None else planes

    @property
    def columns(self) -> int:
        """Number of maps in a row: 1 for a single matrix, else `COLUMNS`."""
        return 1 if self.results[0].maps is None and len(self.planes_of(0)) == 1 else COLUMNS


@with_style
def maps_figure(
    pictures: Sequence[Picture], *, channels: int = 12, picked: Sequence[int] = (), scale: str = "common"
) -> Figure:
    """Draw pictures with their results; brighter is higher.

    Of each result, the ``channels`` maps with the highest energy (Euclidean norm over all pictures) are drawn, or the
    picked ones. Attention is arranged on the token grid. Values without spatial positions are drawn as images of their
    last two axes. A vector with one value for each of the model's classes is drawn as its five highest classes, another
    vector as bars.

    Args:
        pictures: pictures with the same results.
        channels: number of maps of each result.
        picked: channels to draw instead.
        scale: ``common`` for one colour scale with a bar for all maps of a result, or ``channel`` for one for each
            channel.

    Raises:
        ValueError: there are no results, a picked channel does not exist, or the figure would have more than 1200 maps.
    """
    if scale not in SCALES:
        raise ValueError(f"expected scale to be one of {', '.join(SCALES)}, got {scale!r}")
    if not pictures or not pictures[0].results:
        raise ValueError("there is no result to draw; give at least one tap")
    drawn = [_column(results, channels, picked, is_common=scale == "common") for results in group_by_result(pictures)]
    if (count := len(pictures) * sum(len(column.channels) for column in drawn)) > MAX_MAPS:
        raise ValueError(f"a figure shows at most {MAX_MAPS} maps, got {count}; choose fewer channels, taps or images")
    page = Page(MARGIN + PHOTO + 2 * BETWEEN + BLOCK + GAP + BAR + BAR_LABELS)
    if any(column.channels for column in drawn):
        page.remark(LEGENDS[scale])
    top = MARGIN
    for index, picture in enumerate(pictures):
        ends = [_draw_photo(page, picture, top), _draw_results(page, drawn, index, top)]
        top = max(ends) + BETWEEN
    return page.finish(top)


def draw_maps(
    image: str | os.PathLike[str],
    features: Features,
    out: str | os.PathLike[str],
    *,
    channels: int = 12,
    model: ModelInfo | None = None,
) -> None:
    """Draw the maps of the first image beside its file with `maps_figure`, and save the figure.

    Args:
        image: the image file.
        features: its features.
        out: the figure's file.
        channels: number of maps of each result.
        model: the model (`Client.model`), which provides the names of classes.

    Raises:
        ValueError: there are no results.
    """
    with Image.open(image) as opened:
        pixels = np.asarray(_pixels.upright(opened).convert("RGB"))
    picture = Picture(Path(image).name, pixels, results_of(features, {}, model))
    save(maps_figure([picture], channels=channels), out)


def group_by_result(pictures: Sequence[Picture]) -> list[tuple[Result, ...]]:
    """Return for each result a tuple with the result of every picture."""
    return list(zip(*(picture.results for picture in pictures), strict=True))


def choose_channels(results: Sequence[Result], count: int, picked: Sequence[int]) -> list[int]:
    """Return the picked channels, or else the ``count`` channels with the highest energy; none for a vector.

    Raises:
        ValueError: a picked channel does not exist.
    """
    planes = [result.planes for result in results if result.planes is not None]
    if not planes or not all(array.size for array in planes):
        return []
    if missing := [channel for channel in picked if not 0 <= channel < len(planes[0])]:
        raise ValueError(f"{results[0].name} has channels 0 to {len(planes[0]) - 1}, got {missing[0]}")
    energy = sum(np.square(finite(array).astype(np.float64)).sum(axis=(1, 2)) for array in planes)
    order = [int(channel) for channel in np.argsort(-energy, kind="stable")]
    return list(picked) or order[:count]


def title_of(result: Result) -> str:
    """Return the result's name, its layer if the name does not contain it, and its shape."""
    source = f" of {result.source}" if result.source else ""
    return f"{result.name}{source} ({result.shape})"


def write_title(page: Page, result: Result, left: float, top: float, width: float) -> float:
    """Write a result's title in at most two lines, and its note below; return where they end."""
    title = page.notes.fit(title_of(result), width, TITLE, lines=2, bold=True)
    page.text(left, top, title, fontsize=TITLE, fontweight="bold")
    top += height_of(1 + title.count("\n"), TITLE) + 0.03
    if not result.note:
        return top
    note = page.notes.fit(result.note, width, NOTE, lines=2)
    page.text(left, top, note, fontsize=NOTE)
    return top + height_of(1 + note.count("\n"), NOTE) + 0.03


def cell_ratio(height: float, width: float) -> float:
    """Return the ratio of height to width of the box in which an image of this size is drawn."""
    return min(max(height / max(width, 1), MIN_RATIO), MAX_RATIO)


def _column(results: tuple[Result, ...], count: int, picked: Sequence[int], *, is_common: bool) -> _Column:
    """Choose the channels and scales of one result."""
    channels = choose_channels(results, count, picked)
    planes = {
        channel: [result.planes[channel] for result in results if result.planes is not None] for channel in channels
    }
    common = scale_of([plane for some in planes.values() for plane in some])
    scales = {channel: common if is_common else scale_of(some) for channel, some in planes.items()}
    return _Column(results, channels, scales, is_common)


def _draw_photo(page: Page, picture: Picture, top: float) -> float:
    """Draw the image as the model receives it, with a title; return the row of pixels below the drawing."""
    title = page.notes.fit(picture.title, PHOTO, TITLE, lines=2)
    top += height_of(1 + title.count("\n"), TITLE) + 0.03
    height = PHOTO * cell_ratio(*picture.pixels.shape[:2])
    show_picture(page.axes(MARGIN, top, PHOTO, height), picture.pixels, title, size=TITLE)
    return top + height


def _draw_results(page: Page, columns: Sequence[_Column], index: int, top: float) -> float:
    """Draw all results of one picture, one below the other; return where they end."""
    left = MARGIN + PHOTO + 2 * BETWEEN
    for column in columns:
        result = column.results[index]
        top = write_title(page, result, left, top, BLOCK)
        draw = _draw_maps if column.channels else _draw_values
        top = draw(page, column, index, left, top) + BETWEEN
    return top


def _draw_maps(page: Page, column: _Column, index: int, left: float, top: float) -> float:
    """Draw the maps of one result; return where they end."""
    planes = column.planes_of(index)
    width = BLOCK if column.columns == 1 else MAP
    height = min(width * cell_ratio(*planes.shape[1:]), MAX_RATIO * MAP)
    step = height + CAPTION_HEIGHT + GAP / 2
    for position, channel in enumerate(column.channels):
        row, place = divmod(position, column.columns)
        x, y = left + place * (MAP + GAP), top + row * step
        axes = page.axes(x, y + CAPTION_HEIGHT, width, height)
        axes.set_title(_caption(column.results[index], channel, planes[channel], width), fontsize=CAPTION, pad=2)
        draw_plane(page, axes, planes[channel], column.scales[channel])
    if column.is_common:
        used = BLOCK if column.columns == 1 else min(len(column.channels), COLUMNS) * (MAP + GAP) - GAP
        bar = page.axes(left + used + GAP, top + CAPTION_HEIGHT, BAR, min(column.rows * step, 2.4) - CAPTION_HEIGHT)
        draw_bar(bar, column.scales[column.channels[0]], colours())
    return top + column.rows * step


def draw_plane(page: Page, axes: Axes, plane: Array, scale: Normalize) -> None:
    """Draw one map; values that are not finite are grey, and a remark is added."""
    axes.imshow(mask_nonfinite(plane), cmap=colours(), norm=scale, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    if not np.isfinite(plane).all():
        page.remark(GREY_REMARK)


def _caption(result: Result, channel: int, plane: Array, width: float) -> str:
    """Return a map's label and range with as many digits as fit, or the label alone if none fit."""
    called = result.indices[channel] if result.indices else str(channel)
    before = f"{called}: " if called else ""
    if not np.isfinite(plane).any():
        return f"{before}nothing finite"
    low, high = limits([plane])
    texts = [f"{before}{number(low, digits)} … {number(high, digits)}" for digits in (3, 2, 1)]
    return next((text for text in texts if width_of(text, CAPTION) <= width + GAP / 2), called)


def _draw_values(page: Page, column: _Column, index: int, left: float, top: float) -> float:
    """Draw a result without maps; return where it ends."""
    result = column.results[index]
    if not result.values.size:
        page.text(left, top, "no values", fontsize=TITLE)
        return top + height_of(1, TITLE)
    if result.is_summary or result.values.size == 1:
        return draw_summary(page, result.names or ("value",), result.values.ravel(), left, top, BLOCK)
    if result.names:
        draw_scores(page, result.names, result.values.ravel(), left, top, BLOCK)
        return top + scores_height(len(result.names))
    if not np.isfinite(result.values).all():
        page.remark("Values of a vector that are not finite have no bar.")
    axes = page.axes(left + 0.5, top + 0.05, BLOCK - 0.5, VALUES_HEIGHT)
    draw_values(axes, [one.values for one in column.results], index)
    return top + VALUES_HEIGHT + 0.45
