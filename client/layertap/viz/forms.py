"""Choose how to draw the values of a result: as maps, matrices, class scores, a summary or a vector."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from layertap.types import Array, LayerInfo, Layout, TokenGrid

SUMMARY_BLOCK = "stats"
"""Name of the block that computes a summary."""
SUMMARY = ("smallest", "largest", "mean", "standard deviation", "fraction of zeros", "Euclidean norm")
"""Names of the values of the block `stats`, in order."""
_MAPS, _MATRIX = 3, 2
"""Number of axes of maps and of a matrix, without the batch."""


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """The values of a result arranged for drawing; at most one of ``maps``, ``matrices`` and ``names`` is set."""

    maps: Array | None = None
    """Array of shape C×H×W whose values have spatial positions."""
    matrices: Array | None = None
    """Array of shape K×A×B whose values have no spatial positions."""
    indices: tuple[str, ...] = ()
    """Label of each map or matrix; empty to number them."""
    names: tuple[str, ...] = ()
    """Name of each value of a vector: classes, or the statistics of a summary."""
    is_summary: bool = False
    """Whether the values are those of the block `stats`."""
    note: str = ""
    """What the maps or matrices are, if they are not a layer's channels."""


def choose_form(
    values: Array, layout: Layout, layer: LayerInfo | None, grids: Mapping[int, TokenGrid], labels: tuple[str, ...]
) -> Form:
    """Return how to draw the values of one image.

    Args:
        values: the values, without the batch.
        layout: their layout.
        layer: the layer that they come from, if known.
        grids: the token grids of the model by their number of tokens.
        labels: the model's class names.
    """
    maps = _maps(values, layout, layer.tokens if layer else None)
    if maps is not None and maps.shape[1:] != (1, 1):
        return Form(maps)
    if (
        values.size <= 1 or values.ndim < _MATRIX or values.size == max(values.shape)
    ):  # a vector with any number of axes
        return Form(names=labels) if len(labels) == values.size > 1 else Form()
    tokens = values.shape[-1]
    if values.ndim == _MAPS and tokens == values.shape[-2] and tokens in grids:
        is_attention = layer is not None and layer.op_type.lower() == "softmax"
        return _attention("attention" if is_attention else "values of token pairs", values, grids[tokens])
    return _matrices(values, layout)


def summary_form(values: Array) -> Form:
    """Return how to draw the values of the block `stats`."""
    return Form(names=SUMMARY, is_summary=True) if values.shape == (len(SUMMARY),) else Form()


def grids_of(layers: Iterable[LayerInfo]) -> dict[int, TokenGrid]:
    """Return the token grids of a model by number of tokens, without numbers that several grids share."""
    found: dict[int, set[TokenGrid]] = {}
    for grid in {layer.tokens for layer in layers if layer.tokens}:
        found.setdefault(grid.prefix + grid.height * grid.width, set()).add(grid)
    return {count: grids.pop() for count, grids in found.items() if len(grids) == 1}


def _maps(values: Array, layout: Layout, tokens: TokenGrid | None) -> Array | None:
    """Return values as C×H×W, without tokens that have no position (class, registers); None if impossible."""
    if values.ndim == _MAPS and layout in {Layout.NCHW, Layout.NHWC}:
        return np.moveaxis(values, -1, 0) if layout is Layout.NHWC else values
    if values.ndim == _MATRIX and layout is Layout.TOKENS and tokens:
        prefix = len(values) - tokens.height * tokens.width
        if prefix in {0, tokens.prefix}:
            return values[prefix:].T.reshape(-1, tokens.height, tokens.width)
    return None


def _attention(what: str, values: Array, grid: TokenGrid) -> Form:
    """Arrange heads×tokens×tokens on the token grid: the row of the first token, or the mean of all rows."""
    rows = values[:, 0] if grid.prefix else values.mean(axis=1)
    source = {0: "mean over all queries", 1: "from the class token"}.get(grid.prefix, "from token 0")
    maps = rows[:, grid.prefix :].reshape(len(values), grid.height, grid.width)
    heads = tuple(f"head {number}" for number in range(len(values)))
    return Form(maps, indices=heads, note=f"{what} {source} to the {grid.height}×{grid.width} tokens")


def _matrices(values: Array, layout: Layout) -> Form:
    """Arrange the last two axes as images, one for each index of the axes before them."""
    shape = values.shape
    matrices = values.reshape(-1, *shape[-2:])
    first = len(shape) - 1  # the batch is axis 0
    axes = "tokens × channels" if layout is Layout.TOKENS else f"axis {first} × axis {first + 1}"
    indices = tuple(str(list(index))[1:-1] for index in np.ndindex(shape[:-2])) if len(shape) > _MATRIX else ("",)
    note = f"{'one image' if len(matrices) == 1 else 'images'} of {axes}, {shape[-2]} rows × {shape[-1]} columns"
    return Form(matrices=matrices, indices=indices, note=note)
