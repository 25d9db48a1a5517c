"""Tests with ONNX's own operator test cases that can be expressed as heads."""

from __future__ import annotations

import numpy as np
import pytest

from layertap.types import Layout
from tests.onnx_cases import OnnxCase, onnx_cases
from tests.running import apply_head

CASES = list(onnx_cases())
SAID = [case for case in CASES if case.head]
ROUNDED = {"test_averagepool_2d_ceil_last_window_starts_on_pad"}
"""Cases whose expected values have four digits."""
MAPS = {4: Layout.NCHW, 2: Layout.VECTOR}


def test_most_cases_can_be_said_and_the_others_say_why() -> None:
    assert len(SAID) > len(CASES) / 2
    assert all(case.reason for case in CASES if not case.head)


@pytest.mark.parametrize("case", SAID, ids=lambda case: case.name)
def test_case(case: OnnxCase) -> None:
    actual, _ = apply_head(case.head, case.input, layout=MAPS.get(case.input.ndim, Layout.OTHER))
    assert actual.shape == case.expected.shape
    tolerance = 1e-5 if case.input.dtype == np.float32 else 1e-2
    if case.name in ROUNDED:
        tolerance = 5e-4
    scale = float(np.abs(case.expected[np.isfinite(case.expected)]).max(initial=1e-30))
    np.testing.assert_allclose(actual, case.expected, rtol=0, atol=max(tolerance * scale, 1e-7))
