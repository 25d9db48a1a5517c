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
from matplotlib.layout_engine import ConstrainedLayoutEngine

from layertap.types import Array

COLOURS = "viridis"
"""Even in lightness, and safe for colour-blind readers."""
DIVERGING = "PuOr"
"""For values of both signs, with 0 in the middle; safe too."""
LINE, SECOND_LINE = "#2a6f97", "#c8553d"
INK, FAINT = "#333333", "#b5b5b5"
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


def new_figure(width: float, height: float, *, between: float = 0.02) -> Figure:
    """An empty figure of this size in inches, whose parts find their places, ``between`` of their width apart."""
    return Figure(
        figsize=(width, height), layout=ConstrainedLayoutEngine(h_pad=0.05, w_pad=0.03, hspace=0.02, wspace=between)
    )


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


def plain(text: str, longest: int = 60) -> str:
    """The text with its middle left out where it is too long; a dollar sign does not begin a formula.

    What is no Unicode, as a file's name may be, is question marks.
    """
    text = text.encode(errors="replace").decode()
    if len(text) > longest:
        half = (longest - 1) // 2
        text = f"{text[: longest - 1 - half]}…{text[-half:]}"
    return text.replace("$", r"\$")


def number(value: float) -> str:
    """In three digits, with a minus of a digit's width."""
    return f"{value:.3g}".replace("-", "−")


def show_picture(axes: Axes, pixels: Array, title: str = "") -> None:
    """A photograph, without axes."""
    axes.imshow(pixels)
    axes.set_title(plain(title))
    axes.set_axis_off()


def finite(values: Array) -> Array:
    """The values, with 0 for what is not finite: one NaN does not blank a whole picture."""
    return np.where(np.isfinite(values), values, 0)


def limits(values: Sequence[Array]) -> tuple[float, float]:
    """The least and the greatest finite value; 0 and 0 where there is none."""
    ends = [(found.min(), found.max()) for array in values if (found := array[np.isfinite(array)]).size]
    return (float(min(low for low, _ in ends)), float(max(high for _, high in ends))) if ends else (0.0, 0.0)
