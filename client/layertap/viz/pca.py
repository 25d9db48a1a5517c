"""The first three principal components of a layer's channels as colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure, SubFigure

from layertap.types import Array
from layertap.viz.grid import of_each_result, title_of
from layertap.viz.pictures import Picture, Result
from layertap.viz.style import finite, new_figure, show_picture, styled

SIDE_INCHES = 2.0
LEGEND_INCHES = 1.6
COMPONENTS = 3
TAILS = 1.0
"""Per cent of the places beyond each end of a colour scale: a few extremes do not take all of it."""
MIDDLE, REACH = np.array([0.66, 0.0, 0.0]), np.array([0.30, 0.11, 0.11])
"""Of the colours in OKLab: lightness, green to red, blue to yellow."""
AXES = [0, 2, 1]
"""Component -> OKLab's axis: the first is lightness, which everybody sees, the second blue to yellow, which most do."""
WORDS = ("dark to light", "blue to yellow", "green to red")


@dataclass(frozen=True, slots=True, eq=False)
class Components:
    """Scores on principal components, those of each picture apart."""

    scores: tuple[Array, ...]
    """3×H×W each; a component that there is not is 0."""
    explained: tuple[float, ...]
    """Fraction of the variance."""


def principal_components(maps: Sequence[Array]) -> Components:
    """Of the channels of one or several C×H×W, every place of all of them a sample, in float64.

    A component's sign is that in which its greatest loading is positive: a second run gives the same picture.
    """
    samples = np.concatenate([array.reshape(len(array), -1).T for array in maps]).astype(np.float64)
    centred = samples - samples.mean(axis=0)
    variances, loadings = np.linalg.eigh(centred.T @ centred)
    count = min(COMPONENTS, len(variances))
    first = loadings[:, ::-1][:, :count]
    first = first * np.sign(first[np.abs(first).argmax(axis=0), range(count)])
    total = max(variances.sum(), np.finfo(np.float64).tiny)
    missing = ((0, COMPONENTS - count), (0, 0), (0, 0))
    means = samples.mean(axis=0)
    scores = [np.pad(np.tensordot(first.T, array - means[:, None, None], 1), missing) for array in maps]
    explained = [float(max(value, 0) / total) for value in variances[::-1][:count]]
    return Components(tuple(scores), (*explained, *(0.0,) * (COMPONENTS - count)))


def as_colours(scores: Sequence[Array]) -> list[Array]:
    """sRGB H×W×3 of 0 to 1 for each 3×H×W, on one scale."""
    flat = np.concatenate([array.reshape(COMPONENTS, -1) for array in scores], axis=1)
    low, high = np.percentile(flat, [TAILS, 100 - TAILS], axis=1)
    span = np.where(high > low, high - low, 1.0)
    shares = [np.clip((2 * np.moveaxis(array, 0, -1) - low - high) / span, -1, 1) for array in scores]
    return [_srgb(MIDDLE + REACH * share[..., AXES]) for share in shares]


@styled
def components_figure(pictures: Sequence[Picture]) -> Figure:
    """The pictures, and below them a row a result: its first three principal components as colours.

    They are fitted over all pictures together: a colour means the same in each.

    Raises:
        ValueError: no result has places.
    """
    rows = [results for results in of_each_result(pictures) if results[0].maps is not None]
    if not rows:
        raise ValueError("no result has rows and columns: its components cannot be laid out")
    tallest = max(picture.height_by_width for picture in pictures)
    height = SIDE_INCHES * min(tallest, 1.5) + 0.3
    figure = new_figure(SIDE_INCHES * len(pictures) + LEGEND_INCHES, height * (1 + len(rows)))
    parts = figure.subfigures(1 + len(rows), 1, squeeze=False).ravel()
    axes = _row(parts[0], len(pictures))
    for axis, picture in zip(axes, pictures, strict=False):
        show_picture(axis, picture.pixels, picture.title)
    axes[-1].set_axis_off()
    for part, results in zip(parts[1:], rows, strict=True):
        _draw_components(part, results)
    return figure


def _row(part: SubFigure, count: int) -> Array:
    ratios = [*[SIDE_INCHES] * count, LEGEND_INCHES]
    axes: Array = part.subplots(1, count + 1, squeeze=False, width_ratios=ratios)[0]
    return axes


def _draw_components(part: SubFigure, results: Sequence[Result]) -> None:
    components = principal_components([finite(result.maps) for result in results if result.maps is not None])
    part.suptitle(title_of(results[0]), fontweight="bold", x=0.01, ha="left")
    axes = _row(part, len(results))
    for axis, colours in zip(axes, as_colours(components.scores), strict=False):
        axis.imshow(colours, interpolation="nearest")
        axis.set_axis_off()
    legend = axes[-1]
    legend.set_axis_off()
    for number, (explained, words) in enumerate(zip(components.explained, WORDS, strict=True)):
        bar = legend.inset_axes((0.05, 0.72 - 0.33 * number, 0.9, 0.1))
        bar.imshow(_scale(number), aspect="auto")
        bar.set_axis_off()
        bar.set_title(f"PC {number + 1}, {explained:.0%}\n{words}", fontsize=8, loc="left", pad=2)


def _scale(component: int) -> Array:
    """The colours from the low to the high end of one component, the others in their middle."""
    steps = np.tile(MIDDLE, (1, 64, 1))
    axis = AXES[component]
    steps[0, :, axis] += REACH[axis] * np.linspace(-1, 1, 64)
    return _srgb(steps)


def _srgb(oklab: Array) -> Array:
    """OKLab (Ottosson 2020) -> sRGB (IEC 61966-2-1), what lies outside it cut off."""
    to_cones = np.array(
        [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]]
    )
    to_linear = np.array([
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ])  # fmt: skip
    linear = ((oklab @ to_cones.T) ** 3 @ to_linear.T).clip(0, 1)
    return np.asarray(np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))  # noqa: PLR2004
