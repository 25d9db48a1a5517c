"""What work costs, in operations: one operation is one multiply-accumulate of a dense convolution on the CPU.

Measured by the CPU time of single operators on one thread of onnxruntime (a dense convolution did 80 to 90 thousand
million a second); `docs/operations.md` says how. The price of a request is an estimate of its time, so that one limit
serves for all kinds of work.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

NARROW = 26
"""Multiply-accumulates of laying out one value for a convolution, which all filters of a group then share."""
COLUMN = 64
"""One value that a transposed convolution adds to its result: one for each input place, filter and kernel element."""
VECTOR = 16
"""A multiply-accumulate of a matrix and one vector: the weights come from memory each time."""
WINDOW = 2
"""One element of a pool's window of at most `SMALL_WINDOW` a side."""
SMALL_WINDOW = 32
LARGE_WINDOW = 80
"""One element of a larger window: onnxruntime's vector code does not take it."""
SCALAR_WINDOW = 200
"""One element of a window with dilation, or of a maximum whose index is asked for: no vector code at all."""
ELEMENT = 32
"""One value read, computed and written by an elementwise operator or a reduction."""
POWER = 360
"""One value raised to a power."""
SOFTMAX = 800
"""One value of a softmax along an axis that is not the last."""
SORT = 500
"""One comparison of a sort."""
RESIZE = {"nearest": 40, "linear": 120, "cubic": 4000}
"""One value of a resized map, by interpolation."""
SAMPLE = 400
"""One value that is looked up between four others."""

BRANCH = 150
"""One value of an activation that takes one of two paths."""
SOFTPLUS = 800
"""One value through two transcendental functions that have no vector code."""
MOST_PASSES = 48
"""Passes over a block's values that its operators are counted as, at most: more of them share the values."""
SLOW = {
    **dict.fromkeys(("softmax", "log_softmax", "softmin"), SOFTMAX),
    **dict.fromkeys(("softplus", "log_sigmoid", "mish"), SOFTPLUS),
    **dict.fromkeys(("elu", "selu", "celu", "prelu"), BRANCH),
    **dict.fromkeys(("lp_pool", "gem", "global_lp"), 2 * POWER),
    "lrn": POWER,
}
"""Blocks with a slow operator -> operations a value beside the passes."""


def window(kernel: Sequence[int], *, is_scalar: bool = False) -> int:
    """Return the operations of looking at each element of a pool's window; ``is_scalar`` without vector code."""
    if is_scalar:
        return math.prod(kernel) * SCALAR_WINDOW
    return math.prod(kernel) * (WINDOW if max(kernel, default=1) <= SMALL_WINDOW else LARGE_WINDOW)


def sorting(values: int, length: int) -> int:
    """Return the operations of sorting so many values in rows of this length."""
    return SORT * values * max(math.ceil(math.log2(max(length, 2))), 1)


def multiply(count: int, filters: int) -> int:
    """Return the operations of a convolution's multiply-accumulates; ``filters`` share what they read."""
    return max(count, NARROW * count // max(filters, 1))


def multiply_transposed(count: int, columns: int, made: int) -> int:
    """Return the operations of a transposed convolution, which adds ``columns`` values to the ``made`` ones."""
    return count + COLUMN * columns + 2 * ELEMENT * made
