"""Draw the first three principal components of a layer's channels as colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colors
from matplotlib.figure import Figure

from layertap.types import Array
from layertap.viz.grid import TITLE, cell_ratio, group_by_result, write_title
from layertap.viz.page import MARGIN, Page
from layertap.viz.pictures import Picture, Result
from layertap.viz.scale import GREY_REMARK
from layertap.viz.style import NOT_FINITE, finite, show_picture, with_style
from layertap.viz.text import height_of

SIDE, GAP, LEGEND = 2.0, 0.12, 1.6
"""Widths of a picture, of the gap between pictures and of the legend, in inches."""
LEGEND_STEP, LEGEND_BAR = 0.56, 0.12
"""Heights of a component's legend and of its bar, in inches."""
COMPONENTS = 3
"""Number of components."""
TAILS = 1.0
"""Percentage of positions clipped at each end of a colour scale, so that outliers do not dominate it."""
MIDDLE, REACH = np.array([0.66, 0.0, 0.0]), np.array([0.30, 0.11, 0.11])
"""Middle and half range of the colours in OKLab: lightness, green to red, blue to yellow."""
AXES = [0, 2, 1]
"""OKLab axis of each component.

The first component is lightness, which everybody sees; the second is blue to yellow, which most people see.
"""
WORDS = ("dark to light", "blue to yellow", "green to red")
"""Description of each component's colours."""


@dataclass(frozen=True, slots=True, eq=False)
class Components:
    """Scores on principal components."""

    scores: tuple[Array, ...]
    """Scores of each input, of shape 3×H×W; missing components are filled with zeros."""
    explained: tuple[float, ...]
    """Fraction of the variance that each component explains."""


def principal_components(maps: Sequence[Array]) -> Components:
    """Compute the principal components of the channels of one or several maps, in float64.

    Every position of every map is a sample. Positions with a value that is not finite are no samples; their scores are
    computed with 0 in its place. A component's sign makes its largest loading positive, so that results are
    reproducible.

    Args:
        maps: arrays of shape C×H×W with the same C.
    """
    samples = np.concatenate([array.reshape(len(array), -1).T for array in maps]).astype(np.float64)
    is_known = np.isfinite(samples).all(axis=1)
    samples = samples[is_known] if is_known.any() else np.zeros((1, samples.shape[1]))
    means = samples.mean(axis=0)
    centred = samples - means
    variances, loadings = _variances_and_loadings(centred)
    count = min(COMPONENTS, len(variances))
    first = loadings[:, ::-1][:, :count]
    first = first * np.sign(first[np.abs(first).argmax(axis=0), range(count)])
    total = max(variances.sum(), np.finfo(np.float64).tiny)
    missing = ((0, COMPONENTS - count), (0, 0), (0, 0))
    scores = [np.pad(np.tensordot(first.T, finite(array) - means[:, None, None], 1), missing) for array in maps]
    explained = [float(max(value, 0) / total) for value in variances[::-1][:count]]
    return Components(tuple(scores), (*explained, *(0.0,) * (COMPONENTS - count)))


def _variances_and_loadings(centred: Array) -> tuple[Array, Array]:
    """Return the variances in ascending order and their loadings as columns.

    An eigendecomposition of the covariance is used if there are fewer channels than samples, else a singular value
    decomposition.
    """
    if len(centred) >= centred.shape[1]:
        variances, loadings = np.linalg.eigh(centred.T @ centred)
        return variances, loadings
    _, singular, rows = np.linalg.svd(centred, full_matrices=False)
    return singular[::-1] ** 2, rows[::-1].T


def to_colours(scores: Sequence[Array]) -> list[Array]:
    """Return sRGB colours of shape H×W×3, 0 to 1, for scores of shape 3×H×W, all on one scale."""
    flat = np.concatenate([array.reshape(COMPONENTS, -1) for array in scores], axis=1)
    low, high = np.percentile(flat, [TAILS, 100 - TAILS], axis=1)
    span = np.where(high > low, high - low, 1.0)
    shares = [np.clip((2 * np.moveaxis(array, 0, -1) - low - high) / span, -1, 1) for array in scores]
    return [_srgb(MIDDLE + REACH * share[..., AXES]) for share in shares]


@with_style
def components_figure(pictures: Sequence[Picture]) -> Figure:
    """Draw the pictures, and below them a row for each result: its first three components as colours.

    The components are fitted to all pictures together, so that a colour means the same in each.

    Raises:
        ValueError: no result has spatial positions.
    """
    rows = [results for results in group_by_result(pictures) if all(_has_maps(result) for result in results)]
    if not rows:
        raise ValueError("no result has rows and columns: its components cannot be laid out")
    page = Page(2 * MARGIN + (SIDE + GAP) * len(pictures) + LEGEND)
    top = _draw_photos(page, pictures)
    for results in rows:
        top = _draw_components(page, pictures, results, top)
    return page.finish(top)


def _has_maps(result: Result) -> bool:
    """Return whether the result has maps."""
    return result.maps is not None and result.maps.size > 0


def _draw_photos(page: Page, pictures: Sequence[Picture]) -> float:
    """Draw the row of pictures; return where it ends."""
    titles = [page.notes.fit(picture.title, SIDE, TITLE, lines=2) for picture in pictures]
    top = MARGIN + height_of(1 + max(title.count("\n") for title in titles), TITLE) + 0.03
    for index, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        height = SIDE * cell_ratio(*picture.pixels.shape[:2])
        show_picture(page.axes(_left(index), top, SIDE, height), picture.pixels, title, size=TITLE)
    return top + SIDE * max(cell_ratio(*picture.pixels.shape[:2]) for picture in pictures) + GAP


def _left(index: int) -> float:
    """Return the left edge of a column in inches."""
    return MARGIN + index * (SIDE + GAP)


def _draw_components(page: Page, pictures: Sequence[Picture], results: Sequence[Result], top: float) -> float:
    """Draw the row of one result; return where it ends."""
    maps = [result.maps for result in results if result.maps is not None]
    components = principal_components(maps)
    top = write_title(page, results[0], MARGIN, top, page.width - 2 * MARGIN)
    heights = [SIDE * cell_ratio(*picture.pixels.shape[:2]) for picture in pictures]
    for index, (planes, shades) in enumerate(zip(maps, to_colours(components.scores), strict=True)):
        axes = page.axes(_left(index), top, SIDE, heights[index])
        is_known: Array = np.asarray(np.isfinite(planes).all(axis=0))
        axes.imshow(np.where(is_known[..., None], shades, colors.to_rgb(NOT_FINITE)), interpolation="nearest")
        axes.set_aspect("auto")
        axes.set_axis_off()
        if not is_known.all():
            page.remark(GREY_REMARK)
    _draw_legend(page, components.explained, _left(len(pictures)) + 0.05, top)
    return top + max(*heights, len(WORDS) * LEGEND_STEP) + GAP


def _draw_legend(page: Page, explained: Sequence[float], left: float, top: float) -> None:
    """Draw the colours of each component with its fraction of the variance."""
    for number, (share, words) in enumerate(zip(explained, WORDS, strict=True)):
        down = top + LEGEND_STEP * number
        page.text(left, down, f"PC {number + 1}, {share:.0%}\n{words}", fontsize=8)
        bar = page.axes(left, down + height_of(2, 8) + 0.03, LEGEND - 0.15, LEGEND_BAR)
        bar.imshow(_component_colours(number), aspect="auto")
        bar.set_axis_off()


def _component_colours(component: int) -> Array:
    """Return the colours of one component from low to high, with the other components in their middle."""
    steps = np.tile(MIDDLE, (1, 64, 1))
    axis = AXES[component]
    steps[0, :, axis] += REACH[axis] * np.linspace(-1, 1, 64)
    return _srgb(steps)


def _srgb(oklab: Array) -> Array:
    """Convert OKLab (Ottosson 2020) to sRGB (IEC 61966-2-1); colours outside sRGB are clipped."""
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
