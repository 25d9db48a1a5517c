"""Pools of windows whose size follows from the size of the result."""

from __future__ import annotations

from dataclasses import replace

from layertap.blocks import BoundBlock
from layertap.types import Layout
from layertap_server.blocks.builder import Builder, Emitter, maximum_with_nan, misfit
from layertap_server.blocks.layouts import as_nchw, back_to, check_one_number
from layertap_server.blocks.operations import ELEMENT
from layertap_server.tensor import Dim, Tensor

PASSES_ADAPTIVE = 8
"""Passes over a map that an adaptive pool counts as, since it slices overlapping windows by rows and columns."""


def _bounds(size: int, output: int) -> list[tuple[int, int]]:
    """Return start and end of each adaptive window along one axis, as in ``torch.nn``."""
    return [(index * size // output, -(-(index + 1) * size // output)) for index in range(output)]


def _known_sides(maps: Tensor, block: BoundBlock) -> tuple[int, ...]:
    """Return the sizes of the spatial axes; raise `ShapeMismatchError` if one is not known."""
    sides = tuple(side for side in maps.shape[2:] if isinstance(side, int))
    if len(sides) < len(maps.shape) - 2:
        raise misfit(block, maps, "it needs spatial axes of known sizes", "a known size")
    return sides


def _adaptive(builder: Builder, maps: Tensor, block: BoundBlock, output: tuple[int, ...], *, maximum: bool) -> Tensor:
    """Emit an adaptive pool with ``output`` results along the spatial axes."""
    sides = _known_sides(maps, block)
    builder.count_operations(maps.values * ELEMENT * PASSES_ADAPTIVE)
    pool = _adaptive_max if maximum else _adaptive_average
    name = pool(builder, maps, sides, output)
    return replace(maps, name=name, shape=(*maps.shape[:2], *output))


def _along_axes(builder: Builder, tensor: Tensor, block: BoundBlock, *, maximum: bool) -> Tensor:
    """Emit an adaptive pool of a series or a volume, with the same number of results along each spatial axis."""
    output = (block.sides("output")[0],) * (tensor.rank - 2)
    return _adaptive(builder, tensor, block, output, maximum=maximum)


def _adaptive_average(builder: Builder, maps: Tensor, sides: tuple[int, ...], output: tuple[int, ...]) -> str:
    """Emit the mean of each adaptive window."""
    return _by_sides(builder, maps.name, "ReduceMean", sides, output)


def _adaptive_max(builder: Builder, maps: Tensor, sides: tuple[int, ...], output: tuple[int, ...]) -> str:
    """Emit the maximum of each adaptive window."""
    return maximum_with_nan(builder, maps, lambda name: _by_sides(builder, name, "ReduceMax", sides, output))


def _by_sides(builder: Builder, name: str, op_type: str, sides: tuple[int, ...], output: tuple[int, ...]) -> str:
    """Emit a reduction of each window over one spatial axis after the other."""
    for axis, (size, count) in enumerate(zip(sides, output, strict=True), 2):
        parts = [builder.slice(name, axis, start, end) for start, end in _bounds(size, count)]
        name = builder.op(
            "Concat", *(builder.reduce(op_type, part, [axis], keepdims=True) for part in parts), axis=axis
        )
    return name


def _adaptive_pool(*, maximum: bool) -> Emitter:
    """Return the emitter of an adaptive maximum or average pool."""

    def emit(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
        if tensor.layout in {Layout.NCT, Layout.NCDHW}:
            check_one_number(tensor, block, "output")
            return _along_axes(builder, tensor, block, maximum=maximum)
        maps = as_nchw(builder, tensor, block)
        pooled = _adaptive(builder, maps, block, block.sides("output"), maximum=maximum)
        return back_to(tensor.layout, builder, pooled)

    return emit


def _spatial_pyramid(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit adaptive pools with several sizes, flattened and concatenated (He et al. 2014)."""
    maps = as_nchw(builder, tensor, block)
    maximum = block.word("op") == "max"
    levels = block.integers("levels")
    pooled = [_adaptive(builder, maps, block, (level, level), maximum=maximum) for level in levels]
    name = builder.op("Concat", *(builder.op("Flatten", level.name) for level in pooled), axis=1)
    channels, positions = maps.shape[1], sum(level * level for level in levels)
    features: Dim = channels * positions if isinstance(channels, int) else f"{positions}·{channels}"
    return replace(maps, name=name, shape=(maps.shape[0], features), layout=Layout.VECTOR)


EMITTERS: dict[str, Emitter] = {
    "adaptive_average_pool": _adaptive_pool(maximum=False),
    "adaptive_max_pool": _adaptive_pool(maximum=True),
    "spatial_pyramid": _spatial_pyramid,
}
"""Emitters by block name."""
