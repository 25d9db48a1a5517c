"""Compare images."""

from __future__ import annotations

import numpy as np

from layertap.types import Array


def assert_same_pixels(got: Array, expected: Array) -> None:
    """Compare values of 0 to 255, with a tolerance for normalization and back in float32."""
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, atol=1e-3)
