"""A whole network at a glance: one small cell a layer."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from layertap.viz.grid import draw_values
from layertap.viz.pictures import Picture, Result
from layertap.viz.style import COLOURS, finite, plain, show_picture, styled

COLUMNS = 8
SIDE_INCHES, GAP_INCHES, CAPTION_INCHES = 1.15, 0.1, 0.5
TALLEST = 1.5
"""Height by width that a cell may take."""
LONGEST = 23
"""Characters that stand below a cell."""


@styled
def strip_figure(picture: Picture) -> Figure:
    """The picture, then a cell for each result in its order: the mean of its channels at the picture's size.

    Each cell is scaled to its own range, brighter is higher; its name and shape are below. What has no place is drawn
    as a line of its values.

    Raises:
        ValueError: there is no result.
    """
    if not picture.results:
        raise ValueError("there is no result to draw")
    figure, axes = _cells(1 + len(picture.results), min(picture.height_by_width, TALLEST))
    show_picture(axes[0], picture.pixels)
    _caption(axes[0], [plain(picture.title, LONGEST), "×".join(map(str, picture.pixels.shape[:2]))])
    for axis, result in zip(axes[1:], picture.results, strict=True):
        _draw(axis, result, *picture.pixels.shape[:2])
        _caption(axis, [*_lines(result.name), result.shape])
    return figure


def _cells(count: int, height_by_width: float) -> tuple[Figure, list[Axes]]:
    """A figure of cells side by side; captions are as wide as they, so that the places can be told beforehand."""
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    column, row = SIDE_INCHES + GAP_INCHES, SIDE_INCHES * height_by_width + CAPTION_INCHES
    width, height = columns * column, rows * row
    figure = Figure(figsize=(width, height))
    corners = [(index % columns * column, height - (index // columns + 1) * row) for index in range(count)]
    cell = (SIDE_INCHES / width, SIDE_INCHES * height_by_width / height)
    places = [((x + GAP_INCHES / 2) / width, (y + CAPTION_INCHES - GAP_INCHES / 2) / height) for x, y in corners]
    return figure, [figure.add_axes((*place, *cell)) for place in places]


def _draw(axes: Axes, result: Result, height: int, width: int) -> None:
    if result.maps is None:
        draw_values(axes, result.values)
        axes.set(xlabel="", ylabel="", xticks=[], yticks=[])
    else:
        plane = result.on_picture(finite(result.maps).mean(axis=0), height, width, smooth=False)
        axes.imshow(plane, cmap=COLOURS, interpolation="nearest")
        axes.set_axis_off()


def _lines(name: str) -> list[str]:
    """The name, in two lines where it is too long for one."""
    if len(name) <= LONGEST:
        return [plain(name)]
    cuts = [cut + 1 for mark in " ./_" if (cut := name.rfind(mark, 0, LONGEST)) > 0 and len(name) - cut <= LONGEST + 1]
    cut = cuts[0] if cuts else LONGEST
    return [plain(name[:cut].rstrip()), plain(name[cut:], LONGEST)]


def _caption(axes: Axes, lines: list[str]) -> None:
    axes.text(0.5, -0.03, "\n".join(lines), transform=axes.transAxes, ha="center", va="top", fontsize=7)
