"""Implement activation blocks."""

from __future__ import annotations

import math

import numpy as np

from layertap.types import Array


def relu(x: Array) -> Array:
    """Compute max(x, 0); NaN stays NaN."""
    return np.where(x > 0, x, np.where(np.isnan(x), x, 0.0))


def sigmoid(x: Array) -> Array:
    """Compute 1 / (1 + exp(-x))."""
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


def softmax(x: Array, axis: int = 1) -> Array:
    """Compute softmax along one axis."""
    exponentials = np.exp(x - x.max(axis=axis, keepdims=True))
    return exponentials / exponentials.sum(axis=axis, keepdims=True)


def where_negative(x: Array, below: Array) -> Array:
    """Return ``below`` for negative x, else x."""
    return np.where(x < 0, below, x)


def leaky(x: Array, slope: float | Array) -> Array:
    """Multiply negative values by ``slope``."""
    return where_negative(x, slope * x)


def elu(x: Array, alpha: float = 1.0, scale: float = 1.0) -> Array:
    """Compute ELU, scaled."""
    return scale * where_negative(x, alpha * np.expm1(np.minimum(x, 0)))


def celu(x: Array, alpha: float = 1.0) -> Array:
    """Compute CELU."""
    return where_negative(x, alpha * np.expm1(np.minimum(x, 0) / alpha))


def selu(x: Array) -> Array:
    """Compute SELU."""
    return elu(x, 1.6732632423543772, 1.0507009873554805)


def srelu(x: Array, t_right: Array, a_right: Array, t_left: Array, a_left: Array) -> Array:
    """Compute the S-shaped ReLU: linear pieces outside the thresholds."""
    t_right, a_right, t_left, a_left = (np.reshape(item, (-1, 1, 1)) for item in (t_right, a_right, t_left, a_left))
    right = t_right + a_right * (x - t_right)
    left = t_left + a_left * (x - t_left)
    return np.where(x >= t_right, right, np.where(x <= t_left, left, x))


def softplus(x: Array, beta: float = 1.0) -> Array:
    """Compute log(1 + exp(beta·x)) / beta."""
    return np.logaddexp(0, beta * x) / beta


def erf(x: Array) -> Array:
    """Compute the error function."""
    return np.vectorize(math.erf)(x)


def modulus(x: Array, groups_of: int = 2) -> Array:
    """Compute the Euclidean norm over groups of channels."""
    groups = x.reshape(len(x), -1, groups_of, *x.shape[2:])
    return np.sqrt((groups**2).sum(axis=2))


def maxout(x: Array, pieces: int) -> Array:
    """Compute the maximum over groups of channels."""
    return np.stack([x[:, piece::pieces] for piece in range(pieces)]).max(axis=0)


def glu(x: Array) -> Array:
    """Multiply the first half of the channels by the sigmoid of the second."""
    half = x.shape[1] // 2
    return x[:, :half] * sigmoid(x[:, half:])


def simam(x: Array, e_lambda: float = 1e-4) -> Array:
    """Compute SimAM attention."""
    n = max(x.shape[2] * x.shape[3] - 1, 1)
    d = (x - x.mean(axis=(2, 3), keepdims=True)) ** 2
    variance = d.sum(axis=(2, 3), keepdims=True) / n
    return x * sigmoid(d / (4 * (variance + e_lambda)) + 0.5)
