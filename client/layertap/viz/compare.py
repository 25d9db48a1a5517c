"""How layers differ: between two images, or between two models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from layertap.similarity import LayerSimilarity
from layertap.types import Array
from layertap.viz.labels import NO_LABELS
from layertap.viz.layer_axis import LETTER_INCHES, LONGEST, layer_panels
from layertap.viz.style import COLOURS, LINE, SECOND_LINE, limits, new_figure, plain, styled

CELL_INCHES, BAR_INCHES, TITLE_INCHES = 0.17, 0.7, 0.35
SMALLEST_INCHES = 2.2
DISTANCE = "relative L2 distance"
CLOSE, TINY = 0.9, 1e-6
"""Similarities above the one are drawn close up, but no closer than the other."""


@styled
def similarities_figure(
    layers: Sequence[LayerSimilarity], heading: str = "", labels: Mapping[str, str] = NO_LABELS
) -> Figure:
    """Cosine similarity, relative L2 distance and, where there is any, linear CKA of each layer, a panel each.

    ``labels`` are what to call layers instead of their names.

    Raises:
        ValueError: there is no layer.
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
    figure, axes = layer_panels(names, [title for title, _, _ in shown], heading)
    for axis, (title, values, color) in zip(axes, shown, strict=True):
        numbers = [np.nan if value is None else value for value in values]
        _draw(axis, numbers, color, is_distance=title == DISTANCE)
    return figure


def _draw(axes: Axes, values: Sequence[float], color: str, *, is_distance: bool) -> None:
    axes.plot(values, range(len(values)), "o-", markersize=3.5, linewidth=0.8, color=color)
    low, high = limits([np.asarray(values)])
    if is_distance:
        axes.set_xlim(0, 1.05 * high or 1)
    elif low > CLOSE:
        # Close up; the numbers say what is drawn, where round ones would need too many digits.
        margin = 0.08 * max(1 - low, TINY)
        axes.set_xlim(low - margin, 1 + margin)
        axes.set_xticks([low, 1], [f"{low:.6g}", "1"])
        return
    else:
        axes.set_xlim(min(low, 0) - 0.05, 1.05)
    axes.xaxis.set_major_locator(MaxNLocator(3))


@styled
def cka_figure(matrix: Array, rows: tuple[str, Sequence[str]], columns: tuple[str, Sequence[str]]) -> Figure:
    """The linear CKA of every layer of one model with every layer of another, as a heat map.

    Args:
        matrix: float, layers of one × layers of the other, 0 to 1.
        rows: one model's name and its layers.
        columns: the other's.
    """
    (one, names), (other, other_names) = (
        (plain(model), [plain(name, LONGEST) for name in layers]) for model, layers in (rows, columns)
    )
    height, width = (max(CELL_INCHES * len(some), SMALLEST_INCHES) for some in (names, other_names))
    beside, below = (LETTER_INCHES * max(map(len, some)) + TITLE_INCHES for some in (names, other_names))
    figure = new_figure(width + beside + BAR_INCHES, height + below)
    axes = figure.subplots()
    picture = axes.imshow(matrix, cmap=COLOURS, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_xticks(range(len(other_names)), other_names, fontsize=7, rotation=90)
    axes.set_ylabel(one)
    axes.set_xlabel(other)
    axes.tick_params(length=0)
    figure.colorbar(picture, ax=axes, label="linear CKA", shrink=min(1.0, 2.0 / height), aspect=15)
    return figure
