"""Types of tensors with their layouts, and the prefix and grid of token layers."""

from __future__ import annotations

import math

from layertap.types import Layout
from layertap_server.graph.layouts import Axes, Shape, layout_of, tokens_of
from layertap_server.tensor import Tensor


def typed(name: str, dtype: str, shape: Shape, axes: Axes) -> Tensor:
    """Return the type of a tensor whose axes were inferred; () for axes of which none is known."""
    layout = layout_of(axes or ((),) * len(shape))
    if layout is not Layout.TOKENS:
        return Tensor(name, dtype, shape, layout)
    prefix, sizes = tokens_of(axes[1])
    return Tensor(name, dtype, shape, layout, grid=_grid(shape, prefix, sizes), prefix=prefix)


def _grid(shape: Shape, prefix: int | None, sizes: Shape) -> tuple[int, int] | None:
    """Return height and width of the map that the tokens after the prefix are; None if they are not known."""
    if prefix is None or len(sizes) != 2:  # noqa: PLR2004 - height and width
        return None
    height, width = sizes
    if not isinstance(height, int) or not isinstance(width, int) or math.prod((height, width)) + prefix != shape[1]:
        return None
    return height, width
