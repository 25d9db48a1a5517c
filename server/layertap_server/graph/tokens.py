"""Detection of token layers that are flattened maps: their grid, and the number of prefix tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import onnx

from layertap.types import Layout
from layertap_server.tensor import Tensor

MOST_PREFIX_TOKENS = 16
"""Maximum number of class, distillation and register tokens (Darcet et al. 2024 use 4)."""


def with_grids(graph: onnx.GraphProto, types: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the types with a grid for each token layer that can be the last map before it, flattened.

    The number of tokens must be the number of spatial positions of the map plus at most `MOST_PREFIX_TOKENS`.
    """
    gridded = dict(types)
    grid: tuple[int, int] | None = None
    for node in graph.node:
        for name in node.output:
            tensor = types.get(name)
            if tensor is None:
                continue
            if tensor.layout is Layout.TOKENS:
                gridded[name] = replace(tensor, grid=grid if _fits(tensor, grid) else None)
            elif node.op_type in {"Conv", "MaxPool", "AveragePool"}:
                grid = _map_size(tensor) or grid
    return gridded


def _fits(tensor: Tensor, grid: tuple[int, int] | None) -> bool:
    """Return whether the tokens of a layer can be the positions of a grid after prefix tokens."""
    count = tensor.shape[1]
    return grid is not None and isinstance(count, int) and 0 <= count - grid[0] * grid[1] <= MOST_PREFIX_TOKENS


def _map_size(tensor: Tensor) -> tuple[int, int] | None:
    """Return height and width of a map of more than one spatial position; None for other tensors."""
    if len(tensor.spatial_axes) != 2:  # noqa: PLR2004 - height and width
        return None
    height, width = (tensor.shape[axis] for axis in tensor.spatial_axes)
    return (height, width) if isinstance(height, int) and isinstance(width, int) and height * width > 1 else None
