"""Tests of the pools of series, N×C×T, and volumes, N×C×D×H×W, against a window by window computation in float64."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layertap.errors import ShapeMismatchError
from layertap.types import Array, Layout
from tests.references.pooling import output_size, same_padding
from tests.running import apply_head

LAYOUTS = {1: Layout.NCT, 3: Layout.NCDHW}
"""Layouts by number of spatial axes."""
Value = Callable[[Array, int], float]
"""Function from the values inside a window, and the number of its positions with padding, to the result."""


def pool(x: Array, value: Value, kernel: int, stride: int, dilation: int, padding: str, *, ceil: bool) -> Array:
    """Compute each window of a series or a volume."""
    sizes, before = [], []
    ends = []
    for size in x.shape[2:]:
        pads = same_padding(size, kernel, stride, dilation, lower=False) if padding == "same" else (0, 0)
        before.append(pads[0])
        ends.append(size + pads[1])
        sizes.append(output_size(size, kernel, stride, dilation, pads, ceil=ceil))
    result = np.empty((*x.shape[:2], *sizes))
    for image, channel, *window in itertools.product(*map(range, result.shape)):
        inside, padded = [], 0
        for element in itertools.product(range(kernel), repeat=x.ndim - 2):
            at = [w * stride - b + e * dilation for w, b, e in zip(window, before, element, strict=True)]
            if all(0 <= place < size for place, size in zip(at, x.shape[2:], strict=True)):
                inside.append(x[image, channel, *at])
            padded += all(-b <= place < end for place, b, end in zip(at, before, ends, strict=True))
        result[image, channel, *window] = value(np.array(inside), padded)
    return result


POOLS: dict[str, tuple[str, Value]] = {
    "max_pool": ("", lambda inside, _: float(inside.max())),
    "min_pool": ("", lambda inside, _: float(inside.min())),
    "average_pool": ("", lambda inside, _: float(inside.mean())),
    "average_pool ": (", count_include_pad=true", lambda inside, padded: float(inside.sum() / padded)),
    "sum_pool": ("", lambda inside, _: float(inside.sum())),
    "lp_pool": (", p=3", lambda inside, _: float((np.abs(inside) ** 3).sum() ** (1 / 3))),
    "mixed_pool": (", max_weight=0.25", lambda inside, _: float(0.25 * inside.max() + 0.75 * inside.mean())),
    "stochastic_pool": (
        "",
        lambda inside, _: float((np.maximum(inside, 0) ** 2).sum() / max(np.maximum(inside, 0).sum(), 1e-300)),
    ),
}
"""Further parameters and reference of each pool."""


def data(seed: int, sides: Sequence[int]) -> Array:
    """Return a random series or volume of two images and three channels."""
    return np.random.default_rng(seed).normal(size=(2, 3, *sides)).astype(np.float32)


@pytest.mark.parametrize("axes", [1, 3])
@pytest.mark.parametrize("name", POOLS)
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 99),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    padding=st.sampled_from(["valid", "same"]),
    ceil=st.booleans(),
    sides=st.lists(st.integers(3, 6), min_size=3, max_size=3),
)
def test_windows(
    name: str, axes: int, seed: int, kernel: int, stride: int, padding: str, *, ceil: bool, sides: list[int]
) -> None:
    more, value = POOLS[name]
    x = data(seed, sides[:axes])
    head = f"{name.strip()}({kernel}, stride={stride}, padding={padding}, ceil={str(ceil).lower()}{more})"
    actual, promised = apply_head(head, x, layout=LAYOUTS[axes])
    expected = pool(x.astype(np.float64), value, kernel, stride, 1, padding, ceil=ceil)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    assert promised.shape[1:] == actual.shape[1:]
    assert promised.layout is LAYOUTS[axes]


@pytest.mark.parametrize("axes", [1, 3])
def test_dilation(axes: int) -> None:
    x = data(0, (7, 6, 5)[:axes])
    for name in ("max_pool", "average_pool"):
        actual, _ = apply_head(f"{name}(2, stride=1, dilation=2)", x, layout=LAYOUTS[axes])
        expected = pool(x.astype(np.float64), POOLS[name][1], 2, 1, 2, "valid", ceil=False)
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("axes", [1, 3])
@pytest.mark.parametrize("name", ["average", "max"])
def test_adaptive_windows(axes: int, name: str) -> None:
    x = data(1, (7, 5, 4)[:axes])
    actual, promised = apply_head(f"adaptive_{name}_pool(3)", x, layout=LAYOUTS[axes])
    expected = np.empty((2, 3, *(3,) * axes))
    reduce = np.mean if name == "average" else np.max
    for place in itertools.product(range(3), repeat=axes):
        cut = tuple(
            slice(number * size // 3, math.ceil((number + 1) * size / 3))
            for number, size in zip(place, x.shape[2:], strict=True)
        )
        index: tuple[Any, ...] = (..., *place)
        expected[index] = reduce(x[(slice(None), slice(None), *cut)].reshape(2, 3, -1).astype(np.float64), -1)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    assert promised.shape[1:] == actual.shape[1:]


def test_ranked_windows_of_a_series() -> None:
    x = data(2, (7,))
    actual, _ = apply_head("sort_pool(2, scores=[0, 1])", x, layout=Layout.NCT)
    weights = np.exp([0.0, 1.0]) / np.exp([0.0, 1.0]).sum()

    def ranked(inside: Array, _: int) -> float:
        return float(np.sort(inside)[::-1] @ weights)

    expected = pool(x.astype(np.float64), ranked, 2, 2, 1, "valid", ceil=False)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_nan_reaches_the_windows_that_hold_it() -> None:
    x = data(3, (4, 4, 4))
    x[0, 0, 0, 1, 3] = np.nan
    actual, _ = apply_head("max_pool(2)", x, layout=Layout.NCDHW)
    assert np.argwhere(np.isnan(actual)).tolist() == [[0, 0, 0, 0, 1]]


@pytest.mark.parametrize(
    ("head", "layout", "message"),
    [
        ("max_pool([2, 3])", Layout.NCT, "kernel must be one number for NCT"),
        ("max_pool(2, stride=[1, 2])", Layout.NCDHW, "stride must be one number for NCDHW"),
        ("adaptive_max_pool([2, 3])", Layout.NCDHW, "output must be one number"),
        ("sort_pool(2, scores=[1, 2, 3, 4])", Layout.NCDHW, "does not take volumes"),
        ("stochastic_pool(2, mode=sample)", Layout.NCDHW, "does not take volumes"),
        ("max_pool(9)", Layout.NCT, "a window of 9 is larger"),
        ("max_pool(2) | max_unpool", Layout.NCDHW, "max_unpool needs a max_pool"),
    ],
)
def test_what_does_not_fit(head: str, layout: Layout, message: str) -> None:
    x = data(0, (5, 5, 5)[: 1 if layout is Layout.NCT else 3])
    with pytest.raises(ShapeMismatchError, match=message):
        apply_head(head, x, layout=layout)
