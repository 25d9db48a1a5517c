"""Test real architectures loaded from bare files: every tappable layer equals the whole model's tensor."""

from __future__ import annotations

import pytest

from tests.light_models import TOLERANCE, check, names


@pytest.mark.parametrize("name", names())
def test_every_layer(name: str) -> None:
    row = check(name)
    assert row.tappable >= row.layers - 2  # except masks of Dropout and layers without a batch
    assert row.shapes_wrong == 0
    assert row.error <= TOLERANCE
