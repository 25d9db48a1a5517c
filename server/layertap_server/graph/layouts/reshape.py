"""Axes of a tensor after a Reshape, by the factors of its sizes."""

from __future__ import annotations

from collections.abc import Sequence

from layertap_server.graph.layouts.axes import UNKNOWN, Axes, Axis, Part, Shape, joined, split
from layertap_server.tensor import Dim

Span = tuple[slice, slice]
"""Axes before, and the axes after that hold the same values."""


def reshaped(axes: Axes, own: Shape, shape: Shape) -> Axes:
    """Return the axes of a tensor of shape ``own`` after a Reshape to ``shape``."""
    result: list[Axis] = [UNKNOWN] * len(shape)
    for before, after in _spans(own, shape):
        result[after] = _regrouped(axes[before], own[before], shape[after])
    return tuple(result)


def _spans(own: Shape, shape: Shape) -> list[Span]:
    """Return the smallest groups of axes that hold the same values before and after.

    Groups are closed from the end and then from the start; what is left in between, where sizes are symbolic, is one.
    """
    spans: list[Span] = []
    ends = [len(own), len(shape)]
    while all(ends) and (counts := _smallest(own[: ends[0]][::-1], shape[: ends[1]][::-1])):
        spans.append((slice(ends[0] - counts[0], ends[0]), slice(ends[1] - counts[1], ends[1])))
        ends = [ends[0] - counts[0], ends[1] - counts[1]]
    starts = [0, 0]
    while counts := _smallest(own[starts[0] : ends[0]], shape[starts[1] : ends[1]]):
        spans.append((slice(starts[0], starts[0] + counts[0]), slice(starts[1], starts[1] + counts[1])))
        starts = [starts[0] + counts[0], starts[1] + counts[1]]
    spans.append((slice(starts[0], ends[0]), slice(starts[1], ends[1])))
    return spans


def _smallest(own: Sequence[Dim], shape: Sequence[Dim]) -> tuple[int, int] | None:
    """Return how many of the first axes on each side have the same product; None if that is not known."""
    if not own or not shape:
        return None
    if own[0] == shape[0]:
        return 1, 1
    counts, products = [0, 0], [1, 1]
    for _ in range(len(own) + len(shape)):
        side = 0 if products[0] < products[1] or not counts[0] else 1
        sizes = (own, shape)[side]
        size = sizes[counts[side]] if counts[side] < len(sizes) else ""
        if not isinstance(size, int) or size < 1:
            return None
        counts[side] += 1
        products[side] *= size
        if products[0] == products[1] and all(counts):
            return counts[0], counts[1]
    return None


def _regrouped(axes: Axes, own: Shape, shape: Shape) -> list[Axis]:
    """Return the axes of one group after the Reshape."""
    if len(axes) == len(shape) == 1:
        return [axes[0]]
    parts: list[Part] = []
    for axis, size in zip(axes, own, strict=True):
        if size != 1:
            parts += axis or (Part("?", size),)
    result = [_take(parts, size, is_last=index == _last(shape)) for index, size in enumerate(shape)]
    return [UNKNOWN if any(part.role == "?" for part in taken) else joined(taken) for taken in result]


def _last(shape: Shape) -> int:
    """Return the index of the last axis of a group that can hold values; it takes all parts that are left."""
    return max((index for index, size in enumerate(shape) if size != 1), default=-1)


def _take(parts: list[Part], size: Dim, *, is_last: bool) -> list[Part]:
    """Remove the parts that make up an axis of a size from the front of the list, and return them.

    Splits a part if it is larger. Returns unknown parts if sizes do not fit.
    """
    if size == 1:
        return [Part("?", 1)]
    if is_last:
        left, parts[:] = parts[:], []
        return left if _fits(left, size) else [Part("?", size)]
    if isinstance(size, str) and parts and isinstance(parts[0].size, str):
        return [parts.pop(0)]
    if isinstance(size, str):
        parts.clear()
        return [Part("?", size)]
    return _take_known(parts, size)


def _take_known(parts: list[Part], size: int) -> list[Part]:
    """Remove the parts that make up an axis of a known size, as `_take`."""
    taken: list[Part] = []
    missing = size
    while missing > 1 and parts:
        part = parts.pop(0)
        if not isinstance(part.size, int) or (missing % part.size and part.size % missing):
            parts.clear()  # what follows does not fit either
            return [Part("?", size)]
        if part.size > missing:
            part, rest = split(part, missing)
            parts.insert(0, rest)
        taken.append(part)
        missing //= int(part.size)
    return taken


def _fits(parts: Sequence[Part], size: Dim) -> bool:
    """Return whether parts can make up an axis of a size."""
    known = [part.size for part in parts if isinstance(part.size, int)]
    if not isinstance(size, int) or len(known) < len(parts):
        return bool(parts)
    count = 1
    for one in known:
        count *= one
    return count == size
