"""Implement losses."""

from __future__ import annotations

import numpy as np

from layertap.types import Array


def cross_entropy(x: Array, index: int) -> Array:
    """Compute the cross-entropy of a softmax over the channels."""
    top = x.max(axis=1, keepdims=True)
    total = np.log(np.exp(x - top).sum(axis=1, keepdims=True)) + top
    return np.asarray(total - x[:, index : index + 1])


def binary_cross_entropy(x: Array, targets: float | list[float]) -> Array:
    """Compute the cross-entropy of a sigmoid of each channel, summed over the channels."""
    right = np.broadcast_to(np.reshape(targets, (-1, 1, 1)), (x.shape[1], 1, 1))
    return np.asarray((np.logaddexp(0, x) - right * x).sum(axis=1, keepdims=True))


def squared_error(x: Array, values: float | list[float]) -> Array:
    """Compute half the squared distance of the channels from values."""
    right = np.broadcast_to(np.reshape(values, (-1, 1, 1)), (x.shape[1], 1, 1))
    return np.asarray(((x - right) ** 2).sum(axis=1, keepdims=True) / 2)
