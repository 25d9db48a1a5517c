"""Tests of every block in every form of ``tests.cases``, run by onnxruntime, against its float64 reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layertap import blocks
from layertap.types import Array, Layout
from tests.cases import CASES, Case
from tests.running import apply_head

FLOAT32 = 1e-5
"""Tolerance in float32 as a fraction of the largest value."""
FLOAT16 = 1e-2
"""Tolerance in float16 as a fraction of the largest value."""


def ids(case: Case) -> str:
    """Return the id of a parametrized case."""
    return case.head


def images(seed: int, count: int, height: int, width: int, kind: str) -> Array:
    """Return random maps N×4×H×W of a distribution."""
    random = np.random.default_rng(seed)
    shape = (count, 4, height, width)
    if kind == "normal":
        return random.normal(0, 2, shape).astype(np.float32)
    if kind == "negative":
        return -random.uniform(0.1, 3, shape).astype(np.float32)
    if kind == "large":
        return (random.normal(size=shape) * 100).astype(np.float32)
    return np.round(random.normal(0, 1, shape)).astype(np.float32)  # with zeros and ties


def assert_close(actual: Array, expected: Array, tolerance: float) -> None:
    """Assert that arrays agree within the tolerance, relative to the largest value."""
    assert actual.shape == expected.shape
    scale = max(float(np.abs(expected).max(initial=0.0)), 1e-30)
    error = float(np.abs(actual.astype(np.float64) - expected).max(initial=0.0))
    assert error <= tolerance * scale, (error / scale, tolerance)


def test_every_block_has_a_case() -> None:
    """Check that all blocks have cases, except quantize, whose rounding error exceeds the tolerance."""
    assert {case.block for case in CASES} | {"quantize"} == {spec.name for spec in blocks.CATALOGUE}


@pytest.mark.parametrize("case", CASES, ids=ids)
@settings(max_examples=25)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 3),
    st.integers(0, 5),
    st.integers(0, 5),
    st.sampled_from(["normal", "negative", "large", "ties"]),
)
def test_float32(case: Case, seed: int, count: int, height: int, width: int, kind: str) -> None:
    # A deviation of rounding errors alone has no meaning in float32, so normalized maps have several positions.
    x = images(seed, count, case.smallest + height, case.smallest + width, kind)
    actual, promised = apply_head(case.head, x)
    assert_close(actual, case.reference(x.astype(np.float64)), FLOAT32)
    assert promised.dtype == actual.dtype.name
    assert promised.shape[1:] == actual.shape[1:]


@pytest.mark.parametrize("case", [case for case in CASES if case.float16], ids=ids)
def test_float16(case: Case) -> None:
    x = np.random.default_rng(0).normal(0, 1, (2, 4, 6, 7)).astype(np.float16)
    actual, promised = apply_head(case.head, x)
    assert_close(actual, case.reference(x.astype(np.float64)), FLOAT16)
    assert promised.dtype == actual.dtype.name


@pytest.mark.parametrize("opset", [18, 20])
@pytest.mark.parametrize("case", CASES, ids=ids)
def test_in_the_opset_of_a_newer_model(case: Case, opset: int) -> None:
    x = np.random.default_rng(0).normal(0, 1, (2, 4, 6, 7)).astype(np.float32)
    assert_close(apply_head(case.head, x, opset=opset)[0], case.reference(x.astype(np.float64)), FLOAT32)


ORDER_MATTERS = ("flatten", "transpose", "reshape", "k_max", "softmax(-1)", "dynamic")


@pytest.mark.parametrize(
    "case", [case for case in CASES if not any(word in case.head for word in ORDER_MATTERS)], ids=ids
)
def test_channels_last_is_the_same_block(case: Case) -> None:
    x = np.random.default_rng(0).normal(0, 1, (2, 4, 6, 7)).astype(np.float32)
    expected = case.reference(x.astype(np.float64))
    expected = expected.transpose(0, 2, 3, 1) if expected.ndim == 4 else expected
    actual, promised = apply_head(case.head, np.ascontiguousarray(x.transpose(0, 2, 3, 1)), layout=Layout.NHWC)
    assert_close(actual, expected, FLOAT32)
    assert promised.shape[1:] == actual.shape[1:]


NO_NAN = ("select", "channel_stats", "top_channels(1", "crop", "resize(3", "transpose([0, 2, 3, 1]) | reshape")
"""Beginnings of heads that can leave out the position of the NaN, or that count NaN."""


@pytest.mark.parametrize("case", [case for case in CASES if not case.head.startswith(NO_NAN)], ids=ids)
def test_nan_in_gives_nan_out(case: Case) -> None:
    """Check NaN at every position, since an operator can keep it at one and lose it at another."""
    clean = np.abs(np.random.default_rng(0).normal(0, 1, (2, 4, 4, 4))).astype(np.float32)
    for row, column in np.ndindex(4, 4):
        x = clean.copy()
        x[0, 0, row, column] = np.nan
        assert np.isnan(apply_head(case.head, x)[0]).any(), (row, column)


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0])
@pytest.mark.parametrize("case", CASES, ids=ids)
def test_a_constant_input_never_divides_by_zero(case: Case, value: float) -> None:
    x = np.full((2, 4, 4, 4), value, np.float32)
    actual, _ = apply_head(case.head, x)
    assert np.isfinite(actual).all()
    with np.errstate(all="ignore"):
        assert_close(actual, case.reference(x.astype(np.float64)), FLOAT32)


@pytest.mark.parametrize("case", [case for case in CASES if case.smallest == 1], ids=ids)
def test_maps_of_one_position(case: Case) -> None:
    x = np.abs(np.random.default_rng(0).normal(1, 0.1, (2, 4, 1, 1))).astype(np.float32)
    assert np.isfinite(apply_head(case.head, x)[0]).all()


@pytest.mark.parametrize(
    "head", ["z_score", "z_score(column)", "z_score(channel)", "layer_norm", "lcn", "group_norm(2)"]
)
@pytest.mark.parametrize("value", [0.1, 7.0, 12345.678])
def test_rounding_does_not_count_as_deviation(head: str, value: float) -> None:
    """Check that a constant is normalized to 0, however its mean is rounded."""
    x = np.full((7, 4, 25, 31), value, np.float32)
    np.testing.assert_allclose(apply_head(head, x)[0], 0, atol=1e-5)


@pytest.mark.parametrize(
    "head", ["adaptive_average_pool(4)", "adaptive_max_pool(4)", "mixed_pool(2, max_weight=0)", "average_pool(2)"]
)
def test_an_infinity_stays_in_its_window(head: str) -> None:
    x = np.ones((1, 1, 8, 8), np.float32)
    x[0, 0, 3, 3] = np.inf
    actual = apply_head(head, x)[0]
    assert np.isposinf(actual).sum() == 1
    assert np.isfinite(actual).sum() == actual.size - 1


@pytest.mark.parametrize("head", ["gem", "global_lp", "gmp", "gap"])
def test_an_infinity_is_pooled_to_one(head: str) -> None:
    x = np.ones((1, 2, 4, 4), np.float32)
    x[0, 1, 3, 3] = np.inf
    actual = apply_head(head, x)[0]
    assert np.isfinite(actual[0, 0])
    assert np.isposinf(actual[0, 1])


@pytest.mark.parametrize(
    "head", ["gem(eps=1e-30)", "gem(100, eps=1e-30)", "l2(eps=1e-30)", "global_lp", "global_lp(50)"]
)
@pytest.mark.parametrize("scale", [1e-15, 1.0, 1e15, 1e30])
def test_powers_neither_overflow_nor_vanish(head: str, scale: float) -> None:
    x = np.random.default_rng(0).uniform(0.5, 1, (2, 4, 5, 5)).astype(np.float32)
    small = apply_head(head, x)[0]
    large = apply_head(head, x * np.float32(scale))[0]
    np.testing.assert_allclose(large, small if head.startswith("l2") else small * scale, rtol=1e-4)


@pytest.mark.parametrize("size", [(7, 2), (2, 7), (3, 3), (1, 1), (12, 12)])
def test_cubic_resize_channels_last(size: tuple[int, int]) -> None:
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 4)).astype(np.float32)
    head = f"resize({size[0]}, width={size[1]}, mode=cubic)"
    last = apply_head(head, x, layout=Layout.NHWC)[0]
    first = apply_head(head, np.ascontiguousarray(x.transpose(0, 3, 1, 2)))[0]
    np.testing.assert_allclose(last, first.transpose(0, 2, 3, 1), atol=1e-5)
