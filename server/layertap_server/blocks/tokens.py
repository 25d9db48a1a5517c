"""Blocks that select tokens, and the block that states a layout."""

from __future__ import annotations

import math
from dataclasses import replace

from layertap.blocks import BoundBlock
from layertap.types import Layout
from layertap_server.blocks.builder import Builder, Emitter, misfit
from layertap_server.blocks.layouts import LARGEST_INDEX, as_map
from layertap_server.tensor import Dim, Tensor

RANKS = {
    Layout.NCHW: 4,
    Layout.NHWC: 4,
    Layout.NCT: 3,
    Layout.TOKENS: 3,
    Layout.NCDHW: 5,
    Layout.VECTOR: 2,
}
"""Number of axes of each layout."""


def _tokens(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit the class token, the tokens after the prefix, their mean, or their grid as a map."""
    if tensor.layout is not Layout.TOKENS:
        hint = "; if it holds tokens, put read_as(tokens) before the block" if tensor.layout is Layout.OTHER else ""
        raise misfit(block, tensor, f"it needs tokens{hint}", "[N, T, C]")
    batch, count, channels = tensor.shape
    take, prefix = block.word("take"), _prefix(tensor, block)
    if take == "cls":
        name = builder.op("Gather", tensor.name, builder.constant(0, "int64"), axis=1)
        return replace(tensor, name=name).with_shape(batch, channels, layout=Layout.VECTOR)
    remaining: Dim = count - prefix if isinstance(count, int) else f"{count}-{prefix}"
    name = builder.slice(tensor.name, 1, prefix, LARGEST_INDEX)
    grid = tensor.grid if tensor.grid and math.prod(tensor.grid) == remaining else None
    rest = replace(tensor, name=name, shape=(batch, remaining, channels), prefix=0, grid=grid)
    if take == "mean":
        mean = builder.reduce("ReduceMean", rest.name, [1], keepdims=False)
        return replace(tensor, name=mean).with_shape(batch, channels, layout=Layout.VECTOR)
    return rest if take == "all" else _grid(builder, rest, block)


def _prefix(tensor: Tensor, block: BoundBlock) -> int:
    """Return the number of prefix tokens: the given one, else that of the layer.

    Raises:
        ShapeMismatchError: It is not known, no token is left, or there is no class token to take.
    """
    prefix, count = tensor.prefix if block["prefix"] is None else block.integer("prefix"), tensor.shape[1]
    if prefix is None:
        problem = "how many of its first tokens are class tokens and registers is not known; state it, as in prefix=1"
        raise misfit(block, tensor, problem, "prefix=NUMBER")
    if isinstance(count, int) and prefix >= count:
        raise misfit(block, tensor, f"a prefix of {prefix} in {count} tokens", "at least one token after the prefix")
    if block.word("take") == "cls" and prefix == 0:
        problem = "it has no class token: the prefix is 0. tokens(mean) averages its tokens"
        raise misfit(block, tensor, problem, "a layer with a class token, or prefix=NUMBER")
    return prefix


def _read_as(_builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Return the same tensor in the layout that the block states."""
    layout = Layout.TOKENS if block.word("layout") == "NTC" else Layout(block.word("layout"))
    if tensor.rank != RANKS[layout]:
        raise misfit(block, tensor, f"{layout} has {RANKS[layout]} axes", f"{RANKS[layout]} axes")
    return tensor if layout is tensor.layout else replace(tensor, layout=layout, prefix=None, grid=None)


def _grid(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit tokens as a map N×C×H×W."""
    count = tensor.shape[1]
    side = math.isqrt(count) if isinstance(count, int) else 0
    grid = tensor.grid or (side, side)
    if math.prod(grid) != count:
        raise misfit(
            block, tensor, f"{count} tokens do not make a square grid", "a square number of tokens after the prefix"
        )
    return as_map(builder, tensor, grid)


EMITTERS: dict[str, Emitter] = {"tokens": _tokens, "read_as": _read_as}
"""Emitters by block name."""
