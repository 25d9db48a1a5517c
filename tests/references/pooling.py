"""Implement pooling blocks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from layertap.types import Array


def output_size(size: int, kernel: int, stride: int, dilation: int, padding: tuple[int, int], *, ceil: bool) -> int:
    """Return the output size along one axis; a last partial window must start inside the map or its first padding."""
    span = dilation * (kernel - 1) + 1
    steps = (size + sum(padding) - span) / stride
    count = (math.ceil(steps) if ceil else math.floor(steps)) + 1
    if ceil and (count - 1) * stride >= size + padding[0]:
        count -= 1
    return count


def same_padding(size: int, kernel: int, stride: int, dilation: int, *, lower: bool) -> tuple[int, int]:
    """Return the padding before and after one axis, so that the output has size/stride values."""
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
    """Call ``value`` for every window with the values inside the map and the number of positions with padding."""
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
    """Compute the maximum of each window."""
    return window_pool(x, lambda inside, _: inside.max(), **window)


def average_pool(x: Array, *, count_include_pad: bool = False, **window: Any) -> Array:
    """Compute the mean of each window."""

    def mean(inside: Array, padded: int) -> float:
        return float(inside.sum()) / (padded if count_include_pad else len(inside))

    return window_pool(x, mean, **window)


def gap(x: Array) -> Array:
    """Compute the mean of each channel."""
    return x.mean(axis=(2, 3))


def gmp(x: Array) -> Array:
    """Compute the maximum of each channel."""
    return x.max(axis=(2, 3))


def gem(x: Array, p: float = 3.0, eps: float = 1e-6) -> Array:
    """Compute the generalized mean of each channel."""
    return (np.maximum(x, eps) ** p).mean(axis=(2, 3)) ** (1 / p)


def min_pool(x: Array, **window: Any) -> Array:
    """Compute the minimum of each window."""
    return window_pool(x, lambda inside, _: inside.min(), **window)


def sum_pool(x: Array, **window: Any) -> Array:
    """Compute the sum of each window."""
    return window_pool(x, lambda inside, _: inside.sum(), **window)


def lp_pool(x: Array, p: float = 2.0, **window: Any) -> Array:
    """Compute the p-norm of each window."""
    return window_pool(x, lambda inside, _: (np.abs(inside) ** p).sum() ** (1 / p), **window)


def stochastic_pool(x: Array, **window: Any) -> Array:
    """Compute the expectation of stochastic pooling in each window."""

    def expected(inside: Array, _: int) -> float:
        positive = np.where(inside < 0, 0, inside)
        return float((positive**2).sum() / positive.sum()) if positive.sum() != 0 else 0.0

    return window_pool(x, expected, **window)


def mixed_pool(x: Array, max_weight: float = 0.5, **window: Any) -> Array:
    """Compute a weighted sum of maximum and mean of each window."""
    return window_pool(x, lambda inside, _: max_weight * inside.max() + (1 - max_weight) * inside.mean(), **window)


def sort_pool(x: Array, scores: tuple[float, ...], **window: Any) -> Array:
    """Compute a weighted sum of the sorted values of each window."""

    def weighted(inside: Array, _: int) -> float:
        weights = np.exp(scores[: len(inside)])
        return float((np.sort(inside)[::-1] * weights / weights.sum()).sum())

    return window_pool(x, weighted, **window)


def max_unpool(x: Array, **window: Any) -> Array:
    """Return the maxima of the windows of ``x`` at their positions (the first one of a tie), and zeros elsewhere."""
    places = np.arange(x.size, dtype=np.float64).reshape(x.shape)
    result = np.zeros(x.size)

    def argmax(inside: Array, _: int) -> float:
        indices = inside.astype(np.int64)
        return float(indices[np.argmax(x.ravel()[indices])])

    for place in window_pool(places, argmax, **window).astype(np.int64).ravel():
        result[place] = x.ravel()[place]
    return result.reshape(x.shape)


def adaptive(x: Array, output: tuple[int, int], value: Callable[..., Array]) -> Array:
    """Reduce windows that divide the map into ``output`` cells."""
    result = np.empty((*x.shape[:2], *output))
    for i, j in itertools.product(*map(range, output)):
        rows = slice(i * x.shape[2] // output[0], math.ceil((i + 1) * x.shape[2] / output[0]))
        columns = slice(j * x.shape[3] // output[1], math.ceil((j + 1) * x.shape[3] / output[1]))
        result[:, :, i, j] = value(x[:, :, rows, columns], axis=(2, 3))
    return result


def spatial_pyramid(x: Array, levels: tuple[int, ...] = (1, 2, 4), value: Callable[..., Array] = np.max) -> Array:
    """Concatenate adaptive pools of several sizes."""
    return np.concatenate([adaptive(x, (level, level), value).reshape(len(x), -1) for level in levels], axis=1)


def k_max(x: Array, k: int, axis: int = -1) -> Array:
    """Return the k largest values along one axis in their original order."""
    order = np.sort(np.argsort(-x, axis=axis, kind="stable").take(range(k), axis=axis), axis=axis)
    return np.take_along_axis(x, order, axis=axis)
