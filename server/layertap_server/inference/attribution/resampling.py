"""Bilinear interpolation of maps between the positions of a layer and the pixels of the image input."""

from __future__ import annotations

import numpy as np

from layertap.types import Array


def resize_maps(maps: Array, height: int, width: int) -> Array:
    """Return maps …×h×w at another size, with the corners' outer edges aligned and the borders repeated."""
    rows, columns = (
        _weights(count, size).astype(maps.dtype) for count, size in zip(maps.shape[-2:], (height, width), strict=True)
    )
    return np.asarray(rows @ (maps @ columns.T))


def _weights(count: int, size: int) -> Array:
    """Return the weights of ``count`` values for each of ``size`` positions, float64 size×count."""
    place = np.clip((np.arange(size) + 0.5) * count / size - 0.5, 0, count - 1)
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, count - 1)
    weights = np.zeros((size, count))
    weights[np.arange(size), low] += 1 - (place - low)
    weights[np.arange(size), high] += place - low
    return weights
