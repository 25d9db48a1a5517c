"""Construct blocks: one function for each. Generated from the catalogue by ``make generated``; do not edit.

Each function returns a `layertap.types.Block`. It raises `layertap.errors.BadParameterError` if a value is invalid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from layertap.blocks.make import make
from layertap.types import Array, Block

__all__ = [
    "abs",
    "adaptive_average_pool",
    "adaptive_max_pool",
    "add_vector",
    "average_pool",
    "avg_max",
    "batch_norm",
    "binary_cross_entropy",
    "cast",
    "celu",
    "channel_stats",
    "clip",
    "conv",
    "crelu",
    "crop",
    "cross_entropy",
    "depthwise_conv",
    "divisive_norm",
    "dynamic_k_max",
    "elu",
    "erf",
    "flatten",
    "gap",
    "gelu",
    "gem",
    "global_lp",
    "global_min",
    "global_std",
    "global_sum",
    "glu",
    "gmp",
    "gram",
    "group_norm",
    "half_square",
    "half_wave",
    "hard_logistic",
    "hard_sigmoid",
    "hard_swish",
    "hard_tanh",
    "hardshrink",
    "identity",
    "instance_norm",
    "k_max",
    "keep_channels",
    "l1",
    "l2",
    "layer_norm",
    "lcn",
    "leaky_relu",
    "linear",
    "log_sigmoid",
    "log_softmax",
    "lp_pool",
    "lrn",
    "max_pool",
    "max_unpool",
    "maxout",
    "mean_variance",
    "min_max",
    "min_pool",
    "mish",
    "mixed_pool",
    "modulus",
    "prelu",
    "quantize",
    "quick_gelu",
    "read_as",
    "relu",
    "relu6",
    "reshape",
    "resize",
    "rms_norm",
    "rrelu",
    "scale_channels",
    "select",
    "selu",
    "sigmoid",
    "signed_sqrt",
    "simam",
    "softmax",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "sort_pool",
    "spatial_pyramid",
    "square",
    "squared_error",
    "squeeze",
    "srelu",
    "stats",
    "stochastic_pool",
    "sum_pool",
    "swish",
    "tanh",
    "tanhshrink",
    "thresholded_relu",
    "tokens",
    "top_channels",
    "transpose",
    "transposed_conv",
    "two_path",
    "two_path_square",
    "z_score",
    "zero_channels",
]


def identity() -> Block:
    """Leave the values unchanged.

    ``x``
    """
    return make("identity")


def sigmoid() -> Block:
    """Map every value into (0, 1), as for a probability or a gate. Large values of either sign become nearly equal.

    ``1 / (1 + exp(-x))``
    """
    return make("sigmoid")


def hard_sigmoid(alpha: float = 0.16666666666666666, *, beta: float = 0.5) -> Block:
    """Approximate the sigmoid by three straight lines: cheaper, and exactly 0 and 1 at its ends.

    ``clip(alpha·x + beta, 0, 1)``

    Args:
        alpha: slope between the bounds (number).
        beta: value at 0 (number).
    """
    return make("hard_sigmoid", alpha=alpha, beta=beta)


def hard_logistic(alpha: float = 0.25, *, beta: float = 0.5) -> Block:
    """Approximate the sigmoid by three straight lines with the sigmoid's own slope at 0.

    ``clip(alpha·x + beta, 0, 1)``

    Args:
        alpha: slope between the bounds (number).
        beta: value at 0 (number).
    """
    return make("hard_logistic", alpha=alpha, beta=beta)


def tanh() -> Block:
    """Map every value into (-1, 1), symmetrically around zero.

    ``tanh x``
    """
    return make("tanh")


def hard_tanh(low: float = -1.0, *, high: float = 1.0) -> Block:
    """Clip the values to [low, high], by default to [-1, 1].

    ``clip(x, low, high)``

    Args:
        low: lower bound (number).
        high: upper bound (number).
    """
    return make("hard_tanh", low=low, high=high)


def relu() -> Block:
    """Keep positive values and set the others to 0 (rectified linear unit). A unit that is never positive is dead.

    ``max(x, 0)``

    Source: Nair & Hinton 2010.
    """
    return make("relu")


def relu6() -> Block:
    """Clip the values to [0, 6]; the upper bound keeps the values of quantized networks in range.

    ``clip(x, 0, 6)``

    Source: Krizhevsky 2010.
    """
    return make("relu6")


def clip(low: float, high: float) -> Block:
    """Clip the values to bounds of your own.

    ``clip(x, low, high)``

    Args:
        low: lower bound (number).
        high: upper bound (number).
    """
    return make("clip", low=low, high=high)


def thresholded_relu(threshold: float = 1.0) -> Block:
    """Keep values above a threshold and set the others to 0; the result jumps at the threshold.

    ``x if x > threshold else 0``

    Source: Konda et al. 2014.

    Args:
        threshold: values up to this become 0 (number, at least 0).
    """
    return make("thresholded_relu", threshold=threshold)


def half_wave(threshold: float = 0.0) -> Block:
    """Subtract a threshold and set negative results to 0 (half-wave rectification).

    ``max(x - threshold, 0)``

    Args:
        threshold: the threshold (number).
    """
    return make("half_wave", threshold=threshold)


def leaky_relu(slope: float = 0.01) -> Block:
    """Keep positive values and multiply negative ones by a small slope, so that no unit dies.

    ``x if x >= 0 else slope·x``

    Source: Maas et al. 2013.

    Args:
        slope: slope for negative values (number).
    """
    return make("leaky_relu", slope=slope)


def prelu(slope: float | Sequence[float]) -> Block:
    """Apply leaky_relu with one slope per channel.

    ``x if x >= 0 else slope[c]·x``

    Source: He et al. 2015.

    Args:
        slope: slope for negative values (number, or one per channel).
    """
    return make("prelu", slope=slope)


def rrelu(
    lower: float | None = None,
    *,
    upper: float | None = None,
    mode: Literal["expectation", "sample"] = "expectation",
    seed: int = 0,
    form: Literal["factor", "divisor"] = "factor",
) -> Block:
    """Apply leaky_relu with a random slope per element, or with the expected slope.

    ``x if x >= 0 else a·x, a ~ U(lower, upper); form=divisor: x / a``

    Source: Xu et al. 2015.

    Args:
        lower: smallest slope or divisor; default 1/8 for slopes, 3 for divisors (number).
        upper: largest slope or divisor; default 1/3 for slopes, 8 for divisors (number).
        mode: use the mean slope, or draw one for every element (one of expectation, sample).
        seed: seed of the random numbers (integer, at least 0, at most 2.14748e+09).
        form: multiply by a or divide (one of factor, divisor).
    """
    return make("rrelu", lower=lower, upper=upper, mode=mode, seed=seed, form=form)


def elu(alpha: float = 1.0) -> Block:
    """Keep positive values and let negative ones approach -alpha smoothly: means near zero, no dead units.

    ``x if x >= 0 else alpha·(exp(x) - 1)``

    Source: Clevert et al. 2015.

    Args:
        alpha: negative of the lower bound (number).
    """
    return make("elu", alpha=alpha)


def selu() -> Block:
    """Apply elu with the two constants that preserve mean 0 and variance 1 over many layers.

    ``1.0507·(x if x >= 0 else 1.67326·(exp(x) - 1))``

    Source: Klambauer et al. 2017.
    """
    return make("selu")


def celu(alpha: float = 1.0) -> Block:
    """Apply elu with a slope that is continuous for every alpha.

    ``x if x >= 0 else alpha·(exp(x / alpha) - 1)``

    Source: Barron 2017.

    Args:
        alpha: negative of the lower bound (number, at least 0.001).
    """
    return make("celu", alpha=alpha)


def srelu(
    t_right: float | Sequence[float],
    a_right: float | Sequence[float],
    t_left: float | Sequence[float],
    a_left: float | Sequence[float],
) -> Block:
    """Apply three straight lines with knees and slopes per channel.

    ``t_right + a_right·(x - t_right) above t_right, t_left + a_left·(x - t_left) below t_left, else x``

    Source: Jin et al. 2016.

    Args:
        t_right: position of the right knee (number, or one per channel).
        a_right: slope above the right knee (number, or one per channel).
        t_left: position of the left knee (number, or one per channel).
        a_left: slope below the left knee (number, or one per channel).
    """
    return make("srelu", t_right=t_right, a_right=a_right, t_left=t_left, a_left=a_left)


def crelu() -> Block:
    """Rectify the values and the negated values and concatenate both: nothing is lost, the channels double.

    ``concat(max(x, 0), max(-x, 0)) along the channels``

    Shape: N×C×… to N×2C×….

    Source: Shang et al. 2016.
    """
    return make("crelu")


def two_path(threshold: float = 0.0) -> Block:
    """Rectify the values and the negated values above a threshold and concatenate both (ON and OFF paths).

    ``concat(max(x - threshold, 0), max(-x - threshold, 0)) along the channels``

    Shape: N×C×… to N×2C×….

    Args:
        threshold: the threshold (number, at least 0).
    """
    return make("two_path", threshold=threshold)


def half_square() -> Block:
    """Square positive values and set the others to 0 (half-squaring): a model of simple cells.

    ``max(x, 0)²``

    Source: Heeger 1992.
    """
    return make("half_square")


def two_path_square() -> Block:
    """Apply half_square to the values and to the negated values and concatenate both; their sum is the energy.

    ``concat(max(x, 0)², max(-x, 0)²) along the channels``

    Shape: N×C×… to N×2C×….
    """
    return make("two_path_square")


def abs() -> Block:
    """Take the absolute value of every element.

    ``|x|``

    Source: Jarrett et al. 2009.
    """
    return make("abs")


def square() -> Block:
    """Square every value (energy).

    ``x²``
    """
    return make("square")


def modulus(groups_of: int = 2) -> Block:
    """Take the Euclidean norm of groups of channels; for quadrature pairs, the local energy independent of phase.

    ``sqrt(sum x² over groups of channels)``

    Shape: N×C×… to N×C/groups_of×….

    Source: Adelson & Bergen 1985.

    Args:
        groups_of: number of neighbouring channels per group (integer, at least 1, at most 4096).
    """
    return make("modulus", groups_of=groups_of)


def softplus(beta: float = 1.0) -> Block:
    """Apply a smooth version of relu.

    ``ln(1 + exp(beta·x)) / beta``

    Source: Dugas et al. 2001.

    Args:
        beta: sharpness of the bend at 0 (number, at least 0.001).
    """
    return make("softplus", beta=beta)


def softsign() -> Block:
    """Map every value into (-1, 1) like tanh, but approach the bounds much more slowly.

    ``x / (1 + |x|)``
    """
    return make("softsign")


def softshrink(lambd: float = 0.5) -> Block:
    """Move every value towards zero by lambd; smaller ones become 0 (soft thresholding).

    ``x - lambd above lambd, x + lambd below -lambd, else 0``

    Args:
        lambd: distance that values move towards 0 (number, at least 0).
    """
    return make("softshrink", lambd=lambd)


def hardshrink(lambd: float = 0.5) -> Block:
    """Set small values to 0 and keep the others (hard thresholding).

    ``x where |x| > lambd, else 0``

    Args:
        lambd: absolute values up to this become 0 (number, at least 0).
    """
    return make("hardshrink", lambd=lambd)


def tanhshrink() -> Block:
    """Subtract tanh from every value: nearly 0 around zero, nearly linear for large values.

    ``x - tanh x``
    """
    return make("tanhshrink")


def log_sigmoid() -> Block:
    """Take the logarithm of the sigmoid, computed without overflow.

    ``-ln(1 + exp(-x))``
    """
    return make("log_sigmoid")


def erf() -> Block:
    """Apply the error function: like tanh, but it approaches the bounds faster.

    ``erf x``
    """
    return make("erf")


def softmax(axis: int = 1) -> Block:
    """Convert the values along an axis to probabilities.

    ``exp(x - max x) / sum exp(x - max x)``

    Args:
        axis: the axis; 1 is the channels (integer, at least -8, at most 7).
    """
    return make("softmax", axis=axis)


def log_softmax(axis: int = 1) -> Block:
    """Take the logarithm of softmax, computed without overflow.

    ``x - max x - ln sum exp(x - max x)``

    Args:
        axis: the axis; 1 is the channels (integer, at least -8, at most 7).
    """
    return make("log_softmax", axis=axis)


def softmin(axis: int = 1) -> Block:
    """Apply softmax to the negated values: the smallest value gets the largest probability.

    ``softmax(-x)``

    Args:
        axis: the axis; 1 is the channels (integer, at least -8, at most 7).
    """
    return make("softmin", axis=axis)


def swish(beta: float = 1.0) -> Block:
    """Multiply every value by its own sigmoid.

    ``x·sigmoid(beta·x)``

    Source: Ramachandran et al. 2017.

    Args:
        beta: factor of x in the sigmoid (number).
    """
    return make("swish", beta=beta)


def hard_swish() -> Block:
    """Multiply every value by its own hard sigmoid.

    ``x·clip(x / 6 + 1/2, 0, 1)``

    Source: Howard et al. 2019.
    """
    return make("hard_swish")


def mish() -> Block:
    """Multiply every value by the tanh of its softplus: a smoother swish.

    ``x·tanh(ln(1 + exp(x)))``

    Source: Misra 2019.
    """
    return make("mish")


def gelu(approximate: Literal["none", "tanh"] = "none") -> Block:
    """Multiply every value by the normal distribution function at that value: the activation of transformers.

    ``x·Φ(x); tanh: x/2·(1 + tanh(sqrt(2/π)·(x + 0.044715·x³)))``

    Source: Hendrycks & Gimpel 2016.

    Args:
        approximate: tanh selects the cheaper formula (one of none, tanh).
    """
    return make("gelu", approximate=approximate)


def quick_gelu() -> Block:
    """Approximate gelu by a sigmoid, as in the networks of CLIP.

    ``x·sigmoid(1.702·x)``
    """
    return make("quick_gelu")


def maxout(pieces: int) -> Block:
    """Take the maximum of each group of neighbouring channels.

    ``max over each group of channels``

    Shape: N×C×… to N×C/pieces×….

    Source: Goodfellow et al. 2013.

    Args:
        pieces: number of neighbouring channels per group (integer, at least 1, at most 4096).
    """
    return make("maxout", pieces=pieces)


def glu() -> Block:
    """Multiply the first half of the channels by the sigmoid of the second half (gated linear unit).

    ``a·sigmoid(b), a and b the halves of the channels``

    Shape: N×C×… to N×C/2×….

    Source: Dauphin et al. 2017.
    """
    return make("glu")


def simam(e_lambda: float = 0.0001) -> Block:
    """Weight each value by how much it differs from its map's mean: attention without learned parameters.

    ``x·sigmoid((x - mean)² / (4·(variance + e_lambda)) + 1/2), over H×W, variance with n - 1``

    Source: Yang et al. 2021.

    Args:
        e_lambda: added to the variance (number, at least 0).
    """
    return make("simam", e_lambda=e_lambda)


def max_pool(
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    dilation: int | Sequence[int] = (1, 1),
    padding: Literal["valid", "same", "same_lower"] | int | Sequence[int] = "valid",
    ceil: bool = False,
) -> Block:
    """Take the maximum of each window: the result tolerates small shifts.

    ``max x``

    Shape: N×C×H×W to N×C×H'×W', N×C×T and N×C×D×H×W alike; valid: floor((i - (d(k-1)+1)) / s) + 1 per axis, same:
            ceil(i / s).

    Args:
        kernel: size of the window (integer or [h, w], at least 1, at most 1024).
        stride: step of the window; by default the kernel size (integer or [h, w], at least 1, at most 1024).
        dilation: distance between the elements of a window (integer or [h, w], at least 1, at most 1024).
        padding: same adds an extra row at the end, same_lower at the start; padding is never the maximum (valid |
            same | same_lower, an integer, [h, w] or [top, left, bottom, right], at least 0, at most 1024).
        ceil: keep a last window that exceeds the map (true or false).
    """
    return make("max_pool", kernel=kernel, stride=stride, dilation=dilation, padding=padding, ceil=ceil)


def min_pool(
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    dilation: int | Sequence[int] = (1, 1),
    padding: Literal["valid", "same", "same_lower"] | int | Sequence[int] = "valid",
    ceil: bool = False,
) -> Block:
    """Take the minimum of each window.

    ``min x``

    Shape: N×C×H×W to N×C×H'×W', N×C×T and N×C×D×H×W alike; valid: floor((i - (d(k-1)+1)) / s) + 1 per axis, same:
            ceil(i / s).

    Args:
        kernel: size of the window (integer or [h, w], at least 1, at most 1024).
        stride: step of the window; by default the kernel size (integer or [h, w], at least 1, at most 1024).
        dilation: distance between the elements of a window (integer or [h, w], at least 1, at most 1024).
        padding: same adds an extra row at the end, same_lower at the start; padding is never the maximum (valid |
            same | same_lower, an integer, [h, w] or [top, left, bottom, right], at least 0, at most 1024).
        ceil: keep a last window that exceeds the map (true or false).
    """
    return make("min_pool", kernel=kernel, stride=stride, dilation=dilation, padding=padding, ceil=ceil)


def average_pool(
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    dilation: int | Sequence[int] = (1, 1),
    padding: Literal["valid", "same", "same_lower"] | int | Sequence[int] = "valid",
    ceil: bool = False,
    count_include_pad: bool = False,
) -> Block:
    """Average each window: smooth, and every value contributes.

    ``mean x``

    Shape: N×C×H×W to N×C×H'×W', N×C×T and N×C×D×H×W alike; valid: floor((i - (d(k-1)+1)) / s) + 1 per axis, same:
            ceil(i / s).

    Args:
        kernel: size of the window (integer or [h, w], at least 1, at most 1024).
        stride: step of the window; by default the kernel size (integer or [h, w], at least 1, at most 1024).
        dilation: distance between the elements of a window (integer or [h, w], at least 1, at most 1024).
        padding: same adds an extra row at the end, same_lower at the start; padding is never the maximum (valid |
            same | same_lower, an integer, [h, w] or [top, left, bottom, right], at least 0, at most 1024).
        ceil: keep a last window that exceeds the map (true or false).
        count_include_pad: count padding as zeros (true or false).
    """
    return make(
        "average_pool",
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        padding=padding,
        ceil=ceil,
        count_include_pad=count_include_pad,
    )


def sum_pool(
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    dilation: int | Sequence[int] = (1, 1),
    padding: Literal["valid", "same", "same_lower"] | int | Sequence[int] = "valid",
    ceil: bool = False,
) -> Block:
    """Sum each window.

    ``sum x``

    Shape: N×C×H×W to N×C×H'×W', N×C×T and N×C×D×H×W alike; valid: floor((i - (d(k-1)+1)) / s) + 1 per axis, same:
            ceil(i / s).

    Args:
        kernel: size of the window (integer or [h, w], at least 1, at most 1024).
        stride: step of the window; by default the kernel size (integer or [h, w], at least 1, at most 1024).
        dilation: distance between the elements of a window (integer or [h, w], at least 1, at most 1024).
        padding: same adds an extra row at the end, same_lower at the start; padding is never the maximum (valid |
            same | same_lower, an integer, [h, w] or [top, left, bottom, right], at least 0, at most 1024).
        ceil: keep a last window that exceeds the map (true or false).
    """
    return make("sum_pool", kernel=kernel, stride=stride, dilation=dilation, padding=padding, ceil=ceil)


def lp_pool(
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    dilation: int | Sequence[int] = (1, 1),
    padding: Literal["valid", "same", "same_lower"] | int | Sequence[int] = "valid",
    ceil: bool = False,
    p: float = 2.0,
) -> Block:
    """Take the p-norm of each window: from the sum of absolute values (p = 1) to nearly their maximum (large p).

    ``(sum |x|^p)^(1/p)``

    Shape: N×C×H×W to N×C×H'×W', N×C×T and N×C×D×H×W alike; valid: floor((i - (d(k-1)+1)) / s) + 1 per axis, same:
            ceil(i / s).

    Source: Sermanet et al. 2012.

    Args:
        kernel: size of the window (integer or [h, w], at least 1, at most 1024).
        stride: step of the window; by default the kernel size (integer or [h, w], at least 1, at most 1024).
        dilation: distance between the elements of a window (integer or [h, w], at least 1, at most 1024).
        padding: same adds an extra row at the end, same_lower at the start; padding is never the maximum (valid |
            same | same_lower, an integer, [h, w] or [top, left, bottom, right], at least 0, at most 1024).
        ceil: keep a last window that exceeds the map (true or false).
        p: exponent (number, at least 0.01, at most 10).
    """
    return make("lp_pool", kernel=kernel, stride=stride, dilation=dilation, padding=padding, ceil=ceil, p=p)


def stochastic_pool(
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    dilation: int | Sequence[int] = (1, 1),
    padding: Literal["valid", "same", "same_lower"] | int | Sequence[int] = "valid",
    ceil: bool = False,
    mode: Literal["expectation", "sample"] = "expectation",
    seed: int = 0,
) -> Block:
    """Draw one value per window in proportion to its size, or take the expectation. Negative values count as 0.

    ``drawn with probability x / sum x; expectation: sum x² / sum x``

    Shape: N×C×H×W to N×C×H'×W', N×C×T and N×C×D×H×W alike; valid: floor((i - (d(k-1)+1)) / s) + 1 per axis, same:
            ceil(i / s).

    Source: Zeiler & Fergus 2013.

    Args:
        kernel: size of the window (integer or [h, w], at least 1, at most 1024).
        stride: step of the window; by default the kernel size (integer or [h, w], at least 1, at most 1024).
        dilation: distance between the elements of a window (integer or [h, w], at least 1, at most 1024).
        padding: same adds an extra row at the end, same_lower at the start; padding is never the maximum (valid |
            same | same_lower, an integer, [h, w] or [top, left, bottom, right], at least 0, at most 1024).
        ceil: keep a last window that exceeds the map (true or false).
        mode: take the expected value, or draw one for every window (one of expectation, sample).
        seed: seed of the random numbers (integer, at least 0, at most 2.14748e+09).
    """
    return make(
        "stochastic_pool",
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        padding=padding,
        ceil=ceil,
        mode=mode,
        seed=seed,
    )


def mixed_pool(
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    dilation: int | Sequence[int] = (1, 1),
    padding: Literal["valid", "same", "same_lower"] | int | Sequence[int] = "valid",
    ceil: bool = False,
    max_weight: float = 0.5,
) -> Block:
    """Combine the maximum and the mean of each window.

    ``max_weight·max x + (1 - max_weight)·mean x``

    Shape: N×C×H×W to N×C×H'×W', N×C×T and N×C×D×H×W alike; valid: floor((i - (d(k-1)+1)) / s) + 1 per axis, same:
            ceil(i / s).

    Source: Lee et al. 2016.

    Args:
        kernel: size of the window (integer or [h, w], at least 1, at most 1024).
        stride: step of the window; by default the kernel size (integer or [h, w], at least 1, at most 1024).
        dilation: distance between the elements of a window (integer or [h, w], at least 1, at most 1024).
        padding: same adds an extra row at the end, same_lower at the start; padding is never the maximum (valid |
            same | same_lower, an integer, [h, w] or [top, left, bottom, right], at least 0, at most 1024).
        ceil: keep a last window that exceeds the map (true or false).
        max_weight: weight of the maximum (number, at least 0, at most 1).
    """
    return make(
        "mixed_pool", kernel=kernel, stride=stride, dilation=dilation, padding=padding, ceil=ceil, max_weight=max_weight
    )


def sort_pool(
    kernel: int | Sequence[int],
    *,
    scores: Sequence[float],
    stride: int | Sequence[int] | None = None,
    dilation: int | Sequence[int] = (1, 1),
    padding: Literal["valid", "same", "same_lower"] | int | Sequence[int] = "valid",
    ceil: bool = False,
) -> Block:
    """Sum each window's values weighted by rank; includes maximum, mean and minimum as special cases. If a window at the
    border has fewer values than scores, the scores of the last ranks are dropped.

    ``sum w_r·x_(r), x sorted from largest to smallest, w = softmax(scores)``

    Shape: N×C×H×W to N×C×H'×W', N×C×T and N×C×D×H×W alike; valid: floor((i - (d(k-1)+1)) / s) + 1 per axis, same:
            ceil(i / s).

    Source: Kumar 2018.

    Args:
        kernel: size of the window (integer or [h, w], at least 1, at most 1024).
        stride: step of the window; by default the kernel size (integer or [h, w], at least 1, at most 1024).
        dilation: distance between the elements of a window (integer or [h, w], at least 1, at most 1024).
        padding: same adds an extra row at the end, same_lower at the start; padding is never the maximum (valid |
            same | same_lower, an integer, [h, w] or [top, left, bottom, right], at least 0, at most 1024).
        ceil: keep a last window that exceeds the map (true or false).
        scores: one score per element of the window (list of numbers).
    """
    return make("sort_pool", kernel=kernel, stride=stride, dilation=dilation, padding=padding, ceil=ceil, scores=scores)


def max_unpool() -> Block:
    """Put each value back where the last max_pool found it, with zeros elsewhere. Several max_unpools undo several
    max_pools, the last one first.

    ``y[argmax of the window] = x``

    Shape: the input shape of the max_pool.

    Source: Zeiler & Fergus 2014.
    """
    return make("max_unpool")


def adaptive_average_pool(output: int | Sequence[int]) -> Block:
    """Average over windows that divide a map of any size into an output of the given size.

    ``mean x over rows floor(i·H/h) to ceil((i+1)·H/h), columns alike``

    Shape: N×C×H×W to N×C×h×w.

    Args:
        output: size of the output (integer or [h, w], at least 1, at most 256).
    """
    return make("adaptive_average_pool", output=output)


def adaptive_max_pool(output: int | Sequence[int]) -> Block:
    """Take maxima over windows that divide a map of any size into an output of the given size.

    ``max x over rows floor(i·H/h) to ceil((i+1)·H/h), columns alike``

    Shape: N×C×H×W to N×C×h×w.

    Args:
        output: size of the output (integer or [h, w], at least 1, at most 256).
    """
    return make("adaptive_max_pool", output=output)


def spatial_pyramid(levels: int | Sequence[int] = (1, 2, 4), *, op: Literal["max", "average"] = "max") -> Block:
    """Concatenate adaptive pools from coarse to fine: a vector of fixed length for maps of any size.

    ``concat over the levels l of flatten(adaptive_pool([l, l]))``

    Shape: N×C×H×W to N×(C·sum of levels²).

    Source: He et al. 2014.

    Args:
        levels: windows per axis at each level (list of integers, at least 1, at most 64).
        op: reduction of each window (one of max, average).
    """
    return make("spatial_pyramid", levels=levels, op=op)


def gap() -> Block:
    """Average each map (global average pooling): how strong a feature is, regardless of position; texture.

    ``mean x over H×W``

    Shape: N×C×H×W, N×C×T, N×C×D×H×W or N×T×C to N×C.

    Source: Lin et al. 2013.
    """
    return make("gap")


def gmp() -> Block:
    """Take the maximum of each map (global max pooling), regardless of position and background.

    ``max x``

    Shape: N×C×H×W, N×C×T, N×C×D×H×W or N×T×C to N×C.
    """
    return make("gmp")


def global_min() -> Block:
    """Take the minimum of each map.

    ``min x``

    Shape: N×C×H×W, N×C×T, N×C×D×H×W or N×T×C to N×C.
    """
    return make("global_min")


def global_sum() -> Block:
    """Sum each map.

    ``sum x``

    Shape: N×C×H×W, N×C×T, N×C×D×H×W or N×T×C to N×C.
    """
    return make("global_sum")


def global_std(ddof: int = 0) -> Block:
    """Take the standard deviation of each map: how much a feature varies over the image.

    ``sqrt(mean (x - mean x)²)``

    Shape: N×C×H×W, N×C×T, N×C×D×H×W or N×T×C to N×C.

    Args:
        ddof: 1 divides the variance by n - 1 instead of n (integer, at least 0, at most 1).
    """
    return make("global_std", ddof=ddof)


def global_lp(p: float = 2.0) -> Block:
    """Take the p-norm of each map.

    ``(sum |x|^p)^(1/p)``

    Shape: N×C×H×W, N×C×T, N×C×D×H×W or N×T×C to N×C.

    Args:
        p: exponent (number, at least 0.01, at most 100).
    """
    return make("global_lp", p=p)


def gem(p: float = 3.0, *, eps: float = 1e-06) -> Block:
    """Take the generalized mean of each map: from mean (p = 1) to nearly maximum (large p); for image retrieval.

    ``(mean max(x, eps)^p over H×W)^(1/p)``

    Shape: N×C×H×W, N×C×T, N×C×D×H×W or N×T×C to N×C.

    Source: Radenović et al. 2018.

    Args:
        p: exponent (number, at least 0.01, at most 100).
        eps: lower bound of the values (number, at least 1e-30).
    """
    return make("gem", p=p, eps=eps)


def avg_max() -> Block:
    """Concatenate the mean and the maximum of each map.

    ``concat(gap, gmp)``

    Shape: N×C×H×W or N×T×C to N×2C.
    """
    return make("avg_max")


def k_max(k: int, *, axis: int = -1) -> Block:
    """Keep the k largest values along an axis, in their original order.

    ``the k largest x, in order``

    Shape: k along the axis.

    Source: Kalchbrenner et al. 2014.

    Args:
        k: number of values (integer, at least 1, at most 1.04858e+06).
        axis: the axis; -1 is the last (integer, at least -8, at most 7).
    """
    return make("k_max", k=k, axis=axis)


def dynamic_k_max(k_top: int, depth: int, layer: int, *, axis: int = -1) -> Block:
    """Apply k_max with a k that decreases with the layer's depth and increases with the axis's length.

    ``k = max(k_top, ceil((depth - layer) / depth · length))``

    Shape: k along the axis.

    Source: Kalchbrenner et al. 2014.

    Args:
        k_top: k of the last layer (integer, at least 1, at most 1.04858e+06).
        depth: number of layers of the network (integer, at least 1, at most 1024).
        layer: number of this layer (integer, at least 0, at most 1024).
        axis: the axis; -1 is the last (integer, at least -8, at most 7).
    """
    return make("dynamic_k_max", k_top=k_top, depth=depth, layer=layer, axis=axis)


def batch_norm(
    mean: float | Sequence[float] = (0.0,),
    *,
    variance: float | Sequence[float] = (1.0,),
    scale: float | Sequence[float] = (1.0,),
    bias: float | Sequence[float] = (0.0,),
    eps: float = 1e-05,
    stats: Literal["running", "batch"] = "running",
) -> Block:
    """Normalize each channel to mean 0 and variance 1, over the training set (running) or this request (batch).

    ``scale·(x - mean) / sqrt(variance + eps) + bias``

    Source: Ioffe & Szegedy 2015.

    Args:
        mean: running mean (number, or one per channel).
        variance: running variance (number, or one per channel).
        scale: factor of the result (number, or one per channel).
        bias: added to the scaled result (number, or one per channel).
        eps: small number that avoids division by 0 (number, at least 0).
        stats: use the given mean and variance, or those of this request's images (one of running, batch).
    """
    return make("batch_norm", mean=mean, variance=variance, scale=scale, bias=bias, eps=eps, stats=stats)


def instance_norm(
    scale: float | Sequence[float] = (1.0,), *, bias: float | Sequence[float] = (0.0,), eps: float = 1e-05
) -> Block:
    """Normalize each map of each image to mean 0 and variance 1: contrast normalization, which removes style.

    ``scale·(x - mean) / sqrt(variance + eps) + bias, over H×W``

    Source: Ulyanov et al. 2016.

    Args:
        scale: factor of the result (number, or one per channel).
        bias: added to the scaled result (number, or one per channel).
        eps: small number that avoids division by 0 (number, at least 0).
    """
    return make("instance_norm", scale=scale, bias=bias, eps=eps)


def layer_norm(
    axes: int | Sequence[int] = (1, 2, 3),
    *,
    scale: float | Sequence[float] = (1.0,),
    bias: float | Sequence[float] = (0.0,),
    eps: float = 1e-05,
) -> Block:
    """Normalize each image, or the given axes, to mean 0 and variance 1.

    ``scale·(x - mean) / sqrt(variance + eps) + bias, over the axes``

    Source: Ba et al. 2016.

    Args:
        axes: axes that are normalized together (list of integers, at least 1, at most 7).
        scale: factor of the result (number, or one per channel).
        bias: added to the scaled result (number, or one per channel).
        eps: small number that avoids division by 0 (number, at least 0).
    """
    return make("layer_norm", axes=axes, scale=scale, bias=bias, eps=eps)


def group_norm(
    groups: int, *, scale: float | Sequence[float] = (1.0,), bias: float | Sequence[float] = (0.0,), eps: float = 1e-05
) -> Block:
    """Normalize groups of channels of each image to mean 0 and variance 1.

    ``scale·(x - mean) / sqrt(variance + eps) + bias, over a group of channels and H×W``

    Source: Wu & He 2018.

    Args:
        groups: number of groups (integer, at least 1, at most 65536).
        scale: factor of the result (number, or one per channel).
        bias: added to the scaled result (number, or one per channel).
        eps: small number that avoids division by 0 (number, at least 0).
    """
    return make("group_norm", groups=groups, scale=scale, bias=bias, eps=eps)


def rms_norm(
    axes: int | Sequence[int] = (1, 2, 3),
    *,
    scale: float | Sequence[float] = (1.0,),
    bias: float | Sequence[float] = (0.0,),
    eps: float = 1e-05,
) -> Block:
    """Divide by the root mean square, without subtracting the mean.

    ``scale·x / sqrt(mean x² + eps) + bias, over the axes``

    Source: Zhang & Sennrich 2019.

    Args:
        axes: axes that are normalized together (list of integers, at least 1, at most 7).
        scale: factor of the result (number, or one per channel).
        bias: added to the scaled result (number, or one per channel).
        eps: small number that avoids division by 0 (number, at least 0).
    """
    return make("rms_norm", axes=axes, scale=scale, bias=bias, eps=eps)


def lrn(size: int = 5, *, alpha: float = 0.0001, beta: float = 0.75, k: float = 1.0) -> Block:
    """Divide each value by the activity of neighbouring channels (local response normalization).

    ``x / (k + alpha/size·sum x² over size neighbouring channels)^beta``

    Source: Krizhevsky et al. 2012.

    Args:
        size: number of neighbouring channels (integer, at least 1, at most 1024).
        alpha: weight of the neighbours (number, at least 0).
        beta: exponent (number).
        k: small number that avoids division by 0 (number, at least 0).
    """
    return make("lrn", size=size, alpha=alpha, beta=beta, k=k)


def lcn(size: int = 9, *, sigma: float | None = None) -> Block:
    """Subtract the local mean and divide by the local standard deviation (local contrast normalization).

    ``v = x - Gaussian mean of x; v / max(c, s), s the Gaussian-weighted deviation over all channels, c its mean``

    Source: Jarrett et al. 2009.

    Args:
        size: height and width of the window (integer, at least 1, at most 255).
        sigma: standard deviation of the Gaussian, in spatial positions; by default a quarter of size (number, at
            least 0.1, at most 1000).
    """
    return make("lcn", size=size, sigma=sigma)


def divisive_norm(size: int = 9, *, sigma: float = 1.0) -> Block:
    """Divide each value by the activity around it, over all channels.

    ``x / (sigma + mean of |x| over size×size positions and all channels)``

    Source: Heeger 1992.

    Args:
        size: height and width of the window (integer, at least 1, at most 255).
        sigma: semi-saturation constant (number, at least 0).
    """
    return make("divisive_norm", size=size, sigma=sigma)


def min_max(
    low: float = 0.0, *, high: float = 1.0, scope: Literal["sample", "channel", "batch", "column"] = "sample"
) -> Block:
    """Scale the values linearly to [low, high]; constant values become low.

    ``(x - min) / (max - min)·(high - low) + low``

    Args:
        low: result for the smallest value (number).
        high: result for the largest value (number).
        scope: values that are normalized together: one image; one channel of one image; one channel of all images of
            the request; one feature of all images of the request (one of sample, channel, batch, column).
    """
    return make("min_max", low=low, high=high, scope=scope)


def z_score(
    scope: Literal["sample", "channel", "batch", "column"] = "sample", *, ddof: int = 0, eps: float = 1e-12
) -> Block:
    """Subtract the mean and divide by the standard deviation; constant values become 0.

    ``(x - mean) / max(std, eps)``

    Args:
        scope: values that are normalized together: one image; one channel of one image; one channel of all images of
            the request; one feature of all images of the request (one of sample, channel, batch, column).
        ddof: 1 divides the variance by n - 1 instead of n (integer, at least 0, at most 1).
        eps: minimum divisor (number, at least 0).
    """
    return make("z_score", scope=scope, ddof=ddof, eps=eps)


def l1(axis: int = 1, *, eps: float = 1e-12) -> Block:
    """Divide by the sum of absolute values along an axis.

    ``x / max(sum |x|, eps)``

    Args:
        axis: the axis; 1 is the channels (integer, at least -8, at most 7).
        eps: minimum divisor (number, at least 0).
    """
    return make("l1", axis=axis, eps=eps)


def l2(axis: int = 1, *, eps: float = 1e-12) -> Block:
    """Divide by the Euclidean norm along an axis: dot products then are cosine similarities.

    ``x / max(sqrt(sum x²), eps)``

    Args:
        axis: the axis; 1 is the channels (integer, at least -8, at most 7).
        eps: minimum divisor (number, at least 0).
    """
    return make("l2", axis=axis, eps=eps)


def mean_variance(axes: int | Sequence[int] = (2, 3), *, eps: float = 1e-09) -> Block:
    """Normalize the given axes to mean 0 and variance 1; axis 0 is the images of the request.

    ``(x - mean) / sqrt(variance + eps)``

    Source: ONNX MeanVarianceNormalization.

    Args:
        axes: axes that are normalized together (list of integers, at least 0, at most 7).
        eps: small number that avoids division by 0 (number, at least 0).
    """
    return make("mean_variance", axes=axes, eps=eps)


def signed_sqrt() -> Block:
    """Take the square root and keep the sign: reduces the influence of a few large values.

    ``sign(x)·sqrt(|x|)``

    Source: Perronnin et al. 2010.
    """
    return make("signed_sqrt")


def conv(
    out: int,
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] = (1, 1),
    padding: Literal["valid", "same", "same_lower"] | int | Sequence[int] = "valid",
    dilation: int | Sequence[int] = (1, 1),
    groups: int = 1,
    weight: str | Sequence[Any] | Array | None = None,
    bias: bool | float | Sequence[float] = True,
) -> Block:
    """Apply each filter at every spatial position, without flipping it (cross-correlation), as usual in networks.

    ``y[o, p] = bias[o] + sum over i, q of weight[o, i, q]·x[i, s·p + d·q]; weight is out×(C/groups)×kh×kw``

    Shape: N×C×H×W to N×out×H'×W'; valid: floor((i - (d(k-1)+1)) / s) + 1 per axis, same: ceil(i / s).

    Args:
        out: channels of the output (integer, at least 1, at most 65536).
        kernel: height and width of each filter (integer or [h, w], at least 1, at most 1024).
        stride: step of the filter (integer or [h, w], at least 1, at most 1024).
        padding: zeros around the map; same adds an extra row at the end, same_lower at the start (valid | same |
            same_lower, an integer, [h, w] or [top, left, bottom, right], at least 0, at most 1024).
        dilation: distance between the filter's elements (integer or [h, w], at least 1, at most 1024).
        groups: number of groups of channels that are convolved separately (integer, at least 1, at most 65536).
        weight: numbers as nested lists, or initial weights; in model.yaml, by default, those of the weights file
            (nested lists of numbers, or initial weights such as he or "gabor(orientations=8)").
        bias: added to each channel; true takes it from the weights file, or 0 if the weight is given (true, false, or
            one number per channel).
    """
    return make(
        "conv",
        out=out,
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        weight=weight,
        bias=bias,
    )


def depthwise_conv(
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] = (1, 1),
    padding: Literal["valid", "same", "same_lower"] | int | Sequence[int] = "valid",
    dilation: int | Sequence[int] = (1, 1),
    multiplier: int = 1,
    weight: str | Sequence[Any] | Array | None = None,
    bias: bool | float | Sequence[float] = True,
) -> Block:
    """Apply filters to each channel separately.

    ``conv with one group per channel; weight is (C·multiplier)×1×kh×kw``

    Shape: N×C×H×W to N×(C·multiplier)×H'×W'; valid: floor((i - (d(k-1)+1)) / s) + 1 per axis, same: ceil(i / s).

    Args:
        kernel: height and width of each filter (integer or [h, w], at least 1, at most 1024).
        stride: step of the filter (integer or [h, w], at least 1, at most 1024).
        padding: zeros around the map; same adds an extra row at the end, same_lower at the start (valid | same |
            same_lower, an integer, [h, w] or [top, left, bottom, right], at least 0, at most 1024).
        dilation: distance between the filter's elements (integer or [h, w], at least 1, at most 1024).
        multiplier: filters per channel (integer, at least 1, at most 1024).
        weight: numbers as nested lists, or initial weights; in model.yaml, by default, those of the weights file
            (nested lists of numbers, or initial weights such as he or "gabor(orientations=8)").
        bias: added to each channel; true takes it from the weights file, or 0 if the weight is given (true, false, or
            one number per channel).
    """
    return make(
        "depthwise_conv",
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        multiplier=multiplier,
        weight=weight,
        bias=bias,
    )


def transposed_conv(
    out: int,
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] = (1, 1),
    padding: Literal["valid", "same", "same_lower"] | int | Sequence[int] = "valid",
    dilation: int | Sequence[int] = (1, 1),
    groups: int = 1,
    weight: str | Sequence[Any] | Array | None = None,
    bias: bool | float | Sequence[float] = True,
) -> Block:
    """Add each filter, scaled by every value, to the output: the transpose of a strided convolution.

    ``y[o, s·p + d·q] += weight[i, o, q]·x[i, p]; weight is C×(out/groups)×kh×kw``

    Shape: N×C×H×W to N×out×H'×W'; valid: (i - 1)·s + d(k-1) + 1 per axis, same: i·s, numbers: valid less the padding.

    Args:
        out: channels of the output (integer, at least 1, at most 65536).
        kernel: height and width of each filter (integer or [h, w], at least 1, at most 1024).
        stride: step of the filter (integer or [h, w], at least 1, at most 1024).
        padding: zeros around the map; same adds an extra row at the end, same_lower at the start (valid | same |
            same_lower, an integer, [h, w] or [top, left, bottom, right], at least 0, at most 1024).
        dilation: distance between the filter's elements (integer or [h, w], at least 1, at most 1024).
        groups: number of groups of channels that are convolved separately (integer, at least 1, at most 65536).
        weight: numbers as nested lists, or initial weights; in model.yaml, by default, those of the weights file
            (nested lists of numbers, or initial weights such as he or "gabor(orientations=8)").
        bias: added to each channel; true takes it from the weights file, or 0 if the weight is given (true, false, or
            one number per channel).
    """
    return make(
        "transposed_conv",
        out=out,
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        weight=weight,
        bias=bias,
    )


def linear(
    out: int, *, weight: str | Sequence[Any] | Array | None = None, bias: bool | float | Sequence[float] = True
) -> Block:
    """Compute weighted sums of all features of a vector, or of every token.

    ``x·weightᵀ + bias; weight is out×C``

    Shape: N×C to N×out, N×T×C to N×T×out.

    Args:
        out: channels of the output (integer, at least 1, at most 65536).
        weight: numbers as nested lists, or initial weights; in model.yaml, by default, those of the weights file
            (nested lists of numbers, or initial weights such as he or "gabor(orientations=8)").
        bias: added to each channel; true takes it from the weights file, or 0 if the weight is given (true, false, or
            one number per channel).
    """
    return make("linear", out=out, weight=weight, bias=bias)


def flatten() -> Block:
    """Reshape each image to a vector, in the order in which the values are stored.

    ``x``

    Shape: N×… to N×(product of the rest).
    """
    return make("flatten")


def transpose(perm: int | Sequence[int]) -> Block:
    """Permute the axes; the batch stays first.

    ``y[…] = x[perm]``

    Shape: the sizes in the order of perm.

    Args:
        perm: order of the axes, beginning with 0 (list of integers, at least 0, at most 7).
    """
    return make("transpose", perm=perm)


def reshape(shape: int | Sequence[int]) -> Block:
    """Reshape each image's values, in the order in which they are stored.

    ``x``

    Shape: N×… to N×shape.

    Args:
        shape: sizes; one of them may be -1, which is inferred (list of integers, at least -1, at most 2.14748e+09).
    """
    return make("reshape", shape=shape)


def squeeze() -> Block:
    """Remove all axes of size 1 except the batch.

    ``x``

    Shape: without the axes of size 1.
    """
    return make("squeeze")


def select(channels: int | Sequence[int]) -> Block:
    """Select channels in the given order.

    ``x[:, channels]``

    Shape: N×C×… to N×(number of channels)×….

    Args:
        channels: numbers of the channels, from 0 (list of integers, at least 0, at most 65536).
    """
    return make("select", channels=channels)


def zero_channels(channels: int | Sequence[int]) -> Block:
    """Set channels to 0, as if their units were cut out; for edits of a network.

    ``0 for the channels, x elsewhere``

    Args:
        channels: numbers of the channels, from 0 (list of integers, at least 0, at most 65536).
    """
    return make("zero_channels", channels=channels)


def keep_channels(channels: int | Sequence[int]) -> Block:
    """Set all other channels to 0; for edits of a network.

    ``x for the channels, 0 elsewhere``

    Args:
        channels: numbers of the channels, from 0 (list of integers, at least 0, at most 65536).
    """
    return make("keep_channels", channels=channels)


def scale_channels(channels: int | Sequence[int], factor: float) -> Block:
    """Multiply channels by a factor; for edits of a network.

    ``factor·x for the channels, x elsewhere``

    Args:
        channels: numbers of the channels, from 0 (list of integers, at least 0, at most 65536).
        factor: factor of the channels (number).
    """
    return make("scale_channels", channels=channels, factor=factor)


def add_vector(values: Sequence[float]) -> Block:
    """Add a vector to the channels at every position; steers a network along a direction of its features.

    ``x + values``

    Args:
        values: one number for each channel (list of numbers).
    """
    return make("add_vector", values=values)


def top_channels(k: int, *, by: Literal["mean", "max", "l2"] = "mean") -> Block:
    """Select the k channels of each image with the strongest responses, strongest first.

    ``x[:, the k largest by mean, maximum or Euclidean norm]``

    Shape: N×C×… to N×k×….

    Args:
        k: number of channels (integer, at least 1, at most 65536).
        by: measure of a channel's strength (one of mean, max, l2).
    """
    return make("top_channels", k=k, by=by)


def crop(height: int, width: int, *, top: int | None = None, left: int | None = None) -> Block:
    """Crop a window of the map, by default at the centre.

    ``x[…, top:top+height, left:left+width]``

    Shape: N×C×H×W to N×C×height×width.

    Args:
        height: height of the window (integer, at least 1, at most 65536).
        width: width of the window (integer, at least 1, at most 65536).
        top: first row; by default centred (integer, at least 0, at most 65536).
        left: first column; by default centred (integer, at least 0, at most 65536).
    """
    return make("crop", height=height, width=width, top=top, left=left)


def resize(height: int, width: int, *, mode: Literal["nearest", "linear", "cubic"] = "linear") -> Block:
    """Resize the map by interpolation.

    ``interpolation between pixel centres, as torch.nn.functional.interpolate with align_corners=False``

    Shape: N×C×H×W to N×C×height×width.

    Args:
        height: height of the output (integer, at least 1, at most 65536).
        width: width of the output (integer, at least 1, at most 65536).
        mode: interpolation (one of nearest, linear, cubic).
    """
    return make("resize", height=height, width=width, mode=mode)


def tokens(take: Literal["cls", "mean", "grid", "all"] = "cls", *, prefix: int | None = None) -> Block:
    """Select or average the tokens of a transformer.

    ``cls: the first; mean: the mean after the prefix; grid: those after it as a square map; all: those after it``

    Shape: N×T×C to N×C, N×C×h×w or N×T'×C.

    Args:
        take: tokens to take (one of cls, mean, grid, all).
        prefix: number of first tokens without a position, such as class tokens; by default the listed one (integer,
            at least 0, at most 4096).
    """
    return make("tokens", take=take, prefix=prefix)


def read_as(layout: Literal["NCHW", "NHWC", "NCT", "NTC", "tokens", "NCDHW", "vector"]) -> Block:
    """State the layout of a layer whose layout was not recognized; the values stay as they are.

    ``x``

    Args:
        layout: meaning of the axes; NTC and tokens are the same (one of NCHW, NHWC, NCT, NTC, tokens, NCDHW, vector).
    """
    return make("read_as", layout=layout)


def gram() -> Block:
    """Compute the Gram matrix of the channels: which features occur together, regardless of position (style).

    ``sum over positions of x_i·x_j / (H·W)``

    Shape: N×C×H×W to N×C×C.

    Source: Gatys et al. 2015.
    """
    return make("gram")


def stats() -> Block:
    """Compute minimum, maximum, mean, standard deviation, fraction of zeros and Euclidean norm of each image.

    ``min x, max x, mean x, std x, mean [x = 0], sqrt(sum x²)``

    Shape: N×… to N×6.
    """
    return make("stats")


def channel_stats() -> Block:
    """Compute statistics of each channel of each image, from which profiles of whole sets are accumulated. NaN and
    infinite values are counted and left out.

    count of finite x; m = mean x; mean (x - m), the rounding error of m; mean (x - m)²; min x; max x; counts of [x =
    0], NaN and infinity; position of max x, row by row

    Shape: N×C×… to N×C×10.
    """
    return make("channel_stats")


def cast(dtype: Literal["float16", "float32", "float64", "uint8", "int8", "int32", "int64"]) -> Block:
    """Convert the element type. Conversion to integers truncates fractions and clips to the type's range.

    ``x``

    Args:
        dtype: element type of the output (one of float16, float32, float64, uint8, int8, int32, int64).
    """
    return make("cast", dtype=dtype)


def quantize(dtype: Literal["uint8", "int8"] = "uint8", *, per: Literal["tensor", "channel"] = "tensor") -> Block:
    """Quantize each value to one byte; the result has a scale and a zero point. Must be the last block of a head.

    ``q = clip(round(x / scale) + zero_point); scale = (max(x, 0) - min(x, 0)) / 255, for each image separately``

    Source: ONNX DynamicQuantizeLinear.

    Args:
        dtype: element type of the output (one of uint8, int8).
        per: one scale per image, or per image and channel (one of tensor, channel).
    """
    return make("quantize", dtype=dtype, per=per)


def cross_entropy(index: int) -> Block:
    """Return the cross-entropy of a softmax over the channels, for the right class.

    ``-log softmax(x)[index], over the channels``

    Shape: N×C×… to N×1×….

    Source: Goodfellow et al. 2016, Deep Learning, 6.2.2.3.

    Args:
        index: number of the right class (integer, at least 0, at most 2.14748e+09).
    """
    return make("cross_entropy", index=index)


def binary_cross_entropy(targets: float | Sequence[float]) -> Block:
    """Return the cross-entropy of a sigmoid of each channel (logistic loss), summed over the channels.

    ``sum over the channels of log(1 + exp(x)) - targets·x``

    Shape: N×C×… to N×1×….

    Source: Goodfellow et al. 2016, Deep Learning, 6.2.2.2.

    Args:
        targets: right probability, one number or one for each channel (number, or one per channel, at least 0, at
            most 1).
    """
    return make("binary_cross_entropy", targets=targets)


def squared_error(values: float | Sequence[float]) -> Block:
    """Return half the squared distance of the channels from values; its gradient is x - values.

    ``½·sum over the channels of (x - values)²``

    Shape: N×C×… to N×1×….

    Source: Rumelhart et al. 1986.

    Args:
        values: right values, one number or one for each channel (number, or one per channel).
    """
    return make("squared_error", values=values)
