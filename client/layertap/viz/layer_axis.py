"""Draw panels side by side that share one axis of layers, from the first at the top to the last at the bottom."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from matplotlib.axes import Axes

from layertap.viz.page import MARGIN, Page
from layertap.viz.style import FAINT, SECOND_LINE
from layertap.viz.text import height_of, width_of

PANEL, BETWEEN = 1.4, 0.28
"""Width of a panel and distance between panels, in inches."""
LAYER = 0.17
"""Height of a layer's row in inches."""
MIN_ROWS = 4
"""Minimum height of a panel in rows."""
AXIS = 0.5
"""Height of the numbers and title of a panel's axis, in inches."""
MAX_NAME = 4.5
"""Maximum width of a layer's name in inches; longer names are shortened."""
NAME, TITLE, HEADING = 7.0, 8.5, 9.5
"""Font sizes in points."""
ROWS_PER_SCREEN = 40
"""Number of rows above which panels also have titles and numbers at the top."""


def layer_panels(
    layers: Sequence[str], titles: Sequence[str], heading: str, *, marked: Collection[int] = ()
) -> tuple[Page, list[Axes], float]:
    """Create a page with one panel for each title.

    Args:
        layers: labels of the layers.
        titles: title of each panel.
        heading: text above the panels.
        marked: positions of the layers whose labels are red.

    Returns:
        The page, the axes of its panels, and the position of their lower end in inches.
    """
    page = Page(0)
    names = [page.notes.fit(layer, MAX_NAME, NAME) for layer in layers]
    room = max(width_of(name, NAME) for name in names) + 0.1
    page.width = 2 * MARGIN + room + (PANEL + BETWEEN) * len(titles)
    shown = page.notes.fit(heading, page.width - 2 * MARGIN, HEADING, lines=2)
    page.text(page.width / 2, MARGIN, shown, fontsize=HEADING, ha="center")
    is_tall = len(layers) > ROWS_PER_SCREEN
    top = MARGIN + (height_of(1 + shown.count("\n"), HEADING) if shown else 0) + (AXIS if is_tall else 0.05)
    height = LAYER * max(len(layers), MIN_ROWS)
    lefts = [MARGIN + room + (PANEL + BETWEEN) * index for index in range(len(titles))]
    axes = [_panel(page, title, (left, top, PANEL, height)) for left, title in zip(lefts, titles, strict=True)]
    for axis in axes:
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.set_yticks(range(len(names)), names if axis is axes[0] else [""] * len(names), fontsize=NAME)
        if is_tall:
            axis.tick_params(axis="x", top=True, labeltop=True)
            axis.set_title(axis.get_xlabel(), fontsize=TITLE, pad=3)
    for row in marked:
        axes[0].get_yticklabels()[row].set_color(SECOND_LINE)
    return page, axes, top + height + AXIS


def _panel(page: Page, title: str, box: tuple[float, float, float, float]) -> Axes:
    """Add one panel to the page."""
    axes = page.axes(*box)
    axes.set_xlabel(title, fontsize=TITLE)
    axes.grid(axis="y", color=FAINT, linewidth=0.4, alpha=0.6)
    axes.tick_params(axis="y", length=0, pad=4)
    axes.tick_params(axis="x", labelsize=7)
    axes.set_axisbelow(True)
    return axes
