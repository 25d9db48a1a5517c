"""Draw heat maps over the model's view of an image, each value at the centre of its receptive field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from layertap.types import Array
from layertap.viz.grid import cell_ratio, choose_channels, group_by_result
from layertap.viz.page import MARGIN, Page
from layertap.viz.pictures import Picture, Result
from layertap.viz.scale import COLOURS, DIVERGING, GREY_REMARK, colours, draw_bar, mask_nonfinite, scale_of
from layertap.viz.style import finite, limits, show_picture, with_style
from layertap.viz.text import height_of

SIDE, GAP = 1.5, 0.12
"""Width of a picture and distance between pictures, in inches."""
ROW_TITLE = 0.2
"""Width of the title beside a row, in inches."""
BAR, BAR_LABELS = 0.08, 0.4
"""Heights of the colour bar and of its labels, in inches."""
SIZE = 8.0
"""Font size in points."""
LINES = 3
"""Maximum lines of the name above a column."""
OPACITY = 0.65
"""Opacity of the heat map, 0 to 1."""
PALEST = 0.35
"""Grey level that black becomes in the photograph, 0 to 1, so that colours stay visible in dark regions."""


@dataclass(frozen=True, slots=True)
class Column:
    """One heat map for each picture, all on one scale."""

    title: str
    """Name of the result."""
    detail: str
    """Text below the title, such as the number of the channel; empty for none."""
    quantity: str
    """Label of the colour bar."""
    planes: tuple[Array, ...]
    """Heat map of each picture, at the picture's size."""

    @property
    def is_signed(self) -> bool:
        """Whether there are negative values."""
        return limits(self.planes)[0] < 0

    @property
    def scale(self) -> Normalize:
        """Scale of all heat maps; 0 is in its middle if there are negative values."""
        return scale_of(self.planes, around_zero=self.is_signed)

    @property
    def colours(self) -> Colormap:
        """Colour map: diverging if there are negative values."""
        return colours(DIVERGING if self.is_signed else COLOURS)


@with_style
def overlay_figure(pictures: Sequence[Picture], *, picked: Sequence[int] = ()) -> Figure:
    """Draw a row for each picture: the model's view, then each result's heat map over it.

    A heat map is the mean magnitude of all channels, or a picked channel. Its colours are on one scale for all
    pictures. Values between spatial positions are interpolated.

    Args:
        pictures: pictures with the same results.
        picked: channels to draw instead of the mean magnitude.

    Raises:
        ValueError: no result has spatial positions, or a picked channel does not exist.
    """
    columns = [column for results in group_by_result(pictures) for column in _columns(pictures, results, picked)]
    if not columns:
        raise ValueError("no result has rows and columns: there is nothing to lay over a picture")
    return draw_columns(pictures, columns)


def draw_columns(pictures: Sequence[Picture], columns: Sequence[Column]) -> Figure:
    """Draw a row for each picture: the model's view, then the heat map of each column over it."""
    page = Page(2 * MARGIN + ROW_TITLE + (SIDE + GAP) * (1 + len(columns)) + GAP)
    titles = _titles(page, columns)
    top = MARGIN + height_of(1 + max(title.count("\n") for title in titles), SIZE) + 0.04
    for row, picture in enumerate(pictures):
        height = SIDE * cell_ratio(*picture.pixels.shape[:2])
        title = page.notes.fit(picture.title, height, SIZE)
        line = [page.axes(_left(place), top, SIDE, height) for place in range(len(titles))]
        show_picture(line[0], picture.pixels)
        line[0].text(
            -0.06, 0.5, title, transform=line[0].transAxes, rotation=90, ha="right", va="center", fontsize=SIZE
        )
        for axes, column in zip(line[1:], columns, strict=True):
            _draw(page, axes, picture.pixels, column, row)
        if row == 0:
            for axes, name in zip(line, titles, strict=True):
                axes.set_title(name, fontsize=SIZE, pad=3)
        top += height + GAP
    for place, column in enumerate(columns, start=1):
        bar = page.axes(_left(place), top, SIDE, BAR)
        draw_bar(bar, column.scale, column.colours, horizontal=True, alpha=OPACITY)
        bar.set_xlabel(column.quantity, fontsize=SIZE, labelpad=2)
    return page.finish(top + BAR + BAR_LABELS)


def _left(place: int) -> float:
    """Return the left edge of a column in inches."""
    return MARGIN + ROW_TITLE + place * (SIDE + GAP)


def _titles(page: Page, columns: Sequence[Column]) -> list[str]:
    """Return the text above the picture and above each column."""
    titles = ["what the model saw"]
    for column in columns:
        name = page.notes.fit(column.title, SIDE, SIZE, lines=LINES)
        detail = page.notes.fit(column.detail, SIDE, SIZE, lines=2) if column.detail else ""
        titles.append("\n".join(part for part in (name, detail) if part))
    return titles


def _columns(pictures: Sequence[Picture], results: Sequence[Result], picked: Sequence[int]) -> list[Column]:
    """Return the columns of one result; none if it has no spatial positions."""
    if any(result.maps is None or not result.maps.size for result in results):
        return []
    name, note, indices = results[0].name, results[0].note, results[0].indices
    if not picked:
        quantity = "mean |value| of the heads" if note else "mean |activation|"
        return [Column(name, note, quantity, _planes(pictures, results, None))]
    return [
        Column(
            name,
            f"{indices[channel]}, {note}" if indices else f"channel {channel}",
            "value" if note else "activation",
            _planes(pictures, results, channel),
        )
        for channel in choose_channels(results, 0, picked)
    ]


def _planes(pictures: Sequence[Picture], results: Sequence[Result], channel: int | None) -> tuple[Array, ...]:
    """Return each picture's heat map at the picture's size: a channel, or the mean magnitude of all channels."""
    return tuple(
        _plane(result, result.maps, picture, channel)
        for picture, result in zip(pictures, results, strict=True)
        if result.maps is not None
    )


def _plane(result: Result, maps: Array, picture: Picture, channel: int | None) -> Array:
    """Return one heat map at the picture's size, with NaN where a contributing value is not finite."""
    maps = maps if channel is None else maps[channel : channel + 1]
    known, size = finite(maps), picture.pixels.shape[:2]
    plane = result.on_picture(np.abs(known).mean(axis=0) if channel is None else known[0], *size)
    is_broken = (~np.isfinite(maps)).any(axis=0)
    if not is_broken.any():
        return plane
    return np.where(result.on_picture(is_broken.astype(float), *size, smooth=False) > 0, np.nan, plane)


def _draw(page: Page, axes: Axes, pixels: Array, column: Column, row: int) -> None:
    """Draw one heat map over the grey photograph."""
    plane = column.planes[row]
    grey = pixels.mean(axis=2) / 255
    axes.imshow(PALEST + (1 - PALEST) * grey, cmap="gray", vmin=0, vmax=1, aspect="auto")
    axes.imshow(mask_nonfinite(plane), cmap=column.colours, norm=column.scale, alpha=OPACITY, aspect="auto")
    axes.set_axis_off()
    if not np.isfinite(plane).all():
        page.remark(GREY_REMARK)
