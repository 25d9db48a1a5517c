"""The results of images: channels as small maps, class scores, summaries and vectors, beside what the model saw."""

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
from layertap.types import Array, Features, ModelInfo
from layertap.viz.page import MARGIN, Page
from layertap.viz.pictures import Picture, Result, results_of
from layertap.viz.scale import GREY_REMARK, colours, draw_bar, masked, scale_of
from layertap.viz.style import finite, limits, number, save, show_picture, styled
from layertap.viz.text import height_of, width_of
from layertap.viz.values import HEIGHT as VALUES_HEIGHT
from layertap.viz.values import draw_scores, draw_summary, draw_values, scores_height

COLUMNS = 6
PHOTO, MAP, GAP = 2.4, 1.22, 0.1
"""Widths in inches."""
BAR, BAR_LABELS = 0.1, 0.55
TITLE, NOTE, CAPTION = 9.0, 8.0, 7.5
"""Sizes of letters."""
CAPTION_HEIGHT = 0.15
BETWEEN = 0.14
"""Inches between results, and between pictures."""
BLOCK = COLUMNS * (MAP + GAP) - GAP
FLATTEST, TALLEST = 0.25, 1.5
"""Height by width that a map may take; flatter and taller ones are stretched to it."""
MOST_MAPS = 1200
"""Of one figure: more take minutes to draw, and nobody can look at them."""
SCALES = ("common", "channel")
LEGENDS = {
    "common": "The maps of a result share one scale, over all pictures. Above each map: its channel and its own range.",
    "channel": "Each channel has a scale of its own, over all pictures: dark is its lowest value, bright its highest. "
    "Above each map: its channel and its own range.",
}


@dataclass(frozen=True, slots=True)
class _Column:
    """One result of every picture, and what is drawn of it."""

    results: tuple[Result, ...]
    channels: list[int]
    scales: dict[int, Normalize]
    """Channel -> its scale."""
    is_common: bool

    @property
    def rows(self) -> int:
        return -(-len(self.channels) // self.columns)

    def planes_of(self, picture: int) -> Array:
        """Return the maps or matrices of one picture; none for a vector."""
        planes = self.results[picture].planes
        return np.zeros((0, 1, 1)) if planes is None else planes

    @property
    def columns(self) -> int:
        """One wide cell for a single matrix, else `COLUMNS`."""
        return 1 if self.results[0].maps is None and len(self.planes_of(0)) == 1 else COLUMNS


@styled
def maps_figure(
    pictures: Sequence[Picture], *, channels: int = 12, picked: Sequence[int] = (), scale: str = "common"
) -> Figure:
    """Draw the pictures, each with its results; of a layer's channels, brighter is higher.

    Of each result the ``channels`` maps of most energy (Euclidean norm, over all the pictures) are shown, or those
    that are picked. Attention is laid out on the token grid; values without a place are images of their last two axes;
    vectors as long as the model's list of classes are its five highest classes; other vectors are bars.

    Args:
        pictures: what to draw.
        channels: how many maps of each result.
        picked: the channels to show instead.
        scale: ``common`` for one colour scale for all maps of a result, with its bar, or ``channel`` for one for each.

    Raises:
        ValueError: there is no result, or none of the picked channels, or there are more maps than can be looked at.
    """
    if scale not in SCALES:
        raise ValueError(f"scale is one of {', '.join(SCALES)}, not {scale!r}")
    if not pictures or not pictures[0].results:
        raise ValueError("there is no result to draw")
    drawn = [_column(results, channels, picked, is_common=scale == "common") for results in of_each_result(pictures)]
    if (count := len(pictures) * sum(len(column.channels) for column in drawn)) > MOST_MAPS:
        raise ValueError(f"a figure shows at most {MOST_MAPS} maps, not {count}; choose fewer channels, taps or images")
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
    """Draw the first image's maps (`maps_figure`) beside the image file, and save them.

    With the model's information (`Client.model`) class scores have their names.

    Raises:
        ValueError: there is no result.
    """
    with Image.open(image) as opened:
        pixels = np.asarray(_pixels.upright(opened).convert("RGB"))
    picture = Picture(Path(image).name, pixels, results_of(features, {}, model))
    save(maps_figure([picture], channels=channels), out)


def of_each_result(pictures: Sequence[Picture]) -> list[tuple[Result, ...]]:
    """Return each result as every picture has it."""
    return list(zip(*(picture.results for picture in pictures), strict=True))


def chosen_channels(results: Sequence[Result], count: int, picked: Sequence[int]) -> list[int]:
    """Return those that were picked, else the ``count`` of most energy, most first; none for a vector.

    Raises:
        ValueError: a channel that the result does not have.
    """
    planes = [result.planes for result in results if result.planes is not None]
    if not planes or not all(array.size for array in planes):
        return []
    if missing := [channel for channel in picked if not 0 <= channel < len(planes[0])]:
        raise ValueError(f"{results[0].name} has channels 0 to {len(planes[0]) - 1}, not {missing[0]}")
    energy = sum(np.square(finite(array).astype(np.float64)).sum(axis=(1, 2)) for array in planes)
    order = [int(channel) for channel in np.argsort(-energy, kind="stable")]
    return list(picked) or order[:count]


def title_of(result: Result) -> str:
    """Return its name, its layer where that is called otherwise, and its shape."""
    source = f" of {result.source}" if result.source else ""
    return f"{result.name}{source} ({result.shape})"


def write_title(page: Page, result: Result, left: float, top: float, width: float) -> float:
    """Write the title in at most two lines, and below it what is drawn; return where they end."""
    title = page.notes.fit(title_of(result), width, TITLE, lines=2, bold=True)
    page.text(left, top, title, fontsize=TITLE, fontweight="bold")
    top += height_of(1 + title.count("\n"), TITLE) + 0.03
    if not result.note:
        return top
    note = page.notes.fit(result.note, width, NOTE, lines=2)
    page.text(left, top, note, fontsize=NOTE)
    return top + height_of(1 + note.count("\n"), NOTE) + 0.03


def cell_ratio(height: float, width: float) -> float:
    """Return height by width of the box that an image of this size is drawn in."""
    return min(max(height / max(width, 1), FLATTEST), TALLEST)


def _column(results: tuple[Result, ...], count: int, picked: Sequence[int], *, is_common: bool) -> _Column:
    channels = chosen_channels(results, count, picked)
    planes = {
        channel: [result.planes[channel] for result in results if result.planes is not None] for channel in channels
    }
    common = scale_of([plane for some in planes.values() for plane in some])
    scales = {channel: common if is_common else scale_of(some) for channel, some in planes.items()}
    return _Column(results, channels, scales, is_common)


def _draw_photo(page: Page, picture: Picture, top: float) -> float:
    title = page.notes.fit(picture.title, PHOTO, TITLE, lines=2)
    top += height_of(1 + title.count("\n"), TITLE) + 0.03
    height = PHOTO * cell_ratio(*picture.pixels.shape[:2])
    show_picture(page.axes(MARGIN, top, PHOTO, height), picture.pixels, title, size=TITLE)
    return top + height


def _draw_results(page: Page, columns: Sequence[_Column], index: int, top: float) -> float:
    left = MARGIN + PHOTO + 2 * BETWEEN
    for column in columns:
        result = column.results[index]
        top = write_title(page, result, left, top, BLOCK)
        draw = _draw_maps if column.channels else _draw_values
        top = draw(page, column, index, left, top) + BETWEEN
    return top


def _draw_maps(page: Page, column: _Column, index: int, left: float, top: float) -> float:
    planes = column.planes_of(index)
    width = BLOCK if column.columns == 1 else MAP
    height = min(width * cell_ratio(*planes.shape[1:]), TALLEST * MAP)
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
    """Fill the axes with one map; what is not finite is grey, and a remark says so."""
    axes.imshow(masked(plane), cmap=colours(), norm=scale, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    if not np.isfinite(plane).all():
        page.remark(GREY_REMARK)


def _caption(result: Result, channel: int, plane: Array, width: float) -> str:
    """Return what to call a map and its range, in as many digits as fit; without the range where none do."""
    called = result.indices[channel] if result.indices else str(channel)
    before = f"{called}: " if called else ""
    if not np.isfinite(plane).any():
        return f"{before}nothing finite"
    low, high = limits([plane])
    texts = [f"{before}{number(low, digits)} … {number(high, digits)}" for digits in (3, 2, 1)]
    return next((text for text in texts if width_of(text, CAPTION) <= width + GAP / 2), called)


def _draw_values(page: Page, column: _Column, index: int, left: float, top: float) -> float:
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
