"""Map values to colours, and draw the colour bar."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize

from layertap.types import Array
from layertap.viz.style import NOT_FINITE, limits, number

COLOURS = "viridis"
"""Colour map that is uniform in lightness and safe for colour-blind readers."""
DIVERGING = "PuOr"
"""Colour map for values of both signs, with 0 in the middle, safe for colour-blind readers."""
GREY_REMARK = "Grey: values that are not finite."
"""Remark on figures with values that are not finite."""


def colours(name: str = COLOURS) -> Colormap:
    """Return the colour map with grey for values that are not finite."""
    return colormaps[name].with_extremes(bad=NOT_FINITE)


def scale_of(planes: Sequence[Array], *, around_zero: bool = False) -> Normalize:
    """Return the scale of all finite values; with ``around_zero``, 0 is in its middle."""
    low, high = limits(planes)
    if around_zero:
        low, high = -max(-low, high, 0.0), max(-low, high, 0.0)
    if low == high:  # a constant: widen the empty range
        low, high = low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
    return Normalize(low, high)


def mask_nonfinite(plane: Array) -> Array:
    """Return the map with values that are not finite masked."""
    return np.ma.masked_array(np.where(np.isfinite(plane), plane, 0), ~np.isfinite(plane))


def draw_bar(
    axes: Axes, scale: Normalize, colour_map: Colormap, *, horizontal: bool = False, alpha: float = 1.0
) -> None:
    """Draw the colour bar of a scale with ticks at its ends and its middle."""
    orientation = "horizontal" if horizontal else "vertical"
    bar = axes.figure.colorbar(ScalarMappable(scale, colour_map), cax=axes, orientation=orientation, alpha=alpha)
    low, high = float(scale.vmin or 0), float(scale.vmax or 0)
    ticks = [low, (low + high) / 2, high]
    bar.set_ticks(ticks, labels=_distinct_labels(ticks))
    bar.minorticks_off()
    bar.ax.tick_params(labelsize=7, length=2, pad=2)
    if horizontal:
        left, _, right = bar.ax.get_xticklabels()
        left.set_horizontalalignment("left")
        right.set_horizontalalignment("right")


def _distinct_labels(ticks: Sequence[float]) -> list[str]:
    """Return the numbers with as few digits as distinguish them."""
    for digits in range(3, 9):
        texts = [number(tick, digits) for tick in ticks]
        if len(set(texts)) == len(ticks):
            break
    return texts
