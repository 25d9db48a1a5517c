"""Whether two pictures are the same."""

from __future__ import annotations

import numpy as np

from layertap.types import Array


def assert_same_pixels(got: Array, expected: Array) -> None:
    """Of 0 to 255, but for the rounding of a few: which way a half goes depends on what part of an image is resized."""
    assert got.shape == expected.shape
    difference = abs(got.astype(np.float64) - expected)
    assert difference.max() < 1.001
    assert (difference > 0.001).mean() < 0.03
