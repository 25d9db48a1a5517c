"""Panels side by side that share one axis of layers, from the first at the top to the last at the bottom."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from layertap.types import Array
from layertap.viz.style import FAINT, new_figure, plain

PANEL_INCHES = 1.55
LETTER_INCHES = 0.06
LONGEST = 44
"""Characters of a layer's name."""
LAYER_INCHES, FRAME_INCHES = 0.17, 0.75


def layer_panels(layers: Sequence[str], titles: Sequence[str], heading: str) -> tuple[Figure, list[Axes]]:
    """A figure of as many panels as titles, and its axes."""
    names = [plain(layer, LONGEST) for layer in layers]
    width = LETTER_INCHES * max(map(len, names)) + PANEL_INCHES * len(titles)
    figure = new_figure(width, FRAME_INCHES + LAYER_INCHES * max(len(layers), 4), between=0.05)
    axes: Array = figure.subplots(1, len(titles), sharey=True, squeeze=False)[0]
    axes[0].set_yticks(range(len(layers)), names, fontsize=7)
    axes[0].set_ylim(len(layers) - 0.4, -0.6)
    for axis, title in zip(axes, titles, strict=True):
        axis.set_xlabel(title)
        axis.grid(axis="y", color=FAINT, linewidth=0.4, alpha=0.6)
        axis.tick_params(axis="y", length=0)
        axis.set_axisbelow(True)
    figure.suptitle(plain(heading, 110))
    return figure, list(axes)
