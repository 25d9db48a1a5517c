"""What all pictures have in common: colours, sizes, and how they are saved."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from layertap.types import Array

LINE, SECOND_LINE = "#2a6f97", "#c8553d"
INK, SOFT, FAINT = "#333333", "#666666", "#b5b5b5"
NOT_FINITE = "#c9c9c9"
DOTS_PER_INCH = 110
FORMATS = ("png", "pdf", "svg")

_SETTINGS: dict[Any, Any] = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize", "figure.titlesize"), 9),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize"), 8),
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
}
styled = mpl.rc_context(_SETTINGS)
"""Decorates what draws a figure; the program's own settings stay as they are."""


def save(figure: Figure, out: str | os.PathLike[str]) -> None:
    """Writes the figure as PNG, or as what the file's name ends in: pdf or svg.

    Raises:
        ValueError: the name ends in something else.
    """
    kind = Path(out).suffix[1:].lower() or FORMATS[0]
    if kind not in FORMATS:
        raise ValueError(f"a picture's name ends in one of {', '.join(FORMATS)}, not {Path(out).suffix!r}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # it is drawn as a box
        figure.savefig(Path(out), dpi=DOTS_PER_INCH, format=kind)


def number(value: float, digits: int = 3) -> str:
    """Return the number in so many digits, with a minus of a digit's width."""
    return f"{value:.{digits}g}".replace("-", "−")


def show_picture(axes: Axes, pixels: Array, title: str = "", *, size: float = 9) -> None:
    """Fill the axes with a photograph, without ticks."""
    axes.imshow(pixels, aspect="auto")
    axes.set_title(title, fontsize=size, pad=2)
    axes.set_axis_off()


def finite(values: Array) -> Array:
    """The values, with 0 for what is not finite: one NaN does not blank a whole picture."""
    return np.where(np.isfinite(values), values, 0)


def limits(values: Sequence[Array]) -> tuple[float, float]:
    """The least and the greatest finite value; 0 and 0 where there is none."""
    ends = [(found.min(), found.max()) for array in values if (found := array[np.isfinite(array)]).size]
    return (float(min(low for low, _ in ends)), float(max(high for _, high in ends))) if ends else (0.0, 0.0)
