"""Pictures of arrays, for tests of what is drawn."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from layertap.types import Array
from layertap.viz import Picture, Result


def result(name: str, values: Array) -> Result:
    """Of maps C×H×W, or of a vector."""
    shape = "×".join(map(str, values.shape))
    return Result(name, "", shape, values, values if values.ndim == 3 else None)


def picture(title: str, *results: Result) -> Picture:
    pixels = np.full((32, 32, 3), 100, np.uint8)
    pixels[:16] = 200
    return Picture(title, pixels, results)


def maps(channels: int = 4, side: int = 8, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(channels, side, side)).astype(np.float32)


def titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in all_axes(figure) if axes.get_title()]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in all_axes(figure) for text in axes.texts]


def drawn(axes: Axes) -> Array:
    """The array of the last image on the axes."""
    return np.asarray(axes.images[-1].get_array())


def all_axes(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.get_visible()]


def widths(axes: Axes) -> list[float]:
    """Of the bars."""
    return [bar.get_width() for bar in axes.patches if isinstance(bar, Rectangle)]
