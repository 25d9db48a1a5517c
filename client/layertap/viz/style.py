"""Define what all figures share: colours, sizes and how they are saved."""

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
"""Colours of lines and bars."""
INK, SOFT, FAINT = "#333333", "#666666", "#b5b5b5"
"""Greys of text, of remarks and of axes."""
NOT_FINITE = "#c9c9c9"
"""Colour of values that are not finite."""
DOTS_PER_INCH = 110
"""Resolution of PNG files."""
FORMATS = ("png", "pdf", "svg")
"""Formats of figure files."""

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
with_style = mpl.rc_context(_SETTINGS)
"""Decorator that applies the style to a function that draws, without changing the program's settings."""


def save(figure: Figure, out: str | os.PathLike[str]) -> None:
    """Write the figure in the format of the file's suffix: ``.png``, ``.pdf`` or ``.svg``; without a suffix as PNG.

    Raises:
        ValueError: the file has another suffix.
    """
    kind = Path(out).suffix[1:].lower() or FORMATS[0]
    if kind not in FORMATS:
        raise ValueError(f"expected a file name that ends in one of {', '.join(FORMATS)}, got {Path(out).suffix!r}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # such a glyph is drawn as a box
        figure.savefig(Path(out), dpi=DOTS_PER_INCH, format=kind)


def number(value: float, digits: int = 3) -> str:
    """Return the number with this many significant digits, and with a minus sign instead of a hyphen."""
    return f"{value:.{digits}g}".replace("-", "−")


def show_picture(axes: Axes, pixels: Array, title: str = "", *, size: float = 9) -> None:
    """Draw a photograph on the axes, without ticks."""
    axes.imshow(pixels, aspect="auto")
    axes.set_title(title, fontsize=size, pad=2)
    axes.set_axis_off()


def finite(values: Array) -> Array:
    """Replace values that are not finite by 0, so that one NaN does not blank a whole picture."""
    return np.where(np.isfinite(values), values, 0)


def limits(values: Sequence[Array]) -> tuple[float, float]:
    """Return the minimum and maximum of all finite values; 0 and 0 if there are none."""
    ends = [(found.min(), found.max()) for array in values if (found := array[np.isfinite(array)]).size]
    return (float(min(low for low, _ in ends)), float(max(high for _, high in ends))) if ends else (0.0, 0.0)
