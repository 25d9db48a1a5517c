"""Whether two pictures are the same."""

from __future__ import annotations

import numpy as np

from layertap.types import Array


def assert_same_pixels(got: Array, expected: Array) -> None:
    """Of 0 to 255, but for the rounding of few: Pillow's last bit depends on which part of an image it resizes."""
    assert got.shape == expected.shape
    difference = abs(got.astype(np.float64) - expected)
    assert difference.max() < 1.001
    assert (difference > 0.001).mean() < 1e-3
