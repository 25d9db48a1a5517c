"""Whether two pictures are the same."""

from __future__ import annotations

import numpy as np

from layertap.types import Array


def assert_same_pixels(got: Array, expected: Array, rounded: float = 1e-3) -> None:
    """Of 0 to 255, but for a share that is rounded the other way, as Pillow resizes a part of an image and not all."""
    assert got.shape == expected.shape
    difference = abs(got.astype(np.float64) - expected)
    assert difference.max() < 1.001
    assert (difference > 0.001).mean() < rounded
