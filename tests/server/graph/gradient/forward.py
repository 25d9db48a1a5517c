"""Operators in NumPy and float64, where the reference evaluator of the package onnx is wrong or computes in float32."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from layertap.types import Array
from tests.references.activation import erf
from tests.references.convolution import transposed_conv
from tests.references.normalization import lrn, standardized


def _gelu(x: Array, approximate: str = "none") -> Array:
    if approximate == "tanh":
        return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return x / 2 * (1 + erf(x / math.sqrt(2)))


def _mean(*inputs: Array) -> Array:
    return np.asarray(sum(inputs[1:], inputs[0])) / len(inputs)


def _mean_variance(x: Array) -> Array:
    return standardized(x, (0, 2, 3), 1e-9)


def _lp_norm(x: Array, axis: int = -1, p: int = 2) -> Array:
    return x / np.linalg.norm(x, p, axis=axis, keepdims=True)


def _lrn(x: Array, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> Array:
    return lrn(x, size, alpha, beta, bias)


def _conv_transpose(
    x: Array,
    weights: Array,
    group: int = 1,
    strides: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    output_padding: tuple[int, int] = (0, 0),
) -> Array:
    ends = [end - more for end, more in zip(pads[2:], output_padding, strict=True)]
    padding = (pads[0], pads[1], max(ends[0], 0), max(ends[1], 0))
    result = transposed_conv(x, weights, stride=strides, padding=padding, groups=group)
    return np.pad(result, [(0, 0), (0, 0), *((0, max(-end, 0)) for end in ends)])


def _group_norm(x: Array, scale: Array, bias: Array, num_groups: int, epsilon: float = 1e-5) -> Array:
    """Normalize groups of channels in the dtype of x; ONNX's evaluator computes in float32."""
    grouped = x.reshape(len(x), num_groups, -1)
    centred = grouped - grouped.mean(2, keepdims=True)
    normal = (centred / np.sqrt(grouped.var(2, keepdims=True) + epsilon)).reshape(x.shape)
    per_channel = [np.repeat(one, x.shape[1] // len(one)).reshape(-1, *[1] * (x.ndim - 2)) for one in (scale, bias)]
    return np.asarray(normal * per_channel[0] + per_channel[1])


FORWARD: dict[str, Callable[..., Array]] = {
    "Erf": erf,
    "Gelu": _gelu,
    "Mean": _mean,
    "MeanVarianceNormalization": _mean_variance,
    "LpNormalization": _lp_norm,
    "LRN": _lrn,
    "GroupNormalization": _group_norm,
    "ConvTranspose": _conv_transpose,
}
"""Functions of the inputs and attributes, by operator."""


def attributes_of(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes as arguments of a function of `FORWARD`."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in attributes.items()}
