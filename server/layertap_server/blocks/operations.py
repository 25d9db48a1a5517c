"""Prices of work in operations: one operation is one multiply-accumulate of a dense convolution on the CPU.

The prices were measured as the CPU time of single operators on one thread of onnxruntime, where a dense convolution did
80 to 90 billion multiply-accumulates per second; ``docs/operations.md`` describes how. The price of a request estimates
its time, so that one limit covers all kinds of work.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

NARROW = 26
"""Price of preparing one value for a convolution, in multiply-accumulates; all filters of a group share it."""
COLUMN = 64
"""Price of one value that a transposed convolution adds: one for each input position, filter and kernel element."""
VECTOR = 16
"""Price of a multiply-accumulate of a matrix and one vector, where each weight is read from memory."""
WINDOW = 2
"""Price of one element of a pool's window with sides of at most `SMALL_WINDOW`."""
SMALL_WINDOW = 32
"""Maximum height and width of a window that onnxruntime computes with vector instructions."""
LARGE_WINDOW = 80
"""Price of one element of a larger window, which onnxruntime computes without vector code."""
SCALAR_WINDOW = 200
"""Price of one element of a window with dilation, or of a maximum whose index is an output: no vector code at all."""
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

BRANCH = 150
"""Price of one value of an activation that takes one of two paths."""
SOFTPLUS = 800
"""Price of one value through two transcendental functions that have no vector code."""
MOST_PASSES = 48
"""Maximum number of nodes of a block that count as a pass over its values; in longer blocks each works on a part."""
SLOW = {
    **dict.fromkeys(("softmax", "log_softmax", "softmin"), SOFTMAX),
    **dict.fromkeys(("softplus", "log_sigmoid", "mish"), SOFTPLUS),
    **dict.fromkeys(("elu", "selu", "celu", "prelu"), BRANCH),
    **dict.fromkeys(("lp_pool", "gem", "global_lp"), 2 * POWER),
    "lrn": POWER,
}
"""Operations per value in addition to the passes, by block with a slow operator."""


def window(kernel: Sequence[int], *, is_scalar: bool = False) -> int:
    """Return the price of reading each element of a pool's window; ``is_scalar`` means without vector code."""
    if is_scalar:
        return math.prod(kernel) * SCALAR_WINDOW
    return math.prod(kernel) * (WINDOW if max(kernel, default=1) <= SMALL_WINDOW else LARGE_WINDOW)


def sorting(values: int, length: int) -> int:
    """Return the price of sorting ``values`` values in rows of ``length`` values."""
    return SORT * values * max(math.ceil(math.log2(max(length, 2))), 1)


def multiply(count: int, filters: int) -> int:
    """Return the price of ``count`` multiply-accumulates of a convolution; ``filters`` filters share their inputs."""
    return max(count, NARROW * count // max(filters, 1))


def multiply_transposed(count: int, columns: int, made: int) -> int:
    """Return the price of a transposed convolution, which adds ``columns`` values to the ``made`` ones."""
    return count + COLUMN * columns + 2 * ELEMENT * made
