"""Every block again, written from its formula in float64 NumPy; shares no code with the emitters.

Arrays are N×C×H×W unless a function says otherwise.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from layertap.types import Array


def relu(x: Array) -> Array:
    return np.where(x > 0, x, np.where(np.isnan(x), x, 0.0))


def sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


def softmax(x: Array, axis: int = 1) -> Array:
    exponentials = np.exp(x - x.max(axis=axis, keepdims=True))
    return exponentials / exponentials.sum(axis=axis, keepdims=True)


def output_size(size: int, kernel: int, stride: int, dilation: int, padding: tuple[int, int], *, ceil: bool) -> int:
    """Of a window pool along one side; a last partial window must start inside the map or the padding before it."""
    span = dilation * (kernel - 1) + 1
    steps = (size + sum(padding) - span) / stride
    count = (math.ceil(steps) if ceil else math.floor(steps)) + 1
    if ceil and (count - 1) * stride >= size + padding[0]:
        count -= 1
    return count


def same_padding(size: int, kernel: int, stride: int, dilation: int, *, lower: bool) -> tuple[int, int]:
    span = dilation * (kernel - 1) + 1
    total = max((math.ceil(size / stride) - 1) * stride + span - size, 0)
    return (total - total // 2, total // 2) if lower else (total // 2, total - total // 2)


def window_pool(
    x: Array,
    value: Callable[[Array, int], float],
    kernel: tuple[int, int],
    stride: tuple[int, int] | None = None,
    dilation: tuple[int, int] = (1, 1),
    padding: str | tuple[int, int, int, int] = "valid",
    *,
    ceil: bool = False,
) -> Array:
    """Calls ``value(values inside the map, places inside the padded map)`` for every window, one by one."""
    stride = stride or kernel
    pads: list[tuple[int, int]] = []
    for side in range(2):
        if isinstance(padding, tuple):
            pads.append((padding[side], padding[side + 2]))
        elif padding == "valid":
            pads.append((0, 0))
        else:
            lower = padding == "same_lower"
            pads.append(same_padding(x.shape[2 + side], kernel[side], stride[side], dilation[side], lower=lower))
    sizes = [
        output_size(x.shape[2 + side], kernel[side], stride[side], dilation[side], pads[side], ceil=ceil)
        for side in range(2)
    ]
    result = np.empty((*x.shape[:2], *sizes))
    for image, channel, row, column in itertools.product(*map(range, result.shape)):
        inside, padded = [], 0
        for i, j in itertools.product(range(kernel[0]), range(kernel[1])):
            h = row * stride[0] - pads[0][0] + i * dilation[0]
            w = column * stride[1] - pads[1][0] + j * dilation[1]
            if 0 <= h < x.shape[2] and 0 <= w < x.shape[3]:
                inside.append(x[image, channel, h, w])
            padded += -pads[0][0] <= h < x.shape[2] + pads[0][1] and -pads[1][0] <= w < x.shape[3] + pads[1][1]
        result[image, channel, row, column] = value(np.array(inside), padded)
    return result


def max_pool(x: Array, **window: Any) -> Array:
    return window_pool(x, lambda inside, _: inside.max(), **window)


def average_pool(x: Array, *, count_include_pad: bool = False, **window: Any) -> Array:
    def mean(inside: Array, padded: int) -> float:
        return float(inside.sum()) / (padded if count_include_pad else len(inside))

    return window_pool(x, mean, **window)


def gap(x: Array) -> Array:
    return x.mean(axis=(2, 3))


def gmp(x: Array) -> Array:
    return x.max(axis=(2, 3))


def gem(x: Array, p: float = 3.0, eps: float = 1e-6) -> Array:
    return (np.maximum(x, eps) ** p).mean(axis=(2, 3)) ** (1 / p)


def l1(x: Array, axis: int = 1, eps: float = 1e-12) -> Array:
    return x / np.maximum(np.abs(x).sum(axis=axis, keepdims=True), eps)


def l2(x: Array, axis: int = 1, eps: float = 1e-12) -> Array:
    return x / np.maximum(np.sqrt((x * x).sum(axis=axis, keepdims=True)), eps)


def z_score(x: Array, scope: str = "sample", ddof: int = 0, eps: float = 1e-12) -> Array:
    axes = {
        "sample": tuple(range(1, x.ndim)),
        "channel": (2, 3),
        "batch": (0, 2, 3) if x.ndim == 4 else (0,),
        "column": (0,),
    }[scope]
    count = math.prod(x.shape[axis] for axis in axes)
    centred = x - x.mean(axis=axes, keepdims=True)
    variance = (centred**2).sum(axis=axes, keepdims=True) / max(count - ddof, 1)
    return centred / np.maximum(np.sqrt(variance), eps)
