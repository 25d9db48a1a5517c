"""Operators in NumPy and float64, where the reference evaluator of the package onnx is wrong or computes in float32."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from layertap.types import Array


def _erf(x: Array) -> Array:
    return np.vectorize(math.erf)(x)


def _gelu(x: Array, approximate: str = "none") -> Array:
    if approximate == "tanh":
        return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return x / 2 * (1 + _erf(x / math.sqrt(2)))


def _mean(*inputs: Array) -> Array:
    return np.asarray(sum(inputs[1:], inputs[0])) / len(inputs)


def _mean_variance(x: Array) -> Array:
    centred = x - x.mean(axis=(0, 2, 3), keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=(0, 2, 3), keepdims=True) + 1e-9)


def _lp_norm(x: Array, axis: int = -1, p: int = 2) -> Array:
    return x / np.linalg.norm(x, p, axis=axis, keepdims=True)


def _lrn(x: Array, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> Array:
    channels = x.shape[1]
    sums = [
        (x[:, max(0, c - (size - 1) // 2) : min(channels, c + size // 2 + 1)] ** 2).sum(axis=1) for c in range(channels)
    ]
    return x / (bias + alpha / size * np.stack(sums, axis=1)) ** beta


def _conv_transpose(
    x: Array,
    weights: Array,
    group: int = 1,
    strides: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    output_padding: tuple[int, int] = (0, 0),
) -> Array:
    batch, channels, *places = x.shape
    _, per_group, *kernel = weights.shape
    full = [(n - 1) * s + k + more for n, s, k, more in zip(places, strides, kernel, output_padding, strict=True)]
    result = np.zeros((batch, per_group * group, *full))
    share = channels // group
    for c in range(channels):
        out = slice(c // share * per_group, (c // share + 1) * per_group)
        for i in range(places[0]):
            for j in range(places[1]):
                rows = slice(i * strides[0], i * strides[0] + kernel[0])
                columns = slice(j * strides[1], j * strides[1] + kernel[1])
                result[:, out, rows, columns] += x[:, c, i, j][:, None, None, None] * weights[c]
    return result[:, :, pads[0] : full[0] - pads[2], pads[1] : full[1] - pads[3]]


FORWARD: dict[str, Callable[..., Array]] = {
    "Erf": _erf,
    "Gelu": _gelu,
    "Mean": _mean,
    "MeanVarianceNormalization": _mean_variance,
    "LpNormalization": _lp_norm,
    "LRN": _lrn,
    "ConvTranspose": _conv_transpose,
}
"""Functions of the inputs and attributes, by operator."""


def attributes_of(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes as arguments of a function of `FORWARD`."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in attributes.items()}
