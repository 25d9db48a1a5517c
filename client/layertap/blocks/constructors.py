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
    "average_pool",
    "avg_max",
    "batch_norm",
    "cast",
    "celu",
    "clip",
    "conv",
    "crelu",
    "crop",
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
    "relu",
    "relu6",
    "reshape",
    "resize",
    "rms_norm",
    "rrelu",
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
]


def identity() -> Block:
    """Leaves the values as they are.

    ``x``
    """
    return make("identity")


def sigmoid() -> Block:
    """Squeezes every value into (0, 1): a probability, a gate. Large values of either sign all look alike.

    ``1 / (1 + exp(-x))``
    """
    return make("sigmoid")


def hard_sigmoid(alpha: float = 0.16666666666666666, *, beta: float = 0.5) -> Block:
    """The sigmoid as three straight lines: cheaper, and exactly 0 and 1 at its ends.

    ``clip(alpha·x + beta, 0, 1)``

    Args:
        alpha: the slope in the middle (number).
        beta: the value at 0 (number).
    """
    return make("hard_sigmoid", alpha=alpha, beta=beta)


def hard_logistic(alpha: float = 0.25, *, beta: float = 0.5) -> Block:
    """The hard sigmoid with the logistic function's own slope at 0.

    ``clip(alpha·x + beta, 0, 1)``

    Args:
        alpha: the slope in the middle (number).
        beta: the value at 0 (number).
    """
    return make("hard_logistic", alpha=alpha, beta=beta)


def tanh() -> Block:
    """Squeezes every value into (-1, 1) around zero.

    ``tanh x``
    """
    return make("tanh")


def hard_tanh(low: float = -1.0, *, high: float = 1.0) -> Block:
    """Cuts off below and above; between them nothing changes.

    ``clip(x, low, high)``

    Args:
        low: the smallest value (number).
        high: the largest value (number).
    """
    return make("hard_tanh", low=low, high=high)


def relu() -> Block:
    """Rectified linear unit: keeps what is positive, silences the rest. A unit that is never positive is dead.

    ``max(x, 0)``

    Source: Nair & Hinton 2010.
    """
    return make("relu")


def relu6() -> Block:
    """The rectifier with a ceiling, which keeps quantized networks in range.

    ``clip(x, 0, 6)``

    Source: Krizhevsky 2010.
    """
    return make("relu6")


def clip(low: float, high: float) -> Block:
    """Cuts off below and above at bounds of your own.

    ``clip(x, low, high)``

    Args:
        low: the smallest value (number).
        high: the largest value (number).
    """
    return make("clip", low=low, high=high)


def thresholded_relu(threshold: float = 1.0) -> Block:
    """Keeps what is over a threshold as it is and silences the rest: the value jumps there.

    ``x if x > threshold else 0``

    Source: Konda et al. 2014.

    Args:
        threshold: what is not larger becomes 0 (number, at least 0).
    """
    return make("thresholded_relu", threshold=threshold)


def half_wave(threshold: float = 0.0) -> Block:
    """Half-wave rectification: what is over the threshold, measured from it.

    ``max(x - threshold, 0)``

    Args:
        threshold: where the response begins (number).
    """
    return make("half_wave", threshold=threshold)


def leaky_relu(slope: float = 0.01) -> Block:
    """The rectifier that lets a little of the negative side through, so that no unit dies.

    ``x if x >= 0 else slope·x``

    Source: Maas et al. 2013.

    Args:
        slope: of the negative side (number).
    """
    return make("leaky_relu", slope=slope)


def prelu(slope: float | Sequence[float]) -> Block:
    """The leaky rectifier with a slope of its own for every channel.

    ``x if x >= 0 else slope[c]·x``

    Source: He et al. 2015.

    Args:
        slope: of the negative side (number, or one a channel).
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
    """The leaky rectifier with a random slope; its expectation where nothing is to be random.

    ``x if x >= 0 else a·x, a ~ U(lower, upper); form=divisor: x / a``

    Source: Xu et al. 2015.

    Args:
        lower: smallest slope, or divisor; by default 1/8, for divisors 3 (number).
        upper: largest slope, or divisor; by default 1/3, for divisors 8 (number).
        mode: the mean slope, or one drawn for every element (one of expectation, sample).
        seed: of the sample (integer, at least 0, at most 2.14748e+09).
        form: multiply by a, or divide (one of factor, divisor).
    """
    return make("rrelu", lower=lower, upper=upper, mode=mode, seed=seed, form=form)


def elu(alpha: float = 1.0) -> Block:
    """Smooth on the negative side, down to -alpha: means near zero, and no dead units.

    ``x if x >= 0 else alpha·(exp(x) - 1)``

    Source: Clevert et al. 2015.

    Args:
        alpha: how far down it goes (number).
    """
    return make("elu", alpha=alpha)


def selu() -> Block:
    """The elu with the two constants that keep mean 0 and variance 1 through many layers.

    ``1.0507·(x if x >= 0 else 1.67326·(exp(x) - 1))``

    Source: Klambauer et al. 2017.
    """
    return make("selu")


def celu(alpha: float = 1.0) -> Block:
    """The elu whose slope is continuous for every alpha.

    ``x if x >= 0 else alpha·(exp(x / alpha) - 1)``

    Source: Barron 2017.

    Args:
        alpha: how far down it goes (number, at least 0.001).
    """
    return make("celu", alpha=alpha)


def srelu(
    t_right: float | Sequence[float],
    a_right: float | Sequence[float],
    t_left: float | Sequence[float],
    a_left: float | Sequence[float],
) -> Block:
    """Three straight lines with knees and slopes for every channel.

    ``t_right + a_right·(x - t_right) above t_right, t_left + a_left·(x - t_left) below t_left, else x``

    Source: Jin et al. 2016.

    Args:
        t_right: the right knee (number, or one a channel).
        a_right: the slope above it (number, or one a channel).
        t_left: the left knee (number, or one a channel).
        a_left: the slope below it (number, or one a channel).
    """
    return make("srelu", t_right=t_right, a_right=a_right, t_left=t_left, a_left=a_left)


def crelu() -> Block:
    """Both signs, each rectified: nothing is lost, and the channels double.

    ``concat(max(x, 0), max(-x, 0)) along the channels``

    Shape: N×C×… to N×2C×….

    Source: Shang et al. 2016.
    """
    return make("crelu")


def two_path(threshold: float = 0.0) -> Block:
    """ON and OFF paths: what is over the threshold in either sign.

    ``concat(max(x - threshold, 0), max(-x - threshold, 0)) along the channels``

    Shape: N×C×… to N×2C×….

    Args:
        threshold: where the response begins (number, at least 0).
    """
    return make("two_path", threshold=threshold)


def half_square() -> Block:
    """Half-squaring: the response of a simple cell.

    ``max(x, 0)²``

    Source: Heeger 1992.
    """
    return make("half_square")


def two_path_square() -> Block:
    """Half-squaring of both signs; their sum is the energy.

    ``concat(max(x, 0)², max(-x, 0)²) along the channels``

    Shape: N×C×… to N×2C×….
    """
    return make("two_path_square")


def abs() -> Block:
    """Absolute value rectification: how much, whatever the sign.

    ``|x|``

    Source: Jarrett et al. 2009.
    """
    return make("abs")


def square() -> Block:
    """The energy of a response.

    ``x²``
    """
    return make("square")


def modulus(groups_of: int = 2) -> Block:
    """The norm of groups of channels: of quadrature pairs the energy, blind to phase.

    ``sqrt(sum x² over groups of channels)``

    Shape: N×C×… to N×C/groups_of×….

    Source: Adelson & Bergen 1985.

    Args:
        groups_of: neighbouring channels that make one (integer, at least 1, at most 4096).
    """
    return make("modulus", groups_of=groups_of)


def softplus(beta: float = 1.0) -> Block:
    """The rectifier without its corner.

    ``ln(1 + exp(beta·x)) / beta``

    Source: Dugas et al. 2001.

    Args:
        beta: how sharp the corner is (number, at least 0.001).
    """
    return make("softplus", beta=beta)


def softsign() -> Block:
    """Like tanh, with ends that are reached much more slowly.

    ``x / (1 + |x|)``
    """
    return make("softsign")


def softshrink(lambd: float = 0.5) -> Block:
    """Pulls every value towards zero by a fixed step: small ones vanish.

    ``x - lambd above lambd, x + lambd below -lambd, else 0``

    Args:
        lambd: the step (number, at least 0).
    """
    return make("softshrink", lambd=lambd)


def hardshrink(lambd: float = 0.5) -> Block:
    """Small values become zero, the others stay.

    ``x where |x| > lambd, else 0``

    Args:
        lambd: what is not larger becomes 0 (number, at least 0).
    """
    return make("hardshrink", lambd=lambd)


def tanhshrink() -> Block:
    """What tanh takes away: flat at zero, a line far out.

    ``x - tanh x``
    """
    return make("tanhshrink")


def log_sigmoid() -> Block:
    """The logarithm of the sigmoid, computed without overflow.

    ``-ln(1 + exp(-x))``
    """
    return make("log_sigmoid")


def erf() -> Block:
    """The error function: like tanh, reaching its ends fastest.

    ``erf x``
    """
    return make("erf")


def softmax(axis: int = 1) -> Block:
    """Turns the values along an axis into probabilities.

    ``exp(x - max x) / sum exp(x - max x)``

    Args:
        axis: 1 is the channels (integer, at least -8, at most 7).
    """
    return make("softmax", axis=axis)


def log_softmax(axis: int = 1) -> Block:
    """The logarithm of softmax, computed without overflow.

    ``x - max x - ln sum exp(x - max x)``

    Args:
        axis: 1 is the channels (integer, at least -8, at most 7).
    """
    return make("log_softmax", axis=axis)


def softmin(axis: int = 1) -> Block:
    """Softmax of the negated values: the smallest gets the most.

    ``softmax(-x)``

    Args:
        axis: 1 is the channels (integer, at least -8, at most 7).
    """
    return make("softmin", axis=axis)


def swish(beta: float = 1.0) -> Block:
    """The value times its own gate.

    ``x·sigmoid(beta·x)``

    Source: Ramachandran et al. 2017.

    Args:
        beta: how sharp the gate is (number).
    """
    return make("swish", beta=beta)


def hard_swish() -> Block:
    """Swish with the hard sigmoid as its gate.

    ``x·clip(x / 6 + 1/2, 0, 1)``

    Source: Howard et al. 2019.
    """
    return make("hard_swish")


def mish() -> Block:
    """Swish's smoother sibling.

    ``x·tanh(ln(1 + exp(x)))``

    Source: Misra 2019.
    """
    return make("mish")


def gelu(approximate: Literal["none", "tanh"] = "none") -> Block:
    """The value times the probability that a normal variable is below it: the activation of transformers.

    ``x·Φ(x); tanh: x/2·(1 + tanh(sqrt(2/π)·(x + 0.044715·x³)))``

    Source: Hendrycks & Gimpel 2016.

    Args:
        approximate: tanh: the cheaper formula (one of none, tanh).
    """
    return make("gelu", approximate=approximate)


def quick_gelu() -> Block:
    """Gelu by way of a sigmoid, as CLIP's networks have it.

    ``x·sigmoid(1.702·x)``
    """
    return make("quick_gelu")


def maxout(pieces: int) -> Block:
    """The largest of neighbouring channels.

    ``max over each group of channels``

    Shape: N×C×… to N×C/pieces×….

    Source: Goodfellow et al. 2013.

    Args:
        pieces: neighbouring channels that make one (integer, at least 1, at most 4096).
    """
    return make("maxout", pieces=pieces)


def glu() -> Block:
    """One half of the channels gates the other.

    ``a·sigmoid(b), a and b the halves of the channels``

    Shape: N×C×… to N×C/2×….

    Source: Dauphin et al. 2017.
    """
    return make("glu")


def simam(e_lambda: float = 0.0001) -> Block:
    """Attention without parameters: a value that differs from its map's mean counts for more.

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
    """The strongest response of each window: small shifts do not matter.

    ``max x``

    Shape: N×C×H×W to N×C×H'×W'; valid: floor((i - (d(k-1)+1)) / s) + 1 a side, same: ceil(i / s).

    Args:
        kernel: size of the window (integer or [h, w], at least 1, at most 1024).
        stride: step of the window; without it the kernel (integer or [h, w], at least 1, at most 1024).
        dilation: distance of the elements (integer or [h, w], at least 1, at most 1024).
        padding: same puts an extra row at the end, same_lower at the start; padding never wins a maximum (valid |
            same | same_lower, an integer, [h, w] or [top, left, bottom, right], at least 0, at most 1024).
        ceil: keep a last window that reaches over the edge (true or false).
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
    """The weakest response of each window.

    ``min x``

    Shape: N×C×H×W to N×C×H'×W'; valid: floor((i - (d(k-1)+1)) / s) + 1 a side, same: ceil(i / s).

    Args:
        kernel: size of the window (integer or [h, w], at least 1, at most 1024).
        stride: step of the window; without it the kernel (integer or [h, w], at least 1, at most 1024).
        dilation: distance of the elements (integer or [h, w], at least 1, at most 1024).
        padding: same puts an extra row at the end, same_lower at the start; padding never wins a maximum (valid |
            same | same_lower, an integer, [h, w] or [top, left, bottom, right], at least 0, at most 1024).
        ceil: keep a last window that reaches over the edge (true or false).
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
    """The mean of each window: smooth, and every value counts.

    ``mean x``

    Shape: N×C×H×W to N×C×H'×W'; valid: floor((i - (d(k-1)+1)) / s) + 1 a side, same: ceil(i / s).

    Args:
        kernel: size of the window (integer or [h, w], at least 1, at most 1024).
        stride: step of the window; without it the kernel (integer or [h, w], at least 1, at most 1024).
        dilation: distance of the elements (integer or [h, w], at least 1, at most 1024).
        padding: same puts an extra row at the end, same_lower at the start; padding never wins a maximum (valid |
            same | same_lower, an integer, [h, w] or [top, left, bottom, right], at least 0, at most 1024).
        ceil: keep a last window that reaches over the edge (true or false).
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
    """The sum of each window.

    ``sum x``

    Shape: N×C×H×W to N×C×H'×W'; valid: floor((i - (d(k-1)+1)) / s) + 1 a side, same: ceil(i / s).

    Args:
        kernel: size of the window (integer or [h, w], at least 1, at most 1024).
        stride: step of the window; without it the kernel (integer or [h, w], at least 1, at most 1024).
        dilation: distance of the elements (integer or [h, w], at least 1, at most 1024).
        padding: same puts an extra row at the end, same_lower at the start; padding never wins a maximum (valid |
            same | same_lower, an integer, [h, w] or [top, left, bottom, right], at least 0, at most 1024).
        ceil: keep a last window that reaches over the edge (true or false).
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
    """Between the sum (p = 1) and the maximum (p large) of the absolute values; p = 2 is the energy.

    ``(sum |x|^p)^(1/p)``

    Shape: N×C×H×W to N×C×H'×W'; valid: floor((i - (d(k-1)+1)) / s) + 1 a side, same: ceil(i / s).

    Source: Sermanet et al. 2012.

    Args:
        kernel: size of the window (integer or [h, w], at least 1, at most 1024).
        stride: step of the window; without it the kernel (integer or [h, w], at least 1, at most 1024).
        dilation: distance of the elements (integer or [h, w], at least 1, at most 1024).
        padding: same puts an extra row at the end, same_lower at the start; padding never wins a maximum (valid |
            same | same_lower, an integer, [h, w] or [top, left, bottom, right], at least 0, at most 1024).
        ceil: keep a last window that reaches over the edge (true or false).
        p: the power (number, at least 0.01, at most 10).
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
    """A value of each window, drawn in proportion to its size, or the expected value. Negative values count as 0.

    ``drawn with probability x / sum x; expectation: sum x² / sum x``

    Shape: N×C×H×W to N×C×H'×W'; valid: floor((i - (d(k-1)+1)) / s) + 1 a side, same: ceil(i / s).

    Source: Zeiler & Fergus 2013.

    Args:
        kernel: size of the window (integer or [h, w], at least 1, at most 1024).
        stride: step of the window; without it the kernel (integer or [h, w], at least 1, at most 1024).
        dilation: distance of the elements (integer or [h, w], at least 1, at most 1024).
        padding: same puts an extra row at the end, same_lower at the start; padding never wins a maximum (valid |
            same | same_lower, an integer, [h, w] or [top, left, bottom, right], at least 0, at most 1024).
        ceil: keep a last window that reaches over the edge (true or false).
        mode: the expected value, or one drawn for every window (one of expectation, sample).
        seed: of the sample (integer, at least 0, at most 2.14748e+09).
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
    """Part maximum, part average.

    ``max_weight·max x + (1 - max_weight)·mean x``

    Shape: N×C×H×W to N×C×H'×W'; valid: floor((i - (d(k-1)+1)) / s) + 1 a side, same: ceil(i / s).

    Source: Lee et al. 2016.

    Args:
        kernel: size of the window (integer or [h, w], at least 1, at most 1024).
        stride: step of the window; without it the kernel (integer or [h, w], at least 1, at most 1024).
        dilation: distance of the elements (integer or [h, w], at least 1, at most 1024).
        padding: same puts an extra row at the end, same_lower at the start; padding never wins a maximum (valid |
            same | same_lower, an integer, [h, w] or [top, left, bottom, right], at least 0, at most 1024).
        ceil: keep a last window that reaches over the edge (true or false).
        max_weight: the maximum's share (number, at least 0, at most 1).
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
    """A weighted sum of the window's values in order of size: one rule from maximum to average to minimum. Where a
    window holds fewer values than scores, the scores of the largest ranks are left out.

    ``sum w_r·x_(r), x sorted from largest to smallest, w = softmax(scores)``

    Shape: N×C×H×W to N×C×H'×W'; valid: floor((i - (d(k-1)+1)) / s) + 1 a side, same: ceil(i / s).

    Source: Kumar 2018.

    Args:
        kernel: size of the window (integer or [h, w], at least 1, at most 1024).
        stride: step of the window; without it the kernel (integer or [h, w], at least 1, at most 1024).
        dilation: distance of the elements (integer or [h, w], at least 1, at most 1024).
        padding: same puts an extra row at the end, same_lower at the start; padding never wins a maximum (valid |
            same | same_lower, an integer, [h, w] or [top, left, bottom, right], at least 0, at most 1024).
        ceil: keep a last window that reaches over the edge (true or false).
        scores: one an element of the kernel (list of numbers).
    """
    return make("sort_pool", kernel=kernel, stride=stride, dilation=dilation, padding=padding, ceil=ceil, scores=scores)


def max_unpool() -> Block:
    """Puts each value back where the last max_pool found it, zeros elsewhere; several undo theirs in turn.

    ``y[argmax of the window] = x``

    Shape: the shape that the max_pool found.

    Source: Zeiler & Fergus 2014.
    """
    return make("max_unpool")


def adaptive_average_pool(output: int | Sequence[int]) -> Block:
    """Averages over as many windows as the answer has places, whatever the map's size.

    ``mean x over rows floor(i·H/h) to ceil((i+1)·H/h), columns alike``

    Shape: N×C×H×W to N×C×h×w.

    Args:
        output: size of the answer (integer or [h, w], at least 1, at most 256).
    """
    return make("adaptive_average_pool", output=output)


def adaptive_max_pool(output: int | Sequence[int]) -> Block:
    """Maxima over as many windows as the answer has places, whatever the map's size.

    ``max x over rows floor(i·H/h) to ceil((i+1)·H/h), columns alike``

    Shape: N×C×H×W to N×C×h×w.

    Args:
        output: size of the answer (integer or [h, w], at least 1, at most 256).
    """
    return make("adaptive_max_pool", output=output)


def spatial_pyramid(levels: int | Sequence[int] = (1, 2, 4), *, op: Literal["max", "average"] = "max") -> Block:
    """A vector of one length for maps of any size: adaptive pools from coarse to fine, joined.

    ``concat over the levels l of flatten(adaptive_pool([l, l]))``

    Shape: N×C×H×W to N×(C·sum of levels²).

    Source: He et al. 2014.

    Args:
        levels: places a side (list of integers, at least 1, at most 64).
        op: what each window gives (one of max, average).
    """
    return make("spatial_pyramid", levels=levels, op=op)


def gap() -> Block:
    """Global average pooling: how much of a feature there is, wherever it is. The texture of an image.

    ``mean x over H×W``

    Shape: N×C×H×W or N×T×C to N×C.

    Source: Lin et al. 2013.
    """
    return make("gap")


def gmp() -> Block:
    """Global max pooling: the strongest response, wherever it is, whatever the background.

    ``max x``

    Shape: N×C×H×W or N×T×C to N×C.
    """
    return make("gmp")


def global_min() -> Block:
    """The weakest response of a map.

    ``min x``

    Shape: N×C×H×W or N×T×C to N×C.
    """
    return make("global_min")


def global_sum() -> Block:
    """The sum of a map.

    ``sum x``

    Shape: N×C×H×W or N×T×C to N×C.
    """
    return make("global_sum")


def global_std(ddof: int = 0) -> Block:
    """How much a feature varies over the image.

    ``sqrt(mean (x - mean x)²)``

    Shape: N×C×H×W or N×T×C to N×C.

    Args:
        ddof: 1: divide by n - 1 (integer, at least 0, at most 1).
    """
    return make("global_std", ddof=ddof)


def global_lp(p: float = 2.0) -> Block:
    """The p-norm of a map.

    ``(sum |x|^p)^(1/p)``

    Shape: N×C×H×W or N×T×C to N×C.

    Args:
        p: the power (number, at least 0.01, at most 100).
    """
    return make("global_lp", p=p)


def gem(p: float = 3.0, *, eps: float = 1e-06) -> Block:
    """Generalized mean: between the average (p = 1) and the maximum (p large); for image retrieval.

    ``(mean max(x, eps)^p over H×W)^(1/p)``

    Shape: N×C×H×W or N×T×C to N×C.

    Source: Radenović et al. 2018.

    Args:
        p: the power (number, at least 0.01, at most 100).
        eps: what smaller values count as (number, at least 1e-30).
    """
    return make("gem", p=p, eps=eps)


def avg_max() -> Block:
    """Average and maximum of every map, side by side.

    ``concat(gap, gmp)``

    Shape: N×C×H×W or N×T×C to N×2C.
    """
    return make("avg_max")


def k_max(k: int, *, axis: int = -1) -> Block:
    """The k largest values along an axis, in their original order.

    ``the k largest x, in order``

    Shape: k along the axis.

    Source: Kalchbrenner et al. 2014.

    Args:
        k: how many (integer, at least 1, at most 1.04858e+06).
        axis: -1 is the last (integer, at least -8, at most 7).
    """
    return make("k_max", k=k, axis=axis)


def dynamic_k_max(k_top: int, depth: int, layer: int, *, axis: int = -1) -> Block:
    """k_max whose k shrinks with the depth of the layer and grows with the length of the axis.

    ``k = max(k_top, ceil((depth - layer) / depth · length))``

    Shape: k along the axis.

    Source: Kalchbrenner et al. 2014.

    Args:
        k_top: k of the top layer (integer, at least 1, at most 1.04858e+06).
        depth: number of layers (integer, at least 1, at most 1024).
        layer: which one this is (integer, at least 0, at most 1024).
        axis: -1 is the last (integer, at least -8, at most 7).
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
    """Mean 0 and variance 1 for every channel, over the training set (running) or over this request (batch).

    ``scale·(x - mean) / sqrt(variance + eps) + bias``

    Source: Ioffe & Szegedy 2015.

    Args:
        mean: the running mean (number, or one a channel).
        variance: the running variance (number, or one a channel).
        scale: multiplies the result (number, or one a channel).
        bias: is added to it (number, or one a channel).
        eps: keeps the divisor from zero (number, at least 0).
        stats: the given ones, or those of the images of this request (one of running, batch).
    """
    return make("batch_norm", mean=mean, variance=variance, scale=scale, bias=bias, eps=eps, stats=stats)


def instance_norm(
    scale: float | Sequence[float] = (1.0,), *, bias: float | Sequence[float] = (0.0,), eps: float = 1e-05
) -> Block:
    """Mean 0 and variance 1 for every map of every image: contrast normalization, the style removed.

    ``scale·(x - mean) / sqrt(variance + eps) + bias, over H×W``

    Source: Ulyanov et al. 2016.

    Args:
        scale: multiplies the result (number, or one a channel).
        bias: is added to it (number, or one a channel).
        eps: keeps the divisor from zero (number, at least 0).
    """
    return make("instance_norm", scale=scale, bias=bias, eps=eps)


def layer_norm(
    axes: int | Sequence[int] = (1, 2, 3),
    *,
    scale: float | Sequence[float] = (1.0,),
    bias: float | Sequence[float] = (0.0,),
    eps: float = 1e-05,
) -> Block:
    """Mean 0 and variance 1 over all of an image, or over the axes you name.

    ``scale·(x - mean) / sqrt(variance + eps) + bias, over the axes``

    Source: Ba et al. 2016.

    Args:
        axes: what is normalized together (list of integers, at least 1, at most 7).
        scale: multiplies the result (number, or one a channel).
        bias: is added to it (number, or one a channel).
        eps: keeps the divisor from zero (number, at least 0).
    """
    return make("layer_norm", axes=axes, scale=scale, bias=bias, eps=eps)


def group_norm(
    groups: int, *, scale: float | Sequence[float] = (1.0,), bias: float | Sequence[float] = (0.0,), eps: float = 1e-05
) -> Block:
    """Mean 0 and variance 1 over groups of channels of one image.

    ``scale·(x - mean) / sqrt(variance + eps) + bias, over a group of channels and H×W``

    Source: Wu & He 2018.

    Args:
        groups: number of groups (integer, at least 1, at most 65536).
        scale: multiplies the result (number, or one a channel).
        bias: is added to it (number, or one a channel).
        eps: keeps the divisor from zero (number, at least 0).
    """
    return make("group_norm", groups=groups, scale=scale, bias=bias, eps=eps)


def rms_norm(
    axes: int | Sequence[int] = (1, 2, 3),
    *,
    scale: float | Sequence[float] = (1.0,),
    bias: float | Sequence[float] = (0.0,),
    eps: float = 1e-05,
) -> Block:
    """Divides by the root of the mean square; the mean stays.

    ``scale·x / sqrt(mean x² + eps) + bias, over the axes``

    Source: Zhang & Sennrich 2019.

    Args:
        axes: what is normalized together (list of integers, at least 1, at most 7).
        scale: multiplies the result (number, or one a channel).
        bias: is added to it (number, or one a channel).
        eps: keeps the divisor from zero (number, at least 0).
    """
    return make("rms_norm", axes=axes, scale=scale, bias=bias, eps=eps)


def lrn(size: int = 5, *, alpha: float = 0.0001, beta: float = 0.75, k: float = 1.0) -> Block:
    """Local response normalization: strong neighbours among the channels hold a response down.

    ``x / (k + alpha/size·sum x² over size neighbouring channels)^beta``

    Source: Krizhevsky et al. 2012.

    Args:
        size: neighbouring channels (integer, at least 1, at most 1024).
        alpha: the neighbours' weight (number, at least 0).
        beta: the power (number).
        k: keeps the divisor from zero (number, at least 0).
    """
    return make("lrn", size=size, alpha=alpha, beta=beta, k=k)


def lcn(size: int = 9, *, sigma: float | None = None) -> Block:
    """Local contrast normalization: what differs from its surroundings, measured by how much those vary.

    ``v = x - Gaussian mean of x; v / max(c, s), s the Gaussian-weighted deviation over all channels, c its mean``

    Source: Jarrett et al. 2009.

    Args:
        size: of the window, a side (integer, at least 1, at most 255).
        sigma: of the Gaussian, in places; without it a quarter of size (number, at least 0.1, at most 1000).
    """
    return make("lcn", size=size, sigma=sigma)


def divisive_norm(size: int = 9, *, sigma: float = 1.0) -> Block:
    """Divides a response by the activity around it, over all channels.

    ``x / (sigma + mean of |x| over size×size places and all channels)``

    Source: Heeger 1992.

    Args:
        size: of the window, a side (integer, at least 1, at most 255).
        sigma: semi-saturation (number, at least 0).
    """
    return make("divisive_norm", size=size, sigma=sigma)


def min_max(
    low: float = 0.0, *, high: float = 1.0, scope: Literal["sample", "channel", "batch", "column"] = "sample"
) -> Block:
    """Stretches the values from low to high; a constant becomes low.

    ``(x - min) / (max - min)·(high - low) + low``

    Args:
        low: what the smallest becomes (number).
        high: what the largest becomes (number).
        scope: all of one image; one image, one channel; one channel over the images of the request; each feature over
            the images of the request (one of sample, channel, batch, column).
    """
    return make("min_max", low=low, high=high, scope=scope)


def z_score(
    scope: Literal["sample", "channel", "batch", "column"] = "sample", *, ddof: int = 0, eps: float = 1e-12
) -> Block:
    """Subtracts the mean and divides by the standard deviation; a constant becomes zero.

    ``(x - mean) / max(std, eps)``

    Args:
        scope: all of one image; one image, one channel; one channel over the images of the request; each feature over
            the images of the request (one of sample, channel, batch, column).
        ddof: 1: divide by n - 1 (integer, at least 0, at most 1).
        eps: the smallest divisor (number, at least 0).
    """
    return make("z_score", scope=scope, ddof=ddof, eps=eps)


def l1(axis: int = 1, *, eps: float = 1e-12) -> Block:
    """Divides by the sum of absolute values along an axis: shares of a whole.

    ``x / max(sum |x|, eps)``

    Args:
        axis: 1 is the channels (integer, at least -8, at most 7).
        eps: the smallest divisor (number, at least 0).
    """
    return make("l1", axis=axis, eps=eps)


def l2(axis: int = 1, *, eps: float = 1e-12) -> Block:
    """Divides by the Euclidean length along an axis: a dot product is then the cosine.

    ``x / max(sqrt(sum x²), eps)``

    Args:
        axis: 1 is the channels (integer, at least -8, at most 7).
        eps: the smallest divisor (number, at least 0).
    """
    return make("l2", axis=axis, eps=eps)


def mean_variance(axes: int | Sequence[int] = (2, 3), *, eps: float = 1e-09) -> Block:
    """Mean 0 and variance 1 over the axes you name; with axis 0 over the images of the request.

    ``(x - mean) / sqrt(variance + eps)``

    Source: ONNX MeanVarianceNormalization.

    Args:
        axes: normalized together (list of integers, at least 0, at most 7).
        eps: keeps the divisor from zero (number, at least 0).
    """
    return make("mean_variance", axes=axes, eps=eps)


def signed_sqrt() -> Block:
    """The square root with the sign kept: takes the weight off a few large responses.

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
    """Every filter looks for its pattern at every place. Not flipped, as in every network: a cross-correlation.

    ``y[o, p] = bias[o] + sum over i, q of weight[o, i, q]·x[i, s·p + d·q]; weight is out×(C/groups)×kh×kw``

    Shape: N×C×H×W to N×out×H'×W'; valid: floor((i - (d(k-1)+1)) / s) + 1 a side, same: ceil(i / s).

    Args:
        out: channels of the answer (integer, at least 1, at most 65536).
        kernel: size of each filter, a side (integer or [h, w], at least 1, at most 1024).
        stride: step of the filter (integer or [h, w], at least 1, at most 1024).
        padding: zeros around the map; same puts an extra row at the end, same_lower at the start (valid | same |
            same_lower, an integer, [h, w] or [top, left, bottom, right], at least 0, at most 1024).
        dilation: distance of the filter's elements (integer or [h, w], at least 1, at most 1024).
        groups: parts of the channels that do not mix (integer, at least 1, at most 65536).
        weight: its numbers as nested lists, or initial weights; without it, in model.yaml, those of the weights file
            (nested lists of numbers, or initial weights such as he or "gabor(orientations=8)").
        bias: added to each channel; true: of the weights file, and 0 where the weight is given (true, false, or one
            number a channel).
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
    """Filters that look at one channel each: patterns in space, the channels apart.

    ``conv with one group a channel; weight is (C·multiplier)×1×kh×kw``

    Shape: N×C×H×W to N×(C·multiplier)×H'×W'; valid: floor((i - (d(k-1)+1)) / s) + 1 a side, same: ceil(i / s).

    Args:
        kernel: size of each filter, a side (integer or [h, w], at least 1, at most 1024).
        stride: step of the filter (integer or [h, w], at least 1, at most 1024).
        padding: zeros around the map; same puts an extra row at the end, same_lower at the start (valid | same |
            same_lower, an integer, [h, w] or [top, left, bottom, right], at least 0, at most 1024).
        dilation: distance of the filter's elements (integer or [h, w], at least 1, at most 1024).
        multiplier: filters a channel (integer, at least 1, at most 1024).
        weight: its numbers as nested lists, or initial weights; without it, in model.yaml, those of the weights file
            (nested lists of numbers, or initial weights such as he or "gabor(orientations=8)").
        bias: added to each channel; true: of the weights file, and 0 where the weight is given (true, false, or one
            number a channel).
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
    """The way back from a strided convolution: every value lays its filter down, and where they overlap they add.

    ``y[o, s·p + d·q] += weight[i, o, q]·x[i, p]; weight is C×(out/groups)×kh×kw``

    Shape: N×C×H×W to N×out×H'×W'; valid: (i - 1)·s + d(k-1) + 1 a side, same: i·s, numbers: valid less the padding.

    Args:
        out: channels of the answer (integer, at least 1, at most 65536).
        kernel: size of each filter, a side (integer or [h, w], at least 1, at most 1024).
        stride: step of the filter (integer or [h, w], at least 1, at most 1024).
        padding: zeros around the map; same puts an extra row at the end, same_lower at the start (valid | same |
            same_lower, an integer, [h, w] or [top, left, bottom, right], at least 0, at most 1024).
        dilation: distance of the filter's elements (integer or [h, w], at least 1, at most 1024).
        groups: parts of the channels that do not mix (integer, at least 1, at most 65536).
        weight: its numbers as nested lists, or initial weights; without it, in model.yaml, those of the weights file
            (nested lists of numbers, or initial weights such as he or "gabor(orientations=8)").
        bias: added to each channel; true: of the weights file, and 0 where the weight is given (true, false, or one
            number a channel).
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
    """Each value of the answer is a weighted sum of all features: of a vector, or of every token.

    ``x·weightᵀ + bias; weight is out×C``

    Shape: N×C to N×out, N×T×C to N×T×out.

    Args:
        out: channels of the answer (integer, at least 1, at most 65536).
        weight: its numbers as nested lists, or initial weights; without it, in model.yaml, those of the weights file
            (nested lists of numbers, or initial weights such as he or "gabor(orientations=8)").
        bias: added to each channel; true: of the weights file, and 0 where the weight is given (true, false, or one
            number a channel).
    """
    return make("linear", out=out, weight=weight, bias=bias)


def flatten() -> Block:
    """One vector an image, in the order the values lie in.

    ``x``

    Shape: N×… to N×(product of the rest).
    """
    return make("flatten")


def transpose(perm: int | Sequence[int]) -> Block:
    """Another order of the axes; the batch stays in front.

    ``y[…] = x[perm]``

    Shape: the sizes in the order of perm.

    Args:
        perm: 0 first, then the others (list of integers, at least 0, at most 7).
    """
    return make("transpose", perm=perm)


def reshape(shape: int | Sequence[int]) -> Block:
    """Another shape of one image's values, in the order they lie in.

    ``x``

    Shape: N×… to N×shape.

    Args:
        shape: -1, once, for what is left (list of integers, at least -1, at most 2.14748e+09).
    """
    return make("reshape", shape=shape)


def squeeze() -> Block:
    """Leaves out the axes of size 1; the batch stays.

    ``x``

    Shape: without the sizes of 1.
    """
    return make("squeeze")


def select(channels: int | Sequence[int]) -> Block:
    """Only these channels, in this order.

    ``x[:, channels]``

    Shape: N×C×… to N×(number of channels)×….

    Args:
        channels: counted from 0 (list of integers, at least 0, at most 65536).
    """
    return make("select", channels=channels)


def top_channels(k: int, *, by: Literal["mean", "max", "l2"] = "mean") -> Block:
    """The k channels of each image that respond most, the strongest first.

    ``x[:, the k largest by mean, maximum or Euclidean norm]``

    Shape: N×C×… to N×k×….

    Args:
        k: how many (integer, at least 1, at most 65536).
        by: what makes a channel strong (one of mean, max, l2).
    """
    return make("top_channels", k=k, by=by)


def crop(height: int, width: int, *, top: int | None = None, left: int | None = None) -> Block:
    """A window of the map, the centre unless top and left say otherwise.

    ``x[…, top:top+height, left:left+width]``

    Shape: N×C×H×W to N×C×height×width.

    Args:
        height: of the window (integer, at least 1, at most 65536).
        width: of the window (integer, at least 1, at most 65536).
        top: first row; without it the centre (integer, at least 0, at most 65536).
        left: first column; without it the centre (integer, at least 0, at most 65536).
    """
    return make("crop", height=height, width=width, top=top, left=left)


def resize(height: int, width: int, *, mode: Literal["nearest", "linear", "cubic"] = "linear") -> Block:
    """The map at another size.

    ``interpolation between the centres of places, as torch.nn.functional.interpolate``

    Shape: N×C×H×W to N×C×height×width.

    Args:
        height: of the answer (integer, at least 1, at most 65536).
        width: of the answer (integer, at least 1, at most 65536).
        mode: interpolation (one of nearest, linear, cubic).
    """
    return make("resize", height=height, width=width, mode=mode)


def tokens(take: Literal["cls", "mean", "grid", "all"] = "cls", *, prefix: int = 1) -> Block:
    """What to take of a transformer's tokens.

    ``cls: the first; mean: the mean behind the prefix; grid: those behind it as a square map; all: those behind it``

    Shape: N×T×C to N×C, N×C×h×w or N×T'×C.

    Args:
        take: what of them (one of cls, mean, grid, all).
        prefix: tokens that are no place (integer, at least 0, at most 4096).
    """
    return make("tokens", take=take, prefix=prefix)


def gram() -> Block:
    """Which features occur together, wherever they do: the style of an image.

    ``sum over places of x_i·x_j / (H·W)``

    Shape: N×C×H×W to N×C×C.

    Source: Gatys et al. 2015.
    """
    return make("gram")


def stats() -> Block:
    """Six numbers an image: smallest, largest, mean, standard deviation, fraction of zeros, Euclidean norm.

    ``min x, max x, mean x, std x, mean [x = 0], sqrt(sum x²)``

    Shape: N×… to N×6.
    """
    return make("stats")


def cast(dtype: Literal["float16", "float32", "float64", "uint8", "int8", "int32", "int64"]) -> Block:
    """Another element type. To integers it cuts off the fraction and stops at the type's ends.

    ``x``

    Args:
        dtype: the element type of the answer (one of float16, float32, float64, uint8, int8, int32, int64).
    """
    return make("cast", dtype=dtype)


def quantize(dtype: Literal["uint8", "int8"] = "uint8", *, per: Literal["tensor", "channel"] = "tensor") -> Block:
    """A byte for each value, a quarter of the bytes; the answer has a scale and a zero point. The end of a head.

    ``q = clip(round(x / scale) + zero_point); scale = (max(x, 0) - min(x, 0)) / 255, of each image by itself``

    Source: ONNX DynamicQuantizeLinear.

    Args:
        dtype: the element type (one of uint8, int8).
        per: what has its own scale (one of tensor, channel).
    """
    return make("quantize", dtype=dtype, per=per)
