"""Implement normalization blocks."""

from __future__ import annotations

import itertools
import math

import numpy as np

from layertap.types import Array


def l1(x: Array, axis: int = 1, eps: float = 1e-12) -> Array:
    """Divide by the L1 norm along one axis."""
    return x / np.maximum(np.abs(x).sum(axis=axis, keepdims=True), eps)


def l2(x: Array, axis: int = 1, eps: float = 1e-12) -> Array:
    """Divide by the L2 norm along one axis."""
    return x / np.maximum(np.sqrt((x * x).sum(axis=axis, keepdims=True)), eps)


def z_score(x: Array, scope: str = "sample", ddof: int = 0, eps: float = 1e-12) -> Array:
    """Subtract the mean and divide by the standard deviation over a scope."""
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


def channelwise(values: object) -> Array:
    """Return values as an array that broadcasts over channels."""
    return np.reshape(np.asarray(values, np.float64), (-1, 1, 1))


def batch_norm(
    x: Array, mean: object, variance: object, scale: object = 1, bias: object = 0, eps: float = 1e-5
) -> Array:
    """Normalize with given statistics of each channel."""
    mean, variance, scale, bias = map(channelwise, (mean, variance, scale, bias))
    return scale * (x - mean) / np.sqrt(variance + eps) + bias


def standardized(x: Array, axes: tuple[int, ...], eps: float = 1e-5, scale: object = 1, bias: object = 0) -> Array:
    """Normalize to mean 0 and variance 1 over the axes, then scale and shift."""
    centred = x - x.mean(axis=axes, keepdims=True)
    return channelwise(scale) * centred / np.sqrt((centred**2).mean(axis=axes, keepdims=True) + eps) + channelwise(bias)


def group_norm(x: Array, groups: int) -> Array:
    """Normalize groups of channels."""
    parts = np.split(x, groups, axis=1)
    return np.concatenate([standardized(part, (1, 2, 3)) for part in parts], axis=1)


def rms_norm(x: Array, axes: tuple[int, ...] = (1, 2, 3)) -> Array:
    """Divide by the root mean square over the axes."""
    return x / np.sqrt((x**2).mean(axis=axes, keepdims=True) + 1e-5)


def lrn(x: Array, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Array:
    """Compute local response normalization across channels."""
    result = np.empty_like(x)
    for channel in range(x.shape[1]):
        first, last = max(0, channel - (size - 1) // 2), min(x.shape[1], channel + math.ceil((size - 1) / 2) + 1)
        energy = (x[:, first:last] ** 2).sum(axis=1)
        result[:, channel] = x[:, channel] / (k + alpha / size * energy) ** beta
    return result


def local_mean(plane: Array, weights: Array) -> Array:
    """Return the weighted mean around each position of an N×H×W plane, over the positions inside the plane only."""
    size = len(weights)
    reach = (size - 1) // 2
    result = np.empty_like(plane)
    for row, column in np.ndindex(plane.shape[1:]):
        total, norm = 0.0, 0.0
        for i, j in itertools.product(range(size), repeat=2):
            h, w = row + i - reach, column + j - reach
            if 0 <= h < plane.shape[1] and 0 <= w < plane.shape[2]:
                total = total + weights[i, j] * plane[:, h, w]
                norm += weights[i, j]
        result[:, row, column] = total / norm
    return result


def gaussian(size: int, sigma: float) -> Array:
    """Return a square Gaussian window."""
    middle = (size - 1) / 2
    return np.array(
        [
            [math.exp(-((i - middle) ** 2 + (j - middle) ** 2) / (2 * sigma**2)) for j in range(size)]
            for i in range(size)
        ]
    )


def lcn(x: Array, size: int = 9, sigma: float | None = None) -> Array:
    """Compute local contrast normalization."""
    weights = gaussian(size, sigma or size / 4)
    v = x - local_mean(x.mean(axis=1), weights)[:, None]
    s = np.sqrt(local_mean((v**2).mean(axis=1), weights))
    divisor = np.maximum(s, s.mean(axis=(1, 2), keepdims=True))[:, None]
    return v / np.where(divisor == 0, 1, divisor)


def divisive_norm(x: Array, size: int = 9, sigma: float = 1.0) -> Array:
    """Divide by the local mean magnitude plus ``sigma``."""
    return x / (sigma + local_mean(np.abs(x).mean(axis=1), np.ones((size, size))))[:, None]


def min_max(x: Array, axes: tuple[int, ...] = (1, 2, 3), low: float = 0.0, high: float = 1.0) -> Array:
    """Scale the range over the axes to ``low`` … ``high``."""
    smallest, largest = x.min(axis=axes, keepdims=True), x.max(axis=axes, keepdims=True)
    extent = np.where(largest == smallest, 1, largest - smallest)
    return (x - smallest) / extent * (high - low) + low
