"""Test the fitting of layer sizes as formulas of the image size."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layertap.types import LayerInfo, Layout
from layertap_server.graph.size_formulas import SAMPLES, describe_any_size, fit_formula

SIZES = SAMPLES[0]
LAYER = LayerInfo("a", "", "Conv", "", 0, "float32", (), (), Layout.NCHW)


@pytest.mark.parametrize(
    ("formula", "size"),
    [
        ("H/8", lambda h, _: h // 8),
        ("W", lambda _, w: w),
        ("2·H", lambda h, _: 2 * h),
        ("3·W/16", lambda _, w: 3 * w // 16),
        ("H/2-1", lambda h, _: h // 2 - 1),
        ("H·W/256+1", lambda h, w: h * w // 256 + 1),
        ("3·H·W/64", lambda h, w: 3 * h * w // 64),
    ],
)
def test_formula_of_sizes(formula: str, size: object) -> None:
    for sizes in SAMPLES:
        assert fit_formula([size(*one) for one in sizes], sizes) == formula  # type: ignore[operator]


@given(st.integers(0, 5), st.integers(-3, 3), st.sampled_from("HW"))
def test_strides_and_offsets_are_found(halvings: int, offset: int, side: str) -> None:
    values = [size["HW".index(side)] // 2**halvings + offset for size in SIZES]
    text = fit_formula(values, SIZES)
    assert text is not None
    assert [eval(text.replace("·", "*"), {"H": h, "W": w}) for h, w in SIZES] == values


def test_sizes_that_follow_no_formula_are_not_guessed() -> None:
    assert fit_formula([3, 5, 4], SIZES) is None
    assert fit_formula([320, 256, 448], SIZES) is None  # falls while every side grows
    assert fit_formula([10, 20, 30], SIZES) is None


def test_a_fixed_height_is_no_base() -> None:
    assert fit_formula([40, 56, 32], [(48, 320), (48, 448), (48, 256)]) == "W/8"


def test_what_differs_between_sizes_is_not_stated() -> None:
    layers = [
        [replace(LAYER, symbolic_shape=("N", "8", str(h // 4), odd), shape=(-1, 8, h // 4, -1), macs=h * w, stride=4.0)]
        for (h, w), odd in zip(SIZES, ("3", "5", "?"), strict=True)
    ]
    (merged,) = describe_any_size(layers, SIZES)
    assert merged.symbolic_shape == ("N", "8", "H/4", "?")
    assert merged.shape == (-1, 8, -1, -1)
    assert (merged.macs, merged.stride) == (None, 4.0)


def test_a_rank_that_depends_on_the_image_is_not_stated() -> None:
    shapes = (("N", "8"), ("N",), ("N", "8"))
    (merged,) = describe_any_size([[replace(LAYER, symbolic_shape=s, shape=(-1,) * len(s))] for s in shapes], SIZES)
    assert merged.symbolic_shape == ()
