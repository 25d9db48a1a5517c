"""Sizes of layers as formulas of the image's height H and width W, for models that accept images of any size.

The formulas are fitted to the shapes at several image sizes that are multiples of the usual strides. At other sizes a
layer may have one row or column less or more, as its convolutions and pools round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TypeVar

from layertap.types import LayerInfo
from layertap_server.graph.trunk import Size

SAMPLES: tuple[tuple[Size, ...], ...] = (
    ((256, 320), (320, 448), (448, 256)),
    ((224, 448), (448, 672), (672, 224)),
)
"""Heights and widths in pixels to describe a model at; the second group is for windows of 7 at a stride of 32."""
UNKNOWN = "?"
"""Symbolic size of an axis that is neither fixed nor fitted."""

T = TypeVar("T")


def describe_any_size(described: Sequence[Sequence[LayerInfo]], sizes: Sequence[Size]) -> tuple[LayerInfo, ...]:
    """Return the layers of a model that accepts several image sizes.

    What differs between the sizes is not known, except for sizes of axes, which become formulas.

    Args:
        described: The layers, in the same order at each image size.
        sizes: Height and width of the image for each element of ``described``.
    """
    return tuple(_merge(layers, sizes) for layers in zip(*described, strict=True))


def _merge(layers: Sequence[LayerInfo], sizes: Sequence[Size]) -> LayerInfo:
    """Return one layer as described at several image sizes."""
    first = layers[0]
    if any(len(layer.shape) != len(first.shape) for layer in layers):
        return replace(first, shape=(), symbolic_shape=(), macs=None, bytes_per_image=None, tokens=None)
    axes = range(len(first.shape))
    symbols = tuple(_size_of([layer.symbolic_shape[axis] for layer in layers], sizes) for axis in axes)
    return replace(
        first,
        shape=tuple(int(symbol) if symbol.isdecimal() else -1 for symbol in symbols),
        symbolic_shape=symbols,
        macs=_common([layer.macs for layer in layers]),
        bytes_per_image=_common([layer.bytes_per_image for layer in layers]),
        tokens=_common([layer.tokens for layer in layers]),
        stride=_common([layer.stride for layer in layers]),
        receptive_field=_common([layer.receptive_field for layer in layers]),
    )


def _common(values: Sequence[T]) -> T | None:
    """Return the value if all are equal, else None."""
    return values[0] if all(value == values[0] for value in values) else None


def _size_of(symbols: Sequence[str], sizes: Sequence[Size]) -> str:
    """Return the size of an axis: the common one, a formula, or `UNKNOWN`."""
    if len(set(symbols)) == 1:
        return symbols[0]
    if not all(symbol.isdecimal() for symbol in symbols):
        return UNKNOWN
    return fit_formula([int(symbol) for symbol in symbols], sizes) or UNKNOWN


def fit_formula(values: Sequence[int], sizes: Sequence[Size]) -> str | None:
    """Return a size as a multiple of H, W or H·W plus a constant, such as ``H/8`` or ``H·W/256+1``.

    Returns:
        The formula that gives ``values`` at the image sizes ``sizes``; None if there is none. At least three different
        sizes are needed to exclude a coincidence.
    """
    bases = {"H": [height for height, _ in sizes], "W": [width for _, width in sizes]}
    bases["H·W"] = [height * width for height, width in sizes]
    for name, basis in bases.items():
        if basis[0] == basis[1]:
            continue
        factor = Fraction(values[1] - values[0], basis[1] - basis[0])
        offset = values[0] - factor * basis[0]
        if factor > 0 and all(factor * size + offset == value for size, value in zip(basis, values, strict=True)):
            return _text(name, factor) + (f"{int(offset):+d}" if offset else "")
    return None


def _text(name: str, factor: Fraction) -> str:
    """Return a multiple of H, W or H·W as text."""
    multiple = f"{factor.numerator}·{name}" if factor.numerator > 1 else name
    return f"{multiple}/{factor.denominator}" if factor.denominator > 1 else multiple
