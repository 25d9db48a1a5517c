"""Create pictures from arrays, and read what is drawn from figures."""

from __future__ import annotations

import warnings

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from layertap.types import Array
from layertap.viz import Picture, Result
from layertap.viz.style import DOTS_PER_INCH

TOUCHING = 1.5
"""Overlap in pixels allowed between two texts, since their boxes include room for ascenders and descenders."""


def result(name: str, values: Array) -> Result:
    """Return a result with maps of shape C×H×W, or with a vector."""
    shape = "×".join(map(str, values.shape))
    return Result(name, "", shape, values, values if values.ndim == 3 else None)


def picture(title: str, *results: Result) -> Picture:
    """Return a picture of a grey square with these results."""
    pixels = np.full((32, 32, 3), 100, np.uint8)
    pixels[:16] = 200
    return Picture(title, pixels, results)


def maps(channels: int = 4, side: int = 8, seed: int = 0) -> Array:
    """Return random maps of shape C×H×W."""
    return np.random.default_rng(seed).normal(size=(channels, side, side)).astype(np.float32)


def titles(figure: Figure) -> list[str]:
    """Return the titles of all axes."""
    return [axes.get_title() for axes in all_axes(figure) if axes.get_title()]


def texts(figure: Figure) -> list[str]:
    """Return the texts inside all axes."""
    return [text.get_text() for axes in all_axes(figure) for text in axes.texts]


def drawn(axes: Axes) -> Array:
    """Return the array of the last image on the axes."""
    return np.asarray(axes.images[-1].get_array())


def all_axes(figure: Figure) -> list[Axes]:
    """Return the visible axes."""
    return [axes for axes in figure.axes if axes.get_visible()]


def widths(axes: Axes) -> list[float]:
    """Return the widths of the bars."""
    return [bar.get_width() for bar in axes.patches if isinstance(bar, Rectangle)]


def assert_readable(figure: Figure) -> None:
    """Draw the figure and check that no text leaves the canvas and no two texts overlap."""
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(DOTS_PER_INCH)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        canvas.draw()  # type: ignore[no-untyped-call]
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in visible_texts(figure)]
    for text, box in boxes:
        assert box.x0 >= -1, f"{text!r} is cut off at the left"
        assert box.y0 >= -1, f"{text!r} is cut off at the bottom"
        assert box.x1 <= figure.bbox.width + 1, f"{text!r} is cut off at the right"
        assert box.y1 <= figure.bbox.height + 1, f"{text!r} is cut off at the top"
    boxes.sort(key=lambda item: item[1].x0)
    for number, (text, box) in enumerate(boxes):
        for other, beside in boxes[number + 1 :]:
            if beside.x0 >= box.x1 - TOUCHING:
                break
            is_apart = beside.y0 >= box.y1 - TOUCHING or box.y0 >= beside.y1 - TOUCHING
            assert is_apart, f"{text!r} and {other!r} overlap"


def visible_texts(figure: Figure) -> list[Text]:
    """Return the texts that are drawn: titles, labels, numbers of axes and notes."""
    found = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    hidden = {id(text) for axes in figure.axes if not axes.axison for text in axis_texts(axes)}
    outside = {id(text) for axes in figure.axes for text in outside_limits(axes)}
    return [text for text in found if id(text) not in hidden | outside]


def axis_texts(axes: Axes) -> list[Text]:
    """Return the texts of an axes' frame, which are not drawn if the frame is off."""
    ticks = [*axes.xaxis.get_major_ticks(), *axes.yaxis.get_major_ticks()]
    labels = [axes.xaxis.label, axes.yaxis.label, axes.xaxis.get_offset_text(), axes.yaxis.get_offset_text()]
    return [*labels, *(label for tick in ticks for label in (tick.label1, tick.label2))]


def outside_limits(axes: Axes) -> list[Text]:
    """Return the tick labels beyond the axes' limits, which matplotlib creates but does not draw."""
    texts = []
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low - 1e-9 * abs(low) <= tick.get_loc() <= high + 1e-9 * abs(high):
                texts += [tick.label1, tick.label2]
    return texts
