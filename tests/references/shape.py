"""Implement shape and selection blocks."""

from __future__ import annotations

import numpy as np

from layertap.types import Array


def top_channels(x: Array, k: int, by: str = "mean") -> Array:
    """Return the k channels with the highest score, highest first."""
    strength = {
        "mean": x.mean(axis=(2, 3)),
        "max": x.max(axis=(2, 3)),
        "l2": np.sqrt((x**2).sum(axis=(2, 3))),
    }[by]
    order = np.argsort(-strength, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(x, order[:, :, None, None], axis=1)


def gram(x: Array) -> Array:
    """Compute the Gram matrix of the channels."""
    features = x.reshape(*x.shape[:2], -1)
    return np.einsum("nip,njp->nij", features, features) / features.shape[2]


def stats(x: Array) -> Array:
    """Compute minimum, maximum, mean, standard deviation, fraction of zeros and norm."""
    flat = x.reshape(len(x), -1)
    norm = np.sqrt((flat**2).sum(axis=1))
    return np.stack(
        [flat.min(axis=1), flat.max(axis=1), flat.mean(axis=1), flat.std(axis=1), (flat == 0).mean(axis=1), norm],
        axis=1,
    )


def channel_stats(x: Array) -> Array:
    """Compute the ten statistics of each channel; the rounding error of the mean is 0 in float64."""
    flat = x.reshape(*x.shape[:2], -1)
    finite = np.isfinite(flat)
    count = finite.sum(axis=2)
    known = np.where(finite, flat, 0)
    mean = known.sum(axis=2) / np.maximum(count, 1)
    variance = (np.where(finite, flat - mean[..., None], 0) ** 2).sum(axis=2) / np.maximum(count, 1)
    high = np.where(finite, flat, -np.inf)
    columns = (
        *(count, mean, np.zeros_like(mean), variance),
        *(np.where(finite, flat, np.inf).min(axis=2), high.max(axis=2)),
        *((flat == 0).sum(axis=2), np.isnan(flat).sum(axis=2), np.isinf(flat).sum(axis=2), high.argmax(axis=2)),
    )
    return np.stack(columns, axis=2)


def resize_nearest(x: Array, height: int, width: int) -> Array:
    """Resize with the nearest value."""
    rows = np.arange(height) * x.shape[2] // height
    columns = np.arange(width) * x.shape[3] // width
    return x[:, :, rows][:, :, :, columns]


def resize_linear(x: Array, height: int, width: int) -> Array:
    """Resize with linear interpolation."""
    return _linear(_linear(x, height, 2), width, 3)


def _linear(x: Array, size: int, axis: int) -> Array:
    """Interpolate linearly along one axis."""
    old = x.shape[axis]
    place = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, old - 1)
    share = (place - low).reshape([-1 if index == axis else 1 for index in range(x.ndim)])
    return x.take(low, axis=axis) * (1 - share) + x.take(high, axis=axis) * share


def resize_cubic(x: Array, height: int, width: int) -> Array:
    """Resize with cubic interpolation."""
    return _cubic(_cubic(x, height, 2), width, 3)


def _cubic(x: Array, size: int, axis: int) -> Array:
    """Interpolate position by position with Keys' kernel (a = -0.75) over four neighbours, repeating the border."""
    moved = np.moveaxis(x, axis, -1)
    old, a = moved.shape[-1], -0.75
    result = np.zeros((*moved.shape[:-1], size))
    for index in range(size):
        place = (index + 0.5) * old / size - 0.5
        for neighbour in range(int(np.floor(place)) - 1, int(np.floor(place)) + 3):
            d = abs(place - neighbour)
            weight = (a + 2) * d**3 - (a + 3) * d**2 + 1 if d <= 1 else a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
            result[..., index] += weight * moved[..., min(max(neighbour, 0), old - 1)]
    return np.moveaxis(result, -1, axis)
