"""Initial weights of convolutions: filter banks from the literature, and random weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from layertap.blocks import BoundBlock
from layertap.errors import BadParameterError, LayertapError, RequestTooLargeError
from layertap.expression import parse_initial_weights
from layertap.types import Array

SOBEL = 3
"""Height and width of Sobel filters."""
MOST_NUMBERS = 2**24
"""Maximum number of initial weights of a layer, so that a short request cannot fill the memory."""


@dataclass(frozen=True, slots=True)
class FilterShape:
    """Shape of the filters of a convolution."""

    filters: int
    """Number of filters."""
    groups: int
    """Number of groups that the filters are divided into."""
    inputs: int
    """Number of input channels of one filter."""
    height: int = 1
    """Height of the kernel."""
    width: int = 1
    """Width of the kernel."""


def initial_weights(text: str, shape: FilterShape, salt: int) -> Array:
    """Return initial weights, filters×inputs×height×width in float64.

    Args:
        text: Name and parameters of the weights, such as ``he`` or ``gabor(8)``.
        shape: Shape of the filters.
        salt: Number of the layer, so that random weights of the same seed differ between layers.

    Raises:
        BadParameterError: The name does not exist, or the weights do not fit the shape.
        RequestTooLargeError: The shape has more than `MOST_NUMBERS` values.
    """
    numbers = shape.filters * shape.inputs * shape.height * shape.width
    if numbers > MOST_NUMBERS:
        message = f"initial weights are limited to {MOST_NUMBERS} numbers, got {numbers}"
        raise RequestTooLargeError(message, limit=MOST_NUMBERS, numbers=numbers)
    try:
        bound = parse_initial_weights(text)
    except LayertapError as error:
        raise BadParameterError(f"weight: {error.message}", parameter="weight", got=text) from None
    if bound.name in _RANDOM:
        random = np.random.default_rng([bound.integer("seed"), salt])
        return _RANDOM[bound.name](random, shape)
    count, a_group = _count(bound), shape.filters // shape.groups
    if a_group % count:
        message = f"weight: {bound.name} makes {count} filters, and a group has {a_group}; use a multiple of {count}"
        raise BadParameterError(message, parameter="weight", expected=count, got=a_group)
    with np.errstate(all="ignore"):
        bank = _BANKS[bound.name](bound, shape.height, shape.width)
    if not np.isfinite(bank).all():
        message = f"weight: {text} has no finite numbers on a kernel of {shape.height}×{shape.width}"
        raise BadParameterError(message, parameter="weight", got=text)
    filters = np.tile(bank, (shape.filters // count, 1, 1))
    return np.repeat(filters[:, None], shape.inputs, axis=1) / shape.inputs


def _count(block: BoundBlock) -> int:
    """Return the number of filters of a filter bank."""
    if block.name == "gabor":
        return math.prod(block.integer(name) for name in ("orientations", "scales", "phases"))
    return 2 if block.name == "sobel" else 1


def _grid(height: int, width: int) -> tuple[Array, Array]:
    """Return the coordinates x (to the right) and y (downwards) of a kernel, with 0 at its center."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    return x - (width - 1) / 2, y - (height - 1) / 2


def _gabor(block: BoundBlock, height: int, width: int) -> Array:
    """Return a bank of Gabor filters, filters×height×width, with zero response to a constant."""
    x, y = _grid(height, width)
    octaves = 2 ** block.number("bandwidth")
    cycles = math.sqrt(math.log(2) / 2) / math.pi * (octaves + 1) / (octaves - 1)
    orientations, phases = block.integer("orientations"), block.integer("phases")
    filters = []
    for scale in range(block.integer("scales")):
        wavelength = block.number("wavelength") * float(np.float64(block.number("scale_step")) ** scale)
        sigma = wavelength * cycles
        for angle in np.arange(orientations) * math.pi / orientations:
            u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
            window = np.exp(-(u**2 + (block.number("aspect") * v) ** 2) / (2 * sigma**2))
            for phase in np.arange(phases) * math.pi / max(phases, 1):
                wave = np.cos(2 * math.pi * u / wavelength - phase)
                # Subtract the weighted mean, so that a constant patch of any brightness gives 0.
                balanced = window * (wave - (window * wave).sum() / window.sum())
                filters.append(balanced * 2 / window.sum())
    return np.stack(filters)


def _sobel(_block: BoundBlock, height: int, width: int) -> Array:
    """Return the horizontal and the vertical Sobel filter, 2×3×3."""
    if (height, width) != (SOBEL, SOBEL):
        message = f"weight: sobel needs a kernel of 3, got {height}×{width}"
        raise BadParameterError(message, parameter="weight", expected="3", got=f"{height}×{width}")
    across = np.outer([1, 2, 1], [-1, 0, 1]) / 8
    return np.stack([across, across.T])


def _gaussian(block: BoundBlock, height: int, width: int) -> Array:
    """Return a Gaussian filter whose values sum to 1, 1×height×width."""
    x, y = _grid(height, width)
    window = np.exp(-(x**2 + y**2) / (2 * _sigma(block, max(height, width) / 4) ** 2))
    return np.asarray((window / window.sum())[None])


def _laplacian(block: BoundBlock, height: int, width: int) -> Array:
    """Return a Laplacian-of-Gaussian filter whose values sum to 0, 1×height×width."""
    x, y = _grid(height, width)
    square, variance = x**2 + y**2, _sigma(block, max(height, width) / 6) ** 2
    window = np.exp(-square / (2 * variance))
    filter_ = (square - 2 * variance) / variance**2 * window / window.sum()
    return np.asarray((filter_ - filter_.mean())[None])


def _sigma(block: BoundBlock, default: float) -> float:
    """Return the parameter ``sigma`` in pixels, or the default if it is not given."""
    return default if block["sigma"] is None else block.number("sigma")


def _he(random: np.random.Generator, shape: FilterShape) -> Array:
    """Draw normal weights of variance 2 / fan-in (He et al. 2015)."""
    inputs = shape.inputs * shape.height * shape.width
    size = (shape.filters, shape.inputs, shape.height, shape.width)
    return random.normal(0, math.sqrt(2 / inputs), size)


def _glorot(random: np.random.Generator, shape: FilterShape) -> Array:
    """Draw uniform weights of variance 2 / (fan-in + fan-out) (Glorot and Bengio 2010)."""
    positions = shape.height * shape.width
    bound = math.sqrt(6 / (positions * (shape.inputs + shape.filters // shape.groups)))
    size = (shape.filters, shape.inputs, shape.height, shape.width)
    return random.uniform(-bound, bound, size)


_BANKS: dict[str, Callable[[BoundBlock, int, int], Array]] = {
    "gabor": _gabor,
    "sobel": _sobel,
    "gaussian": _gaussian,
    "laplacian": _laplacian,
}
"""Filter banks by name."""
_RANDOM: dict[str, Callable[[np.random.Generator, FilterShape], Array]] = {"he": _he, "glorot": _glorot}
"""Random weights by name."""
