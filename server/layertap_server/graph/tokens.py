"""Which token layers are maps laid out in a row: their grid, and how many tokens before it are no place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import onnx

from layertap.types import Layout
from layertap_server.blocks import Tensor

MOST_PREFIX_TOKENS = 16
"""Class, distillation and register tokens (Darcet et al. 2024 use 4)."""


def with_grids(graph: onnx.GraphProto, types: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The types, those of token layers with the grid of the last map before them whose places they can be."""
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
                grid = _places(tensor) or grid
    return gridded


def _fits(tensor: Tensor, grid: tuple[int, int] | None) -> bool:
    count = tensor.shape[1]
    return grid is not None and isinstance(count, int) and 0 <= count - grid[0] * grid[1] <= MOST_PREFIX_TOKENS


def _places(tensor: Tensor) -> tuple[int, int] | None:
    """Height and width of a map of more than one place."""
    if len(tensor.spatial_axes) != 2:  # noqa: PLR2004 - height and width
        return None
    height, width = (tensor.shape[axis] for axis in tensor.spatial_axes)
    return (height, width) if isinstance(height, int) and isinstance(width, int) and height * width > 1 else None
