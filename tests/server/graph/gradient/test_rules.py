"""Test every rule against central differences in float64."""

from __future__ import annotations

import numpy as np
import pytest

from layertap_server.graph.gradient import RULES
from tests.server.graph.gradient.cases import CASES
from tests.server.graph.gradient.nodes import Case, differences, gradients, make_model
from tests.sweeps import thin

TOLERANCE = 2e-5
"""Largest difference, relative to the largest value of a gradient."""


@pytest.mark.parametrize("case", thin(CASES, every=3), ids=lambda case: case.name)
def test_a_gradient_equals_float64_differences(case: Case) -> None:
    model, feeds = make_model(case, "float32", free_batch=False)
    found = gradients(model, feeds)
    for name, exact in differences(case).items():
        assert found[name].shape == exact.shape
        assert np.abs(found[name] - exact).max() <= TOLERANCE * max(np.abs(exact).max(), 1), name


def test_every_rule_has_a_case() -> None:
    assert {case.op_type for case in CASES} >= set(RULES) - {"Cast", "Swish"}
