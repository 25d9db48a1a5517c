"""Define the forms in which every block is checked: a head, and the same computation in float64 NumPy.

Heads run on N×C×H×W of any size that `Case.smallest` allows. C is even, so that channels can be halved and grouped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from layertap.types import Array
from tests import references as r

Reference = Callable[[Array], Array]
"""A function from input to expected output."""


@dataclass(frozen=True)
class Case:
    """A head and its reference."""

    head: str
    """The head."""
    reference: Reference
    """The same computation in float64 NumPy."""
    smallest: int = 1
    """Minimum height and width."""
    float16: bool = True
    """Whether the computation stays in float16's range."""

    @property
    def block(self) -> str:
        """Name of the last block."""
        return self.head.rsplit("|", 1)[-1].split("(")[0].strip()


def case(head: str, reference: Reference, smallest: int = 1, *, float16: bool = True) -> Case:
    """Return a case."""
    return Case(head, reference, smallest, float16)


def halves(x: Array, path: Reference) -> Array:
    """Concatenate the results for x and -x along the channels."""
    return np.concatenate([path(x), path(-x)], axis=1)


ACTIVATIONS = [
    case("identity", lambda x: x),
    case("sigmoid", r.sigmoid),
    case("hard_sigmoid", lambda x: np.clip(x / 6 + 0.5, 0, 1)),
    case("hard_sigmoid(0.3, beta=0.1)", lambda x: np.clip(0.3 * x + 0.1, 0, 1)),
    case("hard_logistic", lambda x: np.clip(x / 4 + 0.5, 0, 1)),
    case("tanh", np.tanh),
    case("hard_tanh", lambda x: np.clip(x, -1, 1)),
    case("relu", r.relu),
    case("relu6", lambda x: np.clip(x, 0, 6)),
    case("clip(-0.5, high=2)", lambda x: np.clip(x, -0.5, 2)),
    case("thresholded_relu", lambda x: np.where(x > 1, x, 0)),
    case("thresholded_relu(0.25)", lambda x: np.where(x > 0.25, x, 0)),
    case("half_wave", r.relu),
    case("half_wave(0.5)", lambda x: np.maximum(x - 0.5, 0)),
    case("leaky_relu", lambda x: r.leaky(x, 0.01)),
    case("leaky_relu(0.2)", lambda x: r.leaky(x, 0.2)),
    case("prelu(0.25)", lambda x: r.leaky(x, 0.25)),
    case("prelu([0.1, 0.2, 0.3, 0.4])", lambda x: r.leaky(x, r.channelwise([0.1, 0.2, 0.3, 0.4]))),
    case("rrelu", lambda x: r.leaky(x, (1 / 8 + 1 / 3) / 2)),
    case("rrelu(0.1, upper=0.5)", lambda x: r.leaky(x, 0.3)),
    case("rrelu(form=divisor)", lambda x: r.leaky(x, 1 / 5.5)),
    case("elu", r.elu),
    case("elu(0.5)", lambda x: r.elu(x, 0.5)),
    case("selu", r.selu),
    case("celu", r.celu),
    case("celu(0.5)", lambda x: r.celu(x, 0.5)),
    case(
        "srelu(1, a_right=0.5, t_left=-1, a_left=0.1)",
        lambda x: r.srelu(x, np.array(1), np.array(0.5), np.array(-1), np.array(0.1)),
    ),
    case(
        "srelu([1, 2, 3, 4], a_right=0.5, t_left=[-1, -2, -3, -4], a_left=0.1)",
        lambda x: r.srelu(x, np.array([1, 2, 3, 4]), np.array(0.5), -np.array([1, 2, 3, 4]), np.array(0.1)),
    ),
    case("crelu", lambda x: halves(x, r.relu)),
    case("two_path", lambda x: halves(x, r.relu)),
    case("two_path(0.5)", lambda x: halves(x, lambda y: np.maximum(y - 0.5, 0))),
    case("half_square", lambda x: r.relu(x) ** 2),
    case("two_path_square", lambda x: halves(x, lambda y: r.relu(y) ** 2)),
    case("abs", np.abs),
    case("square", lambda x: x**2),
    case("modulus", r.modulus),
    case("modulus(4)", lambda x: r.modulus(x, 4)),
    case("softplus", r.softplus),
    case("softplus(2)", lambda x: r.softplus(x, 2)),
    case("softsign", lambda x: x / (1 + np.abs(x))),
    case("softshrink", lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0)),
    case("hardshrink(0.25)", lambda x: np.where(np.abs(x) > 0.25, x, 0)),
    case("tanhshrink", lambda x: x - np.tanh(x)),
    case("log_sigmoid", lambda x: -np.logaddexp(0, -x)),
    case("erf", r.erf),
    case("softmax", r.softmax),
    case("softmax(-1)", lambda x: r.softmax(x, -1)),
    case("log_softmax", lambda x: x - np.logaddexp.reduce(x, axis=1, keepdims=True)),
    case("softmin", lambda x: r.softmax(-x)),
    case("swish", lambda x: x * r.sigmoid(x)),
    case("swish(1.5)", lambda x: x * r.sigmoid(1.5 * x)),
    case("hard_swish", lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    case("mish", lambda x: x * np.tanh(np.logaddexp(0, x))),
    case("gelu", lambda x: x * (1 + r.erf(x / np.sqrt(2))) / 2),
    case("gelu(tanh)", lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))),
    case("quick_gelu", lambda x: x * r.sigmoid(1.702 * x)),
    case("maxout(2)", lambda x: r.maxout(x, 2)),
    case("glu", r.glu),
    case("simam", r.simam),
]

WINDOW: dict[str, Any] = {"kernel": (3, 3), "stride": (2, 2), "padding": "same"}
SCORES = (0.5, 1.0, -0.5, 0.25)
POOLINGS = [
    case("max_pool(2)", lambda x: r.max_pool(x, kernel=(2, 2)), 2),
    case("max_pool(3, stride=2, padding=same)", lambda x: r.max_pool(x, **WINDOW)),
    case("min_pool(3, stride=2, padding=same)", lambda x: r.min_pool(x, **WINDOW)),
    case("average_pool(2)", lambda x: r.average_pool(x, kernel=(2, 2)), 2),
    case("average_pool(3, stride=2, padding=same)", lambda x: r.average_pool(x, **WINDOW)),
    case("sum_pool(3, stride=2, padding=same)", lambda x: r.sum_pool(x, **WINDOW)),
    case("lp_pool(3, stride=2, padding=same)", lambda x: r.lp_pool(x, **WINDOW)),
    case("lp_pool(2, p=3)", lambda x: r.lp_pool(x, 3, kernel=(2, 2)), 2),
    case("stochastic_pool(3, stride=2, padding=same)", lambda x: r.stochastic_pool(x, **WINDOW)),
    case("mixed_pool(3, stride=2, padding=same)", lambda x: r.mixed_pool(x, **WINDOW)),
    case("mixed_pool(2, max_weight=0.25)", lambda x: r.mixed_pool(x, 0.25, kernel=(2, 2)), 2),
    case("sort_pool(2, scores=[0.5, 1, -0.5, 0.25])", lambda x: r.sort_pool(x, SCORES, kernel=(2, 2)), 2),
    case(
        "sort_pool(2, stride=1, padding=same, scores=[0.5, 1, -0.5, 0.25])",
        lambda x: r.sort_pool(x, SCORES, kernel=(2, 2), stride=(1, 1), padding="same"),
    ),
    case("max_pool(2) | max_unpool", lambda x: r.max_unpool(x, kernel=(2, 2)), 2),
    case("max_pool(3, stride=2, padding=same) | max_unpool", lambda x: r.max_unpool(x, **WINDOW)),
    case(
        "max_pool(3, stride=1) | relu | max_unpool", lambda x: r.relu(r.max_unpool(x, kernel=(3, 3), stride=(1, 1))), 3
    ),
    case("adaptive_average_pool([3, 2])", lambda x: r.adaptive(x, (3, 2), np.mean)),
    case("adaptive_max_pool([3, 2])", lambda x: r.adaptive(x, (3, 2), np.max)),
    case("spatial_pyramid", r.spatial_pyramid),
    case("spatial_pyramid([1, 3], op=average)", lambda x: r.spatial_pyramid(x, (1, 3), np.mean)),
    case("gap", r.gap),
    case("gmp", r.gmp),
    case("global_min", lambda x: x.min(axis=(2, 3))),
    case("global_sum", lambda x: x.sum(axis=(2, 3))),
    case("global_std", lambda x: x.std(axis=(2, 3))),
    case("global_std(1)", lambda x: x.std(axis=(2, 3), ddof=1), 2),
    case("global_lp", lambda x: np.sqrt((x**2).sum(axis=(2, 3)))),
    case("global_lp(3)", lambda x: (np.abs(x) ** 3).sum(axis=(2, 3)) ** (1 / 3)),
    case("gem", r.gem, float16=False),  # 1e-6 cubed is below float16's range
    case("gem(p=5.5, eps=0.01)", lambda x: r.gem(x, 5.5, 0.01), float16=False),
    case("avg_max", lambda x: np.concatenate([x.mean(axis=(2, 3)), x.max(axis=(2, 3))], axis=1)),
    case("k_max(2)", lambda x: r.k_max(x, 2), 2),
    case("k_max(3, axis=1)", lambda x: r.k_max(x, 3, 1)),
    case("dynamic_k_max(1, depth=4, layer=2)", lambda x: r.k_max(x, max(1, -(-x.shape[-1] // 2)))),
]

NORMALIZATIONS = [
    case(
        "batch_norm([1, 2, 3, 4], variance=[1, 4, 9, 16], scale=[1, 2, 3, 4], bias=0.5)",
        lambda x: r.batch_norm(x, [1, 2, 3, 4], [1, 4, 9, 16], [1, 2, 3, 4], 0.5),
    ),
    case("batch_norm(stats=batch)", lambda x: r.standardized(x, (0, 2, 3)), 2),
    case("instance_norm", lambda x: r.standardized(x, (2, 3)), 2),
    case("instance_norm([1, 2, 3, 4], bias=1)", lambda x: r.standardized(x, (2, 3), 1e-5, [1, 2, 3, 4], 1), 2),
    case("layer_norm", lambda x: r.standardized(x, (1, 2, 3))),
    case("layer_norm(1)", lambda x: r.standardized(x, (1,))),
    case("group_norm(2)", lambda x: r.group_norm(x, 2)),
    case("rms_norm", r.rms_norm),
    case("rms_norm(1)", lambda x: r.rms_norm(x, (1,))),
    case("lrn", r.lrn),
    case("lrn(4, alpha=0.5)", lambda x: r.lrn(x, 4, 0.5)),
    case("lrn(3, alpha=0.1, beta=0.5, k=2)", lambda x: r.lrn(x, 3, 0.1, 0.5, 2)),
    case("lcn", r.lcn, 2),
    case("lcn(4, sigma=2)", lambda x: r.lcn(x, 4, 2), 2),
    case("divisive_norm", r.divisive_norm),
    case("divisive_norm(4, sigma=0.5)", lambda x: r.divisive_norm(x, 4, 0.5)),
    case("min_max", r.min_max),
    case("min_max(-1, high=3, scope=channel)", lambda x: r.min_max(x, (2, 3), -1, 3)),
    case("min_max(scope=batch)", lambda x: r.min_max(x, (0, 2, 3))),
    case("min_max(scope=column)", lambda x: r.min_max(x, (0,))),
    case("z_score", r.z_score),
    case("l1", r.l1),
    case("l2", r.l2),
    case("l2(2, eps=3)", lambda x: r.l2(x, 2, 3)),
    case("mean_variance", lambda x: r.standardized(x, (2, 3), 1e-9), 2),
    case("mean_variance([0, 2, 3])", lambda x: r.standardized(x, (0, 2, 3), 1e-9), 2),
    case("signed_sqrt", lambda x: np.sign(x) * np.sqrt(np.abs(x))),
]


def weight(seed: int, *shape: int) -> Array:
    """Return random weights with one decimal, which a head can contain."""
    return np.round(np.random.default_rng(seed).normal(size=shape), 1)


def per_channel(filters: Array) -> Array:
    """Return the filters repeated over four channels, so that they filter the channels' mean."""
    return np.repeat(filters[:, None], 4, axis=1) / 4


SOBEL = np.array([[[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], [[-1, -2, -1], [0, 0, 0], [1, 2, 1]]]) / 8
W_ONE, W_GROUPS, W_DEPTH, W_UP, W_LINEAR = (
    weight(0, 3, 4, 1, 1),
    weight(1, 4, 2, 3, 2),
    weight(2, 8, 1, 2, 3),
    weight(3, 4, 1, 3, 2),
    weight(4, 5, 4),
)

CONVOLUTIONS = [
    case(f"conv(3, 1, bias=[1, 2, 3], weight={W_ONE.tolist()})", lambda x: r.conv(x, W_ONE, np.array([1, 2, 3]))),
    case(
        f"conv(4, [3, 2], stride=2, padding=same, groups=2, bias=0.5, weight={W_GROUPS.tolist()})",
        lambda x: r.conv(x, W_GROUPS, 0.5, (2, 2), "same", groups=2),
    ),
    case(
        f"conv(4, [3, 2], padding=[3, 1, 0, 2], dilation=2, groups=2, weight={W_GROUPS.tolist()})",
        lambda x: r.conv(x, W_GROUPS, 0.0, (1, 1), (3, 1, 0, 2), (2, 2), 2),
        3,
    ),
    case("conv(2, 3, weight=sobel)", lambda x: r.conv(x, per_channel(SOBEL)), 3),
    case(
        'conv(8, 5, padding=same_lower, weight="gabor(2, scales=2, wavelength=3)")',
        lambda x: r.conv(x, per_channel(r.gabor_filters((5, 5), 2, 2, 3.0)), padding="same_lower"),
    ),
    case(
        'conv(1, [5, 4], padding=same, weight="gaussian(1.5)")',
        lambda x: r.conv(x, per_channel(r.gaussian_filter((5, 4), 1.5)[None]), padding="same"),
    ),
    case(
        "conv(1, 7, padding=same, weight=laplacian)",
        lambda x: r.conv(x, per_channel(r.laplacian_filter((7, 7), 7 / 6)[None]), padding="same"),
    ),
    case(
        f"depthwise_conv([2, 3], multiplier=2, stride=[1, 2], padding=same_lower, weight={W_DEPTH.tolist()})",
        lambda x: r.conv(x, W_DEPTH, 0.0, (1, 2), "same_lower", groups=4),
    ),
    case(
        "depthwise_conv(3, multiplier=2, weight=sobel)",
        lambda x: r.conv(x, np.tile(SOBEL[:, None], (4, 1, 1, 1)), groups=4),
        3,
    ),
    case(
        f"transposed_conv(2, [3, 2], stride=2, groups=2, bias=[1, -1], weight={W_UP.tolist()})",
        lambda x: r.transposed_conv(x, W_UP, np.array([1, -1]), (2, 2), groups=2),
    ),
    case(
        f"transposed_conv(2, [3, 2], stride=[2, 3], padding=same, groups=2, weight={W_UP.tolist()})",
        lambda x: r.transposed_conv(x, W_UP, 0.0, (2, 3), "same", groups=2),
    ),
    case(
        f"transposed_conv(2, [3, 2], stride=2, padding=[1, 0, 2, 1], dilation=2, groups=2, weight={W_UP.tolist()})",
        lambda x: r.transposed_conv(x, W_UP, 0.0, (2, 2), (1, 0, 2, 1), (2, 2), 2),
    ),
    case(f"gap | linear(5, weight={W_LINEAR.tolist()})", lambda x: x.mean((2, 3)) @ W_LINEAR.T),
    case(
        f"transpose([0, 2, 3, 1]) | reshape([-1, 4]) | linear(5, bias=[1, 2, 3, 4, 5], weight={W_LINEAR.tolist()})",
        lambda x: x.transpose(0, 2, 3, 1).reshape(len(x), -1, 4) @ W_LINEAR.T + np.arange(1, 6),
    ),
]

SHAPES = [
    case("flatten", lambda x: x.reshape(len(x), -1)),
    case("transpose([0, 2, 3, 1])", lambda x: x.transpose(0, 2, 3, 1)),
    case("reshape([2, -1])", lambda x: x.reshape(len(x), 2, -1)),
    case("gap | reshape([4, 1, 1]) | squeeze", lambda x: x.mean(axis=(2, 3))),
    case("select([3, 0, 0])", lambda x: x[:, [3, 0, 0]]),
    case("zero_channels([1, 3])", lambda x: np.stack([x[:, c] * (c not in {1, 3}) for c in range(x.shape[1])], 1)),
    case("keep_channels([0, 2])", lambda x: np.stack([x[:, c] * (c in {0, 2}) for c in range(x.shape[1])], 1)),
    case(
        "scale_channels([2], factor=-1.5)",
        lambda x: np.stack([x[:, c] * (-1.5 if c == 2 else 1) for c in range(x.shape[1])], 1),
    ),
    case(
        "add_vector([1, -2, 0.5, 3])", lambda x: np.stack([x[:, c] + (1, -2, 0.5, 3)[c] for c in range(x.shape[1])], 1)
    ),
    case("top_channels(2)", lambda x: r.top_channels(x, 2)),
    case("top_channels(3, by=max)", lambda x: r.top_channels(x, 3, "max")),
    case("top_channels(1, by=l2)", lambda x: r.top_channels(x, 1, "l2")),
    case("crop(2, width=1, top=0, left=1)", lambda x: x[:, :, 0:2, 1:2], 2),
    case("crop(1, width=2)", lambda x: x[:, :, (x.shape[2] - 1) // 2 :][:, :, :1, (x.shape[3] - 2) // 2 :][..., :2], 2),
    case("resize(5, width=3)", lambda x: r.resize_linear(x, 5, 3)),
    case("resize(5, width=3, mode=cubic)", lambda x: r.resize_cubic(x, 5, 3)),
    case("resize(3, width=8, mode=nearest)", lambda x: r.resize_nearest(x, 3, 8)),
    case(
        "transpose([0, 2, 3, 1]) | reshape([-1, 4]) | tokens(mean, prefix=1)",
        lambda x: x.reshape(*x.shape[:2], -1)[:, :, 1:].mean(axis=2),
        2,
    ),
    case("reshape([-1, 2]) | read_as(NTC)", lambda x: x.reshape(len(x), -1, 2)),
    case("transpose([0, 2, 3, 1]) | read_as(NHWC) | gap", lambda x: x.mean(axis=(2, 3))),
    case("reshape([2, 1, -1, 2]) | read_as(NCDHW) | gap", lambda x: x.reshape(len(x), 2, -1).mean(axis=2)),
    case("gram", r.gram),
    case("stats", r.stats),
    case("channel_stats", r.channel_stats),
    case("cast(float64)", lambda x: x),
]

LOSSES = [
    case("cross_entropy(2)", lambda x: r.cross_entropy(x, 2)),
    case("binary_cross_entropy(0.25)", lambda x: r.binary_cross_entropy(x, 0.25), float16=False),
    case("binary_cross_entropy([0, 1, 1, 0.5])", lambda x: r.binary_cross_entropy(x, [0, 1, 1, 0.5]), float16=False),
    case("squared_error(1.5)", lambda x: r.squared_error(x, 1.5), float16=False),
    case("squared_error([1, 0, -1, 2])", lambda x: r.squared_error(x, [1, 0, -1, 2]), float16=False),
]
CASES = ACTIVATIONS + POOLINGS + NORMALIZATIONS + CONVOLUTIONS + SHAPES + LOSSES
