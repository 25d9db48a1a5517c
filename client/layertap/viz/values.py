"""Draw vectors: the highest classes, the statistics of a summary, or bars."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from layertap.types import Array
from layertap.viz.page import Page
from layertap.viz.style import FAINT, LINE, SOFT, finite, limits, number
from layertap.viz.text import height_of, width_of

HEIGHT = 0.85
"""Height of the bars of a vector in inches."""
MAX_SCORES = 5
"""Number of classes drawn, highest score first."""
SCORE_HEIGHT, SCORE_SIZE = 0.17, 8.0
"""Height of a class in inches, and font size in points."""
LABEL_WIDTH, NUMBER_WIDTH = 2.6, 0.7
"""Maximum width of a class name and width of its score, in inches."""
MAX_BARS_WITH_GAPS = 60
"""Maximum bars with gaps between them; more would cause moiré."""
MAX_BARS = 1500
"""Maximum bars; with more values, each bar spans the range of several values."""


def scores_height(count: int) -> float:
    """Return the height of the bars of ``count`` classes in inches."""
    return SCORE_HEIGHT * min(count, MAX_SCORES) + 0.05


def draw_scores(page: Page, classes: Sequence[str], scores: Array, left: float, top: float, width: float) -> None:
    """Draw the five highest scores as bars between the names of their classes and their values."""
    order = np.argsort(-np.where(np.isfinite(scores), scores, -np.inf), kind="stable")[:MAX_SCORES]
    called = [f"{classes[index]} ({index})" if classes[index] != str(index) else str(index) for index in order]
    names = [page.notes.fit(name, LABEL_WIDTH, SCORE_SIZE) for name in called]
    room = max(width_of(name, SCORE_SIZE) for name in names) + 0.1
    axes = page.axes(left + room, top, width - room - NUMBER_WIDTH, SCORE_HEIGHT * len(order))
    known = finite(scores[order])
    axes.barh(range(len(order)), known, height=0.7, color=LINE)
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.set_xlim(min(0.0, float(known.min())), max(float(known.max()), 0.0) or 1.0)
    axes.set_axis_off()
    for row, (name, index) in enumerate(zip(names, order, strict=True)):
        middle = top + SCORE_HEIGHT * (row + 0.5)
        page.text(left + room - 0.1, middle, name, fontsize=SCORE_SIZE, ha="right", va="center")
        page.text(left + width, middle, number(float(scores[index])), fontsize=SCORE_SIZE, ha="right", va="center")


def draw_summary(page: Page, names: Sequence[str], values: Array, left: float, top: float, width: float) -> float:
    """Write each value below its name, side by side; return where they end."""
    step = width / len(names)
    for index, (name, value) in enumerate(zip(names, values, strict=True)):
        page.text(left + index * step, top, name, fontsize=7.5, color=SOFT)
        page.text(left + index * step, top + 0.15, number(float(value), 4), fontsize=10)
    return top + 0.15 + height_of(1, 10)


def draw_values(axes: Axes, of_all: Sequence[Array], index: int) -> None:
    """Draw a bar for each value of one of several vectors, on a common scale."""
    values = finite(of_all[index].ravel())
    group = -(-len(values) // MAX_BARS)
    starts = np.arange(0, len(values), group)
    highest = np.maximum(np.maximum.reduceat(values, starts), 0)
    lowest = np.minimum(np.minimum.reduceat(values, starts), 0)
    if len(values) <= MAX_BARS_WITH_GAPS:
        axes.bar(starts, highest - lowest, bottom=lowest, width=0.8, color=LINE)
    else:
        edges = np.append(starts, len(values)) - 0.5
        axes.stairs(highest, edges, baseline=lowest, fill=True, color=LINE)
    axes.axhline(0, color=FAINT, linewidth=0.6)
    low, high = limits(of_all)
    margin = 0.05 * (max(high, 0) - min(low, 0)) or 1.0
    axes.set_ylim(min(low, 0) - margin * (low < 0), max(high, 0) + margin)
    axes.set_xlim(-0.6, len(values) - 0.4)
    axes.set_xlabel("feature" if group == 1 else f"feature; each bar spans {group} of them", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.locator_params(axis="y", nbins=4)
    axes.ticklabel_format(axis="y", useOffset=False)
