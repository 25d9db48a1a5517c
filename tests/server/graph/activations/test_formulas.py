"""Tests of the formulas that functions are compared with."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from layertap_server.graph.activations.formulas import GRID, TOLERANCE, name_of
from tests import references as r


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("relu", np.maximum(GRID, 0)),
        ("relu6", np.clip(GRID, 0, 6)),
        ("hard_tanh", np.clip(GRID, -1, 1)),
        ("clip", np.clip(GRID, -2, 3)),
        ("sigmoid", 1 / (1 + np.exp(-GRID))),
        ("log_sigmoid", -np.log1p(np.exp(-GRID))),
        ("tanhshrink", GRID - np.tanh(GRID)),
        ("celu", np.where(GRID > 0, GRID, 2 * np.expm1(np.minimum(GRID, 0) / 2))),
        ("elu", np.where(GRID > 0, GRID, 0.7 * np.expm1(np.minimum(GRID, 0)))),
        ("softshrink", np.sign(GRID) * np.maximum(np.abs(GRID) - 0.5, 0)),
    ],
)
def test_formulas(name: str, values: np.ndarray) -> None:
    assert name_of(values) == name


@given(st.floats(0.02, 0.98))
def test_a_slope_is_read_from_the_values(slope: float) -> None:
    assert name_of(np.where(GRID < 0, slope * GRID, GRID)) == "leaky_relu"


@given(st.floats(0.5, 4))
def test_a_swish_of_any_beta(beta: float) -> None:
    assume(abs(beta - 1.702) > 0.01)
    assert name_of(GRID * r.sigmoid(beta * GRID)) == "swish"


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_no_linear_function_is_an_activation(slope: float, offset: float) -> None:
    assert name_of(slope * GRID + offset) == ""


@given(st.floats(1.02, 5))
def test_a_scaled_activation_is_none(scale: float) -> None:
    assert name_of(scale * GRID * r.sigmoid(GRID)) == ""


def test_rounded_constants_are_tolerated() -> None:
    rounded = GRID * np.clip(GRID * np.float64(np.float16(1 / 6)) + 0.5, 0, 1)
    assert np.abs(rounded - GRID * np.clip(GRID / 6 + 0.5, 0, 1)).max() > 0
    assert name_of(rounded) == "hard_swish"
    assert name_of(rounded + 5 * TOLERANCE * (1 + np.abs(rounded))) == ""


def test_rows_of_several_slopes_are_a_prelu() -> None:
    rows = np.stack([np.where(GRID < 0, slope * GRID, GRID) for slope in (0.1, 0.5, 1.5)])
    assert name_of(rows) == "prelu"
    rows[1] = np.maximum(GRID, 0) + 1
    assert name_of(rows) == ""
