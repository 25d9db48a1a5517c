"""Draw the filters of a convolution, and mark pairs of opposite phase."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from layertap.types import Array
from layertap.viz.page import MARGIN, Page
from layertap.viz.scale import DIVERGING, GREY_REMARK, colours, draw_bar, mask_nonfinite, scale_of
from layertap.viz.style import INK, SECOND_LINE, finite, with_style

CELL, GAP, LABEL = 0.62, 0.1, 0.16
"""Sides of a filter, gap between filters, and height of a filter's number, in inches."""
COLUMNS = 16
"""Maximum number of filters in a row."""
BAR = 0.12
"""Width of the colour bar in inches."""
OPPOSITE = -0.9
"""Maximum correlation of two filters of opposite phase."""
COLOR = 3
"""Number of input channels that are drawn as red, green and blue."""
RANK = 4
"""Number of axes of the filters of a two-dimensional convolution, O×I×h×w."""


def opposite_pairs(filters: Array) -> list[tuple[int, int]]:
    """Return the pairs of filters of opposite phase: each the other's best match, with a correlation of −0.9 or less.

    The correlation is that of Pearson over all values of a filter: Σ(a − ā)(b − b̄) / (‖a − ā‖·‖b − b̄‖), in float64.
    Networks with rectifiers learn such pairs (Shang et al. 2016, CReLU).

    Args:
        filters: an array O×….
    """
    flat = finite(filters.reshape(len(filters), -1).astype(np.float64))
    centred = flat - flat.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    units = np.divide(centred, norms, out=np.zeros_like(centred), where=norms > 0)
    correlations = units @ units.T
    best = correlations.argmin(axis=1)
    return [
        (one, int(other))
        for one, other in enumerate(best)
        if one < other and best[other] == one and correlations[one, other] <= OPPOSITE
    ]


@with_style
def filters_figure(filters: Array, title: str) -> Figure:
    """Draw the filters of a convolution in a grid on one scale, symmetric around 0.

    Filters of three channels are drawn as colours, where grey is 0; of others, the mean over the input channels. Pairs
    of opposite phase have the same letter.

    Args:
        filters: an array O×I×h×w.
        title: title of the figure.

    Raises:
        ValueError: the array has another number of axes, or no value.
    """
    if filters.ndim != RANK or not filters.size:
        raise ValueError(f"expected filters O×I×h×w, got {'×'.join(map(str, filters.shape))}")
    columns = min(len(filters), COLUMNS)
    page = Page(2 * MARGIN + columns * (CELL + GAP) + 0.75)
    page.text(MARGIN, MARGIN, title, fontsize=9)
    marks = _marks(opposite_pairs(filters))
    top = MARGIN + 0.22
    is_color = filters.shape[1] == COLOR
    planes = list(filters) if is_color else list(filters.mean(axis=1))
    scale = scale_of(planes, around_zero=True)
    height = CELL * filters.shape[2] / filters.shape[3]
    for index, plane in enumerate(planes):
        row, column = divmod(index, COLUMNS)
        left, down = MARGIN + column * (CELL + GAP), top + row * (height + LABEL + GAP)
        axes = page.axes(left, down + LABEL, CELL, height)
        _draw(axes, plane, scale, is_color=is_color)
        mark = marks.get(index, "")
        style = {"color": SECOND_LINE, "weight": "bold"} if mark else {"color": INK}
        page.text(left, down, f"{index} {mark}".strip(), fontsize=7, **style)
    rows = math.ceil(len(planes) / COLUMNS)
    if not is_color:
        page.remark(f"Mean over {filters.shape[1]} input channels." if filters.shape[1] > 1 else "One input channel.")
        bar = page.axes(MARGIN + columns * (CELL + GAP) + 0.05, top + LABEL, BAR, max(height, CELL))
        draw_bar(bar, scale, colours(DIVERGING))
    else:
        page.remark(f"Red, green and blue weights from {scale.vmin:.3g} to {scale.vmax:.3g}; grey is 0.")
    if marks:
        count = len(marks) // 2
        pairs = f"{count} pair{'s' if count > 1 else ''} of opposite phase"
        page.remark(f"{pairs}, marked by letters (correlation of {OPPOSITE} or less).")
    if not np.isfinite(filters).all():
        page.remark(GREY_REMARK)
    return page.finish(top + rows * (height + LABEL + GAP))


def _draw(axes: Axes, plane: Array, scale: Normalize, *, is_color: bool) -> None:
    """Draw one filter."""
    if is_color:
        values = scale(np.moveaxis(finite(plane), 0, -1))
        axes.imshow(np.clip(np.asarray(values), 0, 1), interpolation="nearest")
    else:
        axes.imshow(mask_nonfinite(plane), cmap=colours(DIVERGING), norm=scale, interpolation="nearest")
    axes.set_aspect("auto")
    axes.set_axis_off()


def _marks(pairs: Sequence[tuple[int, int]]) -> dict[int, str]:
    """Return the letter of each filter of a pair: from A to Z, then from A2 on."""
    return {index: letter for pair, letter in zip(pairs, _letters(), strict=False) for index in pair}


def _letters() -> Iterator[str]:
    """Yield A to Z, then A2 to Z2 and so on."""
    number = 0
    while True:
        yield chr(ord("A") + number % 26) + (str(number // 26 + 1) if number >= 26 else "")  # noqa: PLR2004 - alphabet
        number += 1
