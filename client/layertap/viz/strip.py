"""Draw a whole network in one figure: one small cell for each layer."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from layertap.types import Array
from layertap.viz.grid import cell_ratio, draw_plane
from layertap.viz.page import MARGIN, Page
from layertap.viz.pictures import Picture, Result
from layertap.viz.scale import scale_of
from layertap.viz.style import finite, show_picture, with_style
from layertap.viz.text import height_of
from layertap.viz.values import draw_values

COLUMNS = 8
"""Number of cells in a row."""
SIDE, GAP = 1.15, 0.1
"""Width of a cell and distance between cells, in inches."""
SIZE, LINES = 6.5, 3
"""Font size in points and maximum lines of the name below a cell."""
REMARK = "Mean of the channels, each cell on a scale of its own: brighter is higher."
"""Remark below the figure."""


@with_style
def strip_figure(picture: Picture) -> Figure:
    """Draw the picture, then a cell for each result in order: the mean of its channels at the picture's size.

    Each cell has its own scale, brighter is higher; its name and shape are below it. Values without spatial positions
    are drawn as images of their last two axes, or as bars.

    Raises:
        ValueError: there are no results.
    """
    if not picture.results:
        raise ValueError("there is no result to draw; give at least one tap")
    height = SIDE * cell_ratio(*picture.pixels.shape[:2])
    page = Page(2 * MARGIN + min(COLUMNS, 1 + len(picture.results)) * (SIDE + GAP) - GAP)
    page.remark(REMARK)
    size = "×".join(map(str, picture.pixels.shape[:2]))
    captions = [_caption(page, picture.title, size), *(_caption(page, one.name, one.shape) for one in picture.results)]
    top = MARGIN
    for start in range(0, len(captions), COLUMNS):
        row = captions[start : start + COLUMNS]
        for column, caption in enumerate(row):
            left = MARGIN + column * (SIDE + GAP)
            axes = page.axes(left, top, SIDE, height)
            _draw_cell(page, axes, picture, start + column)
            axes.text(0.5, -0.03 / height, caption, transform=axes.transAxes, fontsize=SIZE, ha="center", va="top")
        top += height + height_of(1 + max(caption.count("\n") for caption in row), SIZE) + GAP
    return page.finish(top)


def _caption(page: Page, name: str, shape: str) -> str:
    """Return the text below a cell: name and shape."""
    return "\n".join([page.notes.fit(name, SIDE, SIZE, lines=LINES), page.notes.fit(shape, SIDE, SIZE)])


def _draw_cell(page: Page, axes: Axes, picture: Picture, index: int) -> None:
    """Draw the picture (index 0) or the result of a cell."""
    if index == 0:
        show_picture(axes, picture.pixels)
        return
    result = picture.results[index - 1]
    if result.planes is None:
        if result.values.size:
            draw_values(axes, [result.values], 0)
        axes.set(xlabel="", ylabel="", xticks=[], yticks=[])
    elif result.planes.size:
        plane = _mean(result, *picture.pixels.shape[:2])
        draw_plane(page, axes, plane, scale_of([plane]))


def _mean(result: Result, height: int, width: int) -> Array:
    """Return the mean of the maps at the picture's size, or of the matrices, with NaN where a value is not finite."""
    planes = np.zeros((1, 1, 1)) if result.planes is None else result.planes
    is_broken = (~np.isfinite(planes)).any(axis=0)
    mean = finite(planes).mean(axis=0)
    if result.maps is None:
        return np.where(is_broken, np.nan, mean)
    laid = result.on_picture(mean, height, width, smooth=False)
    if not is_broken.any():
        return laid
    return np.where(result.on_picture(is_broken.astype(float), height, width, smooth=False) > 0, np.nan, laid)
