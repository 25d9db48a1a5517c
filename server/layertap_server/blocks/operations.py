"""Prices of work in operations: one operation is one multiply-accumulate of a dense convolution on the CPU.

The prices were measured as the CPU time of single operators on one thread of onnxruntime, where a dense convolution did
80 to 90 billion multiply-accumulates per second; ``docs/operations.md`` describes how. The price of a request estimates
its time, so that one limit covers all kinds of work.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

NARROW = 26
"""Price of a multiply-accumulate where few filters share their inputs, as in depthwise convolutions."""
VECTOR = 16
"""Price of a multiply-accumulate of a matrix and one vector, where each weight is read from memory."""
WINDOW = 2
"""Price of one element of a pool's window with sides of at most `SMALL_WINDOW`."""
SMALL_WINDOW = 32
"""Maximum height and width of a window that onnxruntime computes with vector instructions."""
LARGE_WINDOW = 80
"""Price of one element of a larger window."""
ELEMENT = 32
"""Price of one value that an elementwise operator or a reduction reads, computes and writes."""
POWER = 360
"""Price of raising one value to a power."""
SOFTMAX = 800
"""Price of one value of a softmax along an axis other than the last."""
SORT = 500
"""Price of one comparison in a sort."""
RESIZE = {"nearest": 40, "linear": 120, "cubic": 4000}
"""Price of one value of a resized map, by interpolation mode."""
SAMPLE = 400
"""Price of one value that is interpolated between four others at a computed position."""

MANY_FILTERS = 4
"""Minimum number of filters with the same inputs for a convolution to count as dense."""
MOST_PASSES = 48
"""Maximum number of nodes of a block that count as a pass over its values; in longer blocks each works on a part."""
SLOW = {
    **dict.fromkeys(("softmax", "log_softmax", "softmin"), SOFTMAX),
    **dict.fromkeys(("lp_pool", "gem", "global_lp"), 2 * POWER),
    "lrn": POWER,
}
"""Operations per value in addition to the passes, by block with a slow operator."""


def window(kernel: Sequence[int]) -> int:
    """Return the price of reading each element of a pool's window."""
    return math.prod(kernel) * (WINDOW if max(kernel, default=1) <= SMALL_WINDOW else LARGE_WINDOW)


def sorting(values: int, length: int) -> int:
    """Return the price of sorting ``values`` values in rows of ``length`` values."""
    return SORT * values * max(math.ceil(math.log2(max(length, 2))), 1)


def multiply(count: int, filters: int) -> int:
    """Return the price of ``count`` multiply-accumulates of a convolution; ``filters`` filters share their inputs."""
    return count * (1 if filters >= MANY_FILTERS else NARROW)
