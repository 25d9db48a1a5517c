"""Implement convolution and linear blocks, and their initial weights."""

from __future__ import annotations

import itertools
import math

import numpy as np

from layertap.types import Array
from tests.references.pooling import same_padding

Pair = tuple[int, int]


def conv(
    x: Array,
    weight: Array,
    bias: Array | float = 0.0,
    stride: Pair = (1, 1),
    padding: str | tuple[int, int, int, int] = "valid",
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Array:
    """Compute each output value separately: the sum over a filter placed on the padded map."""
    out, inputs, *kernel = weight.shape
    if isinstance(padding, str):
        sides = [
            same_padding(x.shape[2 + i], kernel[i], stride[i], dilation[i], lower=padding == "same_lower")
            if padding != "valid"
            else (0, 0)
            for i in range(2)
        ]
    else:
        sides = [(padding[0], padding[2]), (padding[1], padding[3])]
    padded = np.pad(x, ((0, 0), (0, 0), *sides))
    spans = [dilation[i] * (kernel[i] - 1) + 1 for i in range(2)]
    sizes = [(padded.shape[2 + i] - spans[i]) // stride[i] + 1 for i in range(2)]
    result = np.empty((len(x), out, *sizes))
    for o, row, column in itertools.product(range(out), *map(range, sizes)):
        first = o // (out // groups) * inputs
        top, left = row * stride[0], column * stride[1]
        window = padded[
            :, first : first + inputs, top : top + spans[0] : dilation[0], left : left + spans[1] : dilation[1]
        ]
        result[:, o, row, column] = (window * weight[o]).sum(axis=(1, 2, 3)) + np.broadcast_to(bias, (out,))[o]
    return result


def transposed_conv(
    x: Array,
    weight: Array,
    bias: Array | float = 0.0,
    stride: Pair = (1, 1),
    padding: str | tuple[int, int, int, int] = "valid",
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Array:
    """Add each input value's scaled filter to the output, then crop the padding."""
    channels, a_group, *kernel = weight.shape
    out = a_group * groups
    spans = [dilation[i] * (kernel[i] - 1) + 1 for i in range(2)]
    full = np.zeros((len(x), out, *((x.shape[2 + i] - 1) * stride[i] + max(spans[i], stride[i]) for i in range(2))))
    for i, row, column, u, v in itertools.product(*map(range, (channels, *x.shape[2:], *kernel))):
        first = i // (channels // groups) * a_group
        place = (row * stride[0] + u * dilation[0], column * stride[1] + v * dilation[1])
        full[:, first : first + a_group, place[0], place[1]] += x[:, i, row, column, None] * weight[i, :, u, v]
    slices = []
    for i in range(2):
        length = (x.shape[2 + i] - 1) * stride[i] + spans[i]
        before, after = 0, 0
        if isinstance(padding, tuple):
            before, after = padding[i], padding[i + 2]
        elif padding != "valid":
            length, total = x.shape[2 + i] * stride[i], spans[i] - stride[i]
            before = 0 if total < 0 else (total + (padding == "same_lower")) // 2
            slices.append(slice(before, before + length))
            continue
        slices.append(slice(before, length - after))
    return full[:, :, slices[0], slices[1]] + np.broadcast_to(bias, (out,))[:, None, None]


def gabor_filters(
    kernel: Pair,
    orientations: int,
    scales: int = 1,
    wavelength: float = 4.0,
    step: float = 2.0,
    bandwidth: float = 1.0,
    aspect: float = 0.5,
) -> Array:
    """Return pairs of an even and an odd filter by Jones & Palmer's formula, each with mean 0 under the window."""
    filters = np.empty((scales * orientations * 2, *kernel))
    for index, (scale, turn, phase) in enumerate(itertools.product(range(scales), range(orientations), range(2))):
        length = wavelength * step**scale
        sigma = length / math.pi * math.sqrt(math.log(2) / 2) * (2**bandwidth + 1) / (2**bandwidth - 1)
        angle = math.pi * turn / orientations
        window, wave = np.empty(kernel), np.empty(kernel)
        for row, column in itertools.product(*map(range, kernel)):
            x, y = column - (kernel[1] - 1) / 2, row - (kernel[0] - 1) / 2
            u = x * math.cos(angle) + y * math.sin(angle)
            v = -x * math.sin(angle) + y * math.cos(angle)
            window[row, column] = math.exp(-(u * u + aspect**2 * v * v) / (2 * sigma**2))
            wave[row, column] = (math.sin if phase else math.cos)(2 * math.pi * u / length)
        mean = (window * wave).sum() / window.sum()
        filters[index] = 2 * window * (wave - mean) / window.sum()
    return filters


def gaussian_filter(kernel: Pair, sigma: float) -> Array:
    """Return a Gaussian window with sum 1."""
    rows, columns = (np.exp(-((np.arange(k) - (k - 1) / 2) ** 2) / (2 * sigma**2)) for k in kernel)
    window = np.outer(rows, columns)
    return window / window.sum()


def laplacian_filter(kernel: Pair, sigma: float) -> Array:
    """Return the sum of the Gaussian's second derivatives along both axes, with the truncated window's mean removed."""
    y, x = (np.arange(k) - (k - 1) / 2 for k in kernel)
    second = (x[None, :] ** 2 - sigma**2) / sigma**4 + (y[:, None] ** 2 - sigma**2) / sigma**4
    filter_ = second * gaussian_filter(kernel, sigma)
    return filter_ - filter_.mean()
