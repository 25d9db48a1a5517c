"""Tests of every block, run by onnxruntime, against its float64 reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from layertap import blocks
from layertap.errors import ShapeMismatchError
from layertap.expression import format_block
from layertap.types import Array, Block, Layout
from layertap_server.blocks import EMITTERS
from tests import references
from tests.running import apply_head

FLOAT32 = 1e-5
"""Tolerance as a fraction of the largest value."""

numbers = st.floats(-100, 100, width=32) | st.sampled_from([0.0, -0.0, 1.0, 1e4, -1e4])
maps = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 7), st.integers(1, 7)), elements=numbers
)
vectors = hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 6)), elements=numbers)


def assert_close(actual: Array, expected: Array) -> None:
    """Assert that arrays agree within the tolerance, relative to the largest finite value."""
    assert actual.shape == expected.shape
    finite = np.abs(expected[np.isfinite(expected)])
    scale = max(float(finite.max(initial=0.0)), 1e-30)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=FLOAT32 * scale)


def check(head: str, x: Array, expected: Array, **options: Any) -> None:
    """Assert that a head gives the expected result of the promised shape and dtype."""
    actual, promised = apply_head(head, x, **options)
    assert_close(actual, expected)
    assert promised.dtype == actual.dtype.name
    assert len(promised.shape) == actual.ndim
    known = [(size, got) for size, got in zip(promised.shape, actual.shape, strict=True) if isinstance(size, int)]
    assert all(size == got for size, got in known), (promised.shape, actual.shape)


def test_every_block_has_an_emitter_and_every_emitter_a_block() -> None:
    assert set(EMITTERS) == {spec.name for spec in blocks.CATALOGUE}


SIMPLE: dict[str, Callable[[Array], Array]] = {
    "identity": lambda x: x,
    "relu": references.relu,
    "sigmoid": references.sigmoid,
    "softmax": references.softmax,
    "gap": references.gap,
    "gmp": references.gmp,
    "gem": references.gem,
    "gem(1)": lambda x: references.gem(x, p=1),
    "gem(p=5.5, eps=0.01)": lambda x: references.gem(x, p=5.5, eps=0.01),
    "l1": references.l1,
    "l2": references.l2,
    "l2(axis=-1)": lambda x: references.l2(x, axis=-1),
    "l2(axis=2, eps=3)": lambda x: references.l2(x, axis=2, eps=3),
    "flatten": lambda x: x.reshape(len(x), -1),
}


@pytest.mark.parametrize("head", SIMPLE)
@given(maps)
def test_on_maps(head: str, x: Array) -> None:
    check(head, x, SIMPLE[head](x.astype(np.float64)))


@pytest.mark.parametrize("head", SIMPLE)
@given(maps)
def test_on_maps_of_sizes_that_the_graph_does_not_know(head: str, x: Array) -> None:
    check(head, x, SIMPLE[head](x.astype(np.float64)), symbolic="NCHW")


@pytest.mark.parametrize("head", SIMPLE)
@pytest.mark.parametrize("opset", [18, 20])
def test_in_the_opset_of_a_newer_model(head: str, opset: int) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    check(head, x, SIMPLE[head](x.astype(np.float64)), opset=opset)


@pytest.mark.parametrize("head", [head for head in SIMPLE if head != "flatten"])
def test_channels_last_is_the_same_block(head: str) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    expected = SIMPLE[head](x.astype(np.float64))
    expected = expected.transpose(0, 2, 3, 1) if expected.ndim == 4 else expected
    check(head, np.ascontiguousarray(x.transpose(0, 2, 3, 1)), expected, layout=Layout.NHWC)


@pytest.mark.parametrize("head", ["gap", "gmp", "gem", "l2", "softmax", "z_score", "z_score(channel)"])
def test_tokens_are_spatial_positions(head: str) -> None:
    """Check that a block on tokens N×T×C equals the block on maps N×C×T×1."""
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    as_maps = x.transpose(0, 2, 1)[..., None]
    expected, _ = apply_head(head, np.ascontiguousarray(as_maps))
    expected = expected[..., 0].transpose(0, 2, 1) if expected.ndim == 4 else expected
    check(head, x, expected.astype(np.float64))


@pytest.mark.parametrize("scope", ["sample", "channel", "batch", "column"])
@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("symbolic", ["N", "NCHW"])
@given(seed=st.integers(0, 2**32 - 1), shape=st.tuples(*[st.integers(1, 5)] * 4))
def test_z_score(scope: str, ddof: int, symbolic: str, seed: int, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(seed).normal(3, 2, size=shape).astype(np.float32)
    expected = references.z_score(x.astype(np.float64), scope, ddof)
    # A deviation of the size of rounding errors has no meaning in float32; another test covers constant columns.
    assume(np.isfinite(expected).all() and not _has_rounding_deviation(x, scope))
    check(f"z_score({scope}, ddof={ddof})", x, expected, symbolic=symbolic)


def _has_rounding_deviation(x: Array, scope: str) -> bool:
    """Return whether a standard deviation is so small that rounding dominates it."""
    axes = {"sample": (1, 2, 3), "channel": (2, 3), "batch": (0, 2, 3), "column": (0,)}[scope]
    deviation = x.astype(np.float64).std(axis=axes)
    many = np.prod([x.shape[axis] for axis in axes]) > 1
    return bool(many and (deviation < 1e-2).any())


@pytest.mark.parametrize("scope", ["sample", "channel", "batch", "column"])
@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 1e4])
def test_z_score_of_a_constant_is_zero(scope: str, value: float) -> None:
    x = np.full((2, 3, 4, 4), value, np.float32)
    actual, _ = apply_head(f"z_score({scope}, eps=1e-2)", x)
    np.testing.assert_allclose(actual, 0, atol=0.2)
    if value in {0.0, 1.0}:
        np.testing.assert_array_equal(apply_head(f"z_score({scope})", x)[0], 0)


@st.composite
def window_cases(draw: st.DrawFn) -> tuple[Array, dict[str, Any]]:
    """Draw a map and the parameters of a window pool."""
    x = draw(maps)
    window: dict[str, Any] = {"kernel": draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))}
    if draw(st.booleans()):
        window["stride"] = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    window["dilation"] = draw(st.sampled_from([(1, 1), (2, 1), (2, 3)]))
    pads = [st.integers(0, window["kernel"][side] - 1) for side in (0, 1, 0, 1)]
    window["padding"] = draw(st.sampled_from(["valid", "same", "same_lower"]) | st.tuples(*pads))
    window["ceil"] = draw(st.booleans())
    return x, window


def fits(x: Array, window: dict[str, Any]) -> bool:
    """Return whether the windows fit the map."""
    return _reaches(x, window) and _holds_something(x, window)


def _holds_something(x: Array, window: dict[str, Any]) -> bool:
    """Return whether no window contains only padding."""
    try:
        references.average_pool(x[:1, :1].astype(np.float64), **window)
    except ZeroDivisionError:
        return False
    return True


def _reaches(x: Array, window: dict[str, Any]) -> bool:
    """Return whether no window is larger than the padded map."""
    if not isinstance(window["padding"], tuple) and window["padding"] != "valid":
        return True
    pads = window["padding"] if isinstance(window["padding"], tuple) else (0, 0, 0, 0)
    return all(
        window["dilation"][side] * (window["kernel"][side] - 1) + 1 <= x.shape[2 + side] + pads[side] + pads[side + 2]
        for side in range(2)
    )


@given(window_cases())
def test_max_pool(case: tuple[Array, dict[str, Any]]) -> None:
    x, window = case
    assume(fits(x, window))
    check(format_block(Block("max_pool", window)), x, references.max_pool(x.astype(np.float64), **window))


@given(window_cases(), st.booleans())
def test_average_pool(case: tuple[Array, dict[str, Any]], count_include_pad: bool) -> None:
    x, window = case
    assume(fits(x, window))
    expected = references.average_pool(x.astype(np.float64), count_include_pad=count_include_pad, **window)
    head = format_block(Block("average_pool", {**window, "count_include_pad": count_include_pad}))
    check(head, x, expected)


@given(window_cases(), st.integers(0, 1), st.integers(1, 3))
def test_a_window_that_does_not_fit_is_refused(case: tuple[Array, dict[str, Any]], side: int, more: int) -> None:
    x, window = case
    kernel = list(window["kernel"])
    kernel[side] = x.shape[2 + side] + more
    large = {**window, "kernel": tuple(kernel), "padding": "valid"}
    for name in ("max_pool", "average_pool"):
        with pytest.raises(ShapeMismatchError, match="larger than"):
            apply_head(format_block(Block(name, large)), x)


@pytest.mark.parametrize("head", ["max_pool(1, stride=1, padding=1)", "average_pool(2, stride=1, padding=2)"])
def test_a_window_of_nothing_but_padding_is_refused(head: str) -> None:
    with pytest.raises(ShapeMismatchError, match="only padding"):
        apply_head(head, np.zeros((1, 1, 4, 4), np.float32))


@pytest.mark.parametrize("name", ["max_pool", "average_pool"])
def test_window_pools_channels_last_and_of_unknown_size(name: str) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 5)).astype(np.float32)
    expected = getattr(references, name)(x.astype(np.float64), kernel=(3, 2), stride=(2, 1))
    check(f"{name}([3, 2], stride=[2, 1])", x, expected, symbolic="NCHW")
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    check(f"{name}([3, 2], stride=[2, 1])", last, expected.transpose(0, 2, 3, 1), layout=Layout.NHWC)


@pytest.mark.parametrize(
    "head", [*SIMPLE, "max_pool(2)", "average_pool(2)", "average_pool(2, dilation=2, stride=1)", "z_score"]
)
def test_nan_in_gives_nan_out(head: str) -> None:
    """Check NaN at every position, since an operator can keep it at one and lose it at another."""
    clean = np.random.default_rng(0).normal(size=(1, 2, 4, 4)).astype(np.float32)
    for row, column in np.ndindex(4, 4):
        x = clean.copy()
        x[0, 0, row, column] = np.nan
        assert np.isnan(apply_head(head, x)[0][0]).any()


@pytest.mark.parametrize("head", ["gap", "gmp", "gem", "max_pool(2)", "average_pool(2)", "z_score(channel)"])
def test_a_vector_has_no_places(head: str) -> None:
    with pytest.raises(ShapeMismatchError) as caught:
        apply_head(head, np.zeros((2, 8), np.float32))
    assert "[N, 8]" in caught.value.message


@pytest.mark.parametrize("head", ["max_pool(2, padding=same)", "average_pool(2, ceil=true)"])
def test_what_needs_a_size_says_so(head: str) -> None:
    with pytest.raises(ShapeMismatchError, match="known height and width"):
        apply_head(head, np.zeros((1, 1, 4, 4), np.float32), symbolic="NHW")


def test_padding_that_fills_a_window_is_refused() -> None:
    with pytest.raises(ShapeMismatchError, match="only padding"):
        apply_head("average_pool(2, padding=2)", np.zeros((1, 1, 4, 4), np.float32))


@given(vectors)
def test_vectors(x: Array) -> None:
    check("l2", x, references.l2(x.astype(np.float64)))
    check("flatten", x, x.astype(np.float64))


def test_an_axis_that_does_not_exist() -> None:
    with pytest.raises(ShapeMismatchError, match="axis 3 does not exist"):
        apply_head("l2(axis=3)", np.zeros((1, 2), np.float32))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int8", "int32", "int64"])
def test_cast(dtype: str) -> None:
    x = np.array([[-300.5, -1.7, -0.5, 0.0, 0.5, 1.7, 127.9, 254.9, 300.5, 3e4]], np.float32)
    actual, promised = apply_head(f"cast({dtype})", x)
    if dtype.startswith("float"):
        expected = x.astype(dtype)
    else:
        limits = np.iinfo(dtype)
        expected = np.clip(np.trunc(x.astype(np.float64)), limits.min, limits.max).astype(dtype)
    np.testing.assert_array_equal(actual, expected)
    assert promised.dtype == dtype


def test_cast_of_what_no_integer_holds_stops_at_the_end() -> None:
    x = np.array([[1e30, -1e30]], np.float32)
    for dtype in ("int32", "int64"):
        actual, _ = apply_head(f"cast({dtype})", x)
        assert actual[0, 0] > np.iinfo(dtype).max * 0.999
        assert actual[0, 1] == np.iinfo(dtype).min


def test_integers_are_cast_before_they_are_computed_with() -> None:
    x = np.arange(8, dtype=np.int64).reshape(1, 2, 2, 2)
    with pytest.raises(ShapeMismatchError, match=r"cast\(float32\)"):
        apply_head("gap", x)
    check("cast(float32) | gap", x, references.gap(x.astype(np.float64)))


@given(maps)
def test_a_head_is_its_blocks_one_after_the_other(x: Array) -> None:
    wide = x.astype(np.float64)
    check("relu | gap | l2", x, references.l2(references.gap(references.relu(wide))))
    check("identity | flatten | l1", x, references.l1(wide.reshape(len(x), -1)))
