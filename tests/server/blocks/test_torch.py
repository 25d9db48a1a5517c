"""Tests of blocks against torch, if it is installed (the extra ``reference``) and has the block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.running import apply_head

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'layertap[reference]'")
f = torch.nn.functional

WEIGHT = np.random.default_rng(1).normal(size=(6, 2, 3, 2)).round(1)
UP = np.random.default_rng(2).normal(size=(4, 3, 3, 2)).round(1)
LINEAR = np.random.default_rng(3).normal(size=(5, 4)).round(1)


def given(array: Any) -> Any:
    """Return an array as a torch tensor."""
    return torch.tensor(array, dtype=torch.float32)


PAIRS: dict[str, Callable[[Any], Any]] = {
    "relu": f.relu,
    "relu6": f.relu6,
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": f.hardsigmoid,
    "hard_tanh": f.hardtanh,
    "hard_swish": f.hardswish,
    "leaky_relu(0.2)": lambda x: f.leaky_relu(x, 0.2),
    "prelu([0.1, 0.2, 0.3, 0.4])": lambda x: f.prelu(x, torch.tensor([0.1, 0.2, 0.3, 0.4])),
    "rrelu": f.rrelu,
    "elu(0.5)": lambda x: f.elu(x, 0.5),
    "selu": f.selu,
    "celu(0.5)": lambda x: f.celu(x, 0.5),
    "softplus(2)": lambda x: f.softplus(x, 2),
    "softsign": f.softsign,
    "softshrink": f.softshrink,
    "hardshrink": f.hardshrink,
    "tanhshrink": f.tanhshrink,
    "log_sigmoid": f.logsigmoid,
    "softmax": lambda x: f.softmax(x, 1),
    "log_softmax": lambda x: f.log_softmax(x, 1),
    "softmin": lambda x: f.softmin(x, 1),
    "swish": f.silu,
    "mish": f.mish,
    "gelu": f.gelu,
    "gelu(tanh)": lambda x: f.gelu(x, approximate="tanh"),
    "glu": lambda x: f.glu(x, 1),
    "max_pool(3, stride=2, padding=1)": lambda x: f.max_pool2d(x, 3, 2, 1),
    "max_pool(3, stride=2, dilation=2, ceil=true)": lambda x: f.max_pool2d(x, 3, 2, 0, 2, ceil_mode=True),
    "average_pool(3, stride=2, padding=1, count_include_pad=true)": lambda x: f.avg_pool2d(x, 3, 2, 1),
    "average_pool(3, stride=2, padding=1, ceil=true)": lambda x: f.avg_pool2d(
        x, 3, 2, 1, ceil_mode=True, count_include_pad=False
    ),
    "average_pool(3, stride=2, padding=1, ceil=true, count_include_pad=true)": lambda x: f.avg_pool2d(
        x, 3, 2, 1, ceil_mode=True
    ),
    "adaptive_average_pool([3, 2])": lambda x: f.adaptive_avg_pool2d(x, (3, 2)),
    "adaptive_max_pool([3, 2])": lambda x: f.adaptive_max_pool2d(x, (3, 2)),
    "instance_norm": f.instance_norm,
    "layer_norm": lambda x: f.layer_norm(x, x.shape[1:]),
    "group_norm(2)": lambda x: f.group_norm(x, 2),
    "rms_norm(eps=1e-5)": lambda x: f.rms_norm(x, x.shape[1:], eps=1e-5),
    "batch_norm(stats=batch)": lambda x: f.batch_norm(x, None, None, training=True),
    "lrn(3, alpha=0.1)": lambda x: f.local_response_norm(x, 3, alpha=0.1),
    f"conv(6, [3, 2], stride=2, padding=[1, 0], dilation=[1, 2], groups=2, bias=1, weight={WEIGHT.tolist()})": (
        lambda x: f.conv2d(x, given(WEIGHT), torch.ones(6), 2, (1, 0), (1, 2), 2)
    ),
    f"transposed_conv(6, [3, 2], stride=2, padding=1, groups=2, weight={UP.tolist()})": (
        lambda x: f.conv_transpose2d(x, given(UP), None, 2, 1, 0, 2)
    ),
    f"gap | linear(5, bias=2, weight={LINEAR.tolist()})": lambda x: f.linear(
        x.mean((2, 3)), given(LINEAR), torch.full((5,), 2.0)
    ),
    "l1": lambda x: f.normalize(x, p=1, dim=1),
    "l2": lambda x: f.normalize(x, dim=1),
    "resize(5, width=11)": lambda x: f.interpolate(x, (5, 11), mode="bilinear"),
    "resize(5, width=11, mode=cubic)": lambda x: f.interpolate(x, (5, 11), mode="bicubic"),
    "resize(5, width=11, mode=nearest)": lambda x: f.interpolate(x, (5, 11), mode="nearest"),
}


@pytest.mark.parametrize("head", PAIRS)
@pytest.mark.parametrize("size", [(7, 8), (9, 6)])
def test_torch_agrees(head: str, size: tuple[int, int]) -> None:
    x = np.random.default_rng(0).normal(0, 2, (2, 4, *size)).astype(np.float32)
    expected = PAIRS[head](torch.from_numpy(x)).numpy()
    actual, _ = apply_head(head, x)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * float(np.abs(expected).max()))


def test_max_unpool_agrees() -> None:
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 4, 8, 8)).astype(np.float32))
    pooled, indices = f.max_pool2d(x, 2, return_indices=True)
    expected = f.max_unpool2d(pooled, indices, 2).numpy()
    np.testing.assert_allclose(apply_head("max_pool(2) | max_unpool", x.numpy())[0], expected, atol=1e-6)
