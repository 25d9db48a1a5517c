"""Draw how layers differ: between two images, or between two models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from layertap.similarity import LayerSimilarity
from layertap.types import Array
from layertap.viz.labels import NO_LABELS
from layertap.viz.layer_axis import LAYER, NAME, TITLE, layer_panels
from layertap.viz.page import MARGIN, Page
from layertap.viz.scale import GREY_REMARK, colours, draw_bar, mask_nonfinite, scale_of
from layertap.viz.style import LINE, SECOND_LINE, limits, with_style
from layertap.viz.text import height_of, width_of

MIN_SIDE = 2.2
"""Minimum width and height of the matrix in inches."""
GAP, BAR, BAR_LABELS = 0.15, 0.12, 0.45
"""Widths of the gap beside the matrix, of the colour bar and of its labels, in inches."""
MAX_BAR = 2.2
MAX_NAME = 2.8
"""Maximum lengths of the colour bar and of a layer's name, in inches."""
DISTANCE = "relative L2 distance"
"""Title of the panel of distances."""
CLOSE, TINY = 0.9, 1e-6
"""Similarity above which the axis is zoomed in, and the minimum range of that axis."""


@with_style
def similarities_figure(
    layers: Sequence[LayerSimilarity], heading: str = "", labels: Mapping[str, str] = NO_LABELS
) -> Figure:
    """Draw cosine similarity, relative L2 distance and linear CKA of each layer, one panel for each.

    Args:
        layers: the similarity of each layer, from the first to the last.
        heading: text above the panels.
        labels: text to show instead of a layer's name, by name.

    Returns:
        The figure; a panel is omitted if no layer has its value.

    Raises:
        ValueError: there are no layers.
    """
    if not layers:
        raise ValueError("there is no layer to draw")
    panels: list[tuple[str, list[float | None], str]] = [
        ("cosine similarity", [one.cosine for one in layers], LINE),
        (DISTANCE, [one.relative_l2 for one in layers], SECOND_LINE),
        ("linear CKA", [one.cka for one in layers], LINE),
    ]
    shown = [panel for panel in panels if any(value is not None for value in panel[1])]
    names = [labels.get(one.layer, one.layer) for one in layers]
    page, axes, bottom = layer_panels(names, [title for title, _, _ in shown], heading)
    for axis, (title, values, color) in zip(axes, shown, strict=True):
        numbers = [np.nan if value is None else value for value in values]
        _draw(axis, numbers, color, is_distance=title == DISTANCE)
    return page.finish(bottom)


def _draw(axes: Axes, values: Sequence[float], color: str, *, is_distance: bool) -> None:
    """Draw the values of one panel, and choose the range of its axis."""
    axes.plot(values, range(len(values)), "o-", markersize=3.5, linewidth=0.8, color=color)
    low, high = limits([np.asarray(values)])
    if is_distance:
        axes.set_xlim(0, 1.05 * high or 1)
    elif low > CLOSE:
        # Zoomed in: label the ends with their own values, since round ones would need too many digits.
        margin = 0.08 * max(1 - low, TINY)
        axes.set_xlim(low - margin, 1 + margin)
        axes.set_xticks([low, 1], [f"{low:.6g}", "1"])
        return
    else:
        axes.set_xlim(min(low, 0) - 0.05, 1.05)
    axes.xaxis.set_major_locator(MaxNLocator(3))


@with_style
def cka_figure(matrix: Array, rows: tuple[str, Sequence[str]], columns: tuple[str, Sequence[str]]) -> Figure:
    """Draw the linear CKA of every layer of one model with every layer of another, as a heat map.

    Args:
        matrix: float array of shape layers of one model × layers of the other, 0 to 1.
        rows: name and layers of the first model.
        columns: name and layers of the second model.

    Raises:
        ValueError: there are no layers.
    """
    if not matrix.size:
        raise ValueError("there is no layer to draw")
    page = Page(0)
    names, other_names = ([page.notes.fit(name, MAX_NAME, NAME) for name in layers] for _, layers in (rows, columns))
    height, width = (max(LAYER * len(some), MIN_SIDE) for some in (names, other_names))
    beside, below = (max(width_of(name, NAME) for name in some) + 0.1 for some in (names, other_names))
    title = height_of(1, TITLE) + 0.05
    left, top = MARGIN + title + beside, MARGIN + 0.05
    page.width = left + width + GAP + title + BAR + BAR_LABELS
    axes = _draw_matrix(page, matrix, (left, top, width, height))
    axes.set_yticks(range(len(names)), names, fontsize=NAME)
    axes.set_xticks(range(len(other_names)), other_names, fontsize=NAME, rotation=90)
    one, other = (page.notes.fit(model, side, TITLE) for (model, _), side in ((rows, height), (columns, width)))
    axes.set_ylabel(one, fontsize=TITLE, labelpad=3)
    axes.set_xlabel(other, fontsize=TITLE, labelpad=3)
    axes.tick_params(length=0, pad=4)
    return page.finish(top + height + below + title + 0.05)


def _draw_matrix(page: Page, matrix: Array, box: tuple[float, float, float, float]) -> Axes:
    """Draw the matrix and its colour bar."""
    left, top, width, height = box
    axes = page.axes(*box)
    scale = scale_of([np.array([0.0, 1.0])])
    axes.imshow(mask_nonfinite(matrix), cmap=colours(), norm=scale, aspect="auto", interpolation="nearest")
    if not np.isfinite(matrix).all():
        page.remark(GREY_REMARK)
    bar = page.axes(left + width + GAP, top, BAR, min(height, MAX_BAR))
    draw_bar(bar, scale, colours())
    bar.set_ylabel("linear CKA", fontsize=TITLE, labelpad=3)
    return axes
