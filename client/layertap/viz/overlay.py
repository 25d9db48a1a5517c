"""Heat maps over what the model saw of an image, each value at the place that its receptive field is centred on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from layertap.types import Array
from layertap.viz.grid import chosen_channels, of_each_result
from layertap.viz.pictures import Picture, Result
from layertap.viz.style import COLOURS, DIVERGING, finite, limits, new_figure, plain, show_picture, styled

SIDE_INCHES = 1.6
BAR = 0.05
"""Height of a colour bar, in sides."""
TEXT_INCHES = 0.9
LONGEST = 27
"""Characters in a line above a picture."""
TALLEST = 1.5
"""Height by width that a picture may take."""
OPACITY = 0.65
PALEST = 0.35
"""Of the grey photograph below the colours, so that dark places keep a hue."""


@dataclass(frozen=True, slots=True)
class _Column:
    """One heat map of each picture, on one scale."""

    title: str
    quantity: str
    planes: tuple[Array, ...]

    @property
    def norm(self) -> Normalize:
        low, high = limits(self.planes)
        return Normalize(-max(-low, high), max(-low, high)) if low < 0 else Normalize(low, high)

    @property
    def colours(self) -> str:
        return DIVERGING if limits(self.planes)[0] < 0 else COLOURS


@styled
def overlay_figure(pictures: Sequence[Picture], *, picked: Sequence[int] = ()) -> Figure:
    """A row a picture: what the model saw, then each result's heat map over it.

    A heat map is the mean magnitude of the channels, or a channel that was picked; its colours are on one scale for
    all pictures. Values between the layer's places are interpolated.

    Raises:
        ValueError: no result has places, or not the picked channels.
    """
    columns = [column for results in of_each_result(pictures) for column in _columns(pictures, results, picked)]
    if not columns:
        raise ValueError("no result has rows and columns: there is nothing to lay over a picture")
    heights = [*(min(picture.height_by_width, TALLEST) for picture in pictures), BAR]
    figure = new_figure(SIDE_INCHES * (1 + len(columns)), SIDE_INCHES * sum(heights) + TEXT_INCHES)
    axes = figure.subplots(len(heights), 1 + len(columns), squeeze=False, height_ratios=heights)
    for row, (picture, line) in enumerate(zip(pictures, axes, strict=False)):
        show_picture(line[0], picture.pixels)
        line[0].text(
            -0.04, 0.5, plain(picture.title), transform=line[0].transAxes, rotation=90, ha="right", va="center"
        )
        for axis, column in zip(line[1:], columns, strict=True):
            _draw(axis, picture.pixels, column, row)
    axes[0, 0].set_title("what the model saw", fontsize=8)
    axes[-1, 0].set_axis_off()
    for title, bar, column in zip(axes[0, 1:], axes[-1, 1:], columns, strict=True):
        title.set_title(column.title, fontsize=8)
        colours = ScalarMappable(column.norm, column.colours)
        figure.colorbar(colours, cax=bar, orientation="horizontal", alpha=OPACITY, label=column.quantity)
    return figure


def _columns(pictures: Sequence[Picture], results: Sequence[Result], picked: Sequence[int]) -> list[_Column]:
    if any(result.maps is None for result in results):
        return []
    name = plain(results[0].name, LONGEST)
    if not picked:
        return [_Column(name, "mean |activation|", _planes(pictures, results, lambda maps: np.abs(maps).mean(axis=0)))]
    channels = chosen_channels(results, 0, picked)
    planes = [_planes(pictures, results, itemgetter(channel)) for channel in channels]
    titles = [f"{name}\nchannel {channel}" for channel in channels]
    return [_Column(title, "activation", plane) for title, plane in zip(titles, planes, strict=True)]


def _planes(
    pictures: Sequence[Picture], results: Sequence[Result], reduced: Callable[[Array], Array]
) -> tuple[Array, ...]:
    """One plane of each picture's maps, in its pixels."""
    return tuple(
        result.on_picture(reduced(finite(result.maps)), *picture.pixels.shape[:2])
        for picture, result in zip(pictures, results, strict=True)
        if result.maps is not None
    )


def _draw(axes: Axes, pixels: Array, column: _Column, row: int) -> None:
    grey = pixels.mean(axis=2) / 255
    axes.imshow(PALEST + (1 - PALEST) * grey, cmap="gray", vmin=0, vmax=1)
    axes.imshow(column.planes[row], cmap=column.colours, norm=column.norm, alpha=OPACITY)
    axes.set_axis_off()
