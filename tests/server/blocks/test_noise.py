"""Tests of random blocks: reproducible by seed, independent of the batch, and of the right distribution."""

from __future__ import annotations

import numpy as np
import pytest

from layertap.types import Array
from tests.running import apply_head


def leaks(seed: int, *, images: int = 1) -> Array:
    """Return the slopes that rrelu draws, scaled to [0, 1]."""
    x = np.full((images, 8, 64, 64), -1, np.float32)
    drawn, _ = apply_head(f"rrelu(0.25, upper=0.75, mode=sample, seed={seed})", x)
    return (-drawn.astype(np.float64) - 0.25) / 0.5


def test_a_seed_gives_the_same_draw_and_another_seed_another() -> None:
    np.testing.assert_array_equal(leaks(1), leaks(1))
    assert (leaks(1) == leaks(2)).mean() < 0.001


def test_an_image_s_draw_does_not_depend_on_its_batch() -> None:
    three = leaks(7, images=3)
    for image in three:
        np.testing.assert_array_equal(image, leaks(7)[0])


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**31 - 1])
def test_the_draw_is_uniform(seed: int) -> None:
    values = np.sort(leaks(seed).ravel())
    assert values[0] >= -1e-6
    assert values[-1] <= 1 + 1e-6
    # Kolmogorov-Smirnov test: one uniform sample in a thousand exceeds 1.95 / sqrt(n).
    ranks = (np.arange(len(values)) + 0.5) / len(values)
    assert np.abs(values - ranks).max() < 1.95 / np.sqrt(len(values))


@pytest.mark.parametrize("distance", [1, 2, 64, 4096])
def test_neighbours_are_independent(distance: int) -> None:
    values = leaks(3).ravel()
    assert abs(np.corrcoef(values[:-distance], values[distance:])[0, 1]) < 4 / np.sqrt(len(values))


def test_two_seeds_are_independent() -> None:
    assert abs(np.corrcoef(leaks(1).ravel(), leaks(2).ravel())[0, 1]) < 4 / np.sqrt(8 * 64 * 64)


def test_stochastic_pooling_draws_in_proportion() -> None:
    """Check that a window (1, 2, 3, 4) gives each value with a tenth of it as probability."""
    x = np.tile(np.array([[1, 2], [3, 4]], np.float32), (1, 4, 64, 64))
    drawn, _ = apply_head("stochastic_pool(2, mode=sample, seed=5)", x)
    count = drawn.size
    for value in (1, 2, 3, 4):
        probability = value / 10
        assert abs((drawn == value).mean() - probability) < 4 * np.sqrt(probability * (1 - probability) / count)
    again, _ = apply_head("stochastic_pool(2, mode=sample, seed=5)", x)
    np.testing.assert_array_equal(drawn, again)
    other, _ = apply_head("stochastic_pool(2, mode=sample, seed=6)", x)
    assert (drawn != other).mean() > 0.3


def test_stochastic_pooling_never_draws_padding_or_a_zero() -> None:
    x = np.zeros((1, 1, 8, 8), np.float32)
    x[0, 0, ::2, ::2] = 5
    drawn, _ = apply_head("stochastic_pool(2, mode=sample)", x)
    np.testing.assert_array_equal(drawn, 5)
    drawn, _ = apply_head("stochastic_pool(3, stride=2, padding=same, mode=sample)", np.ones((1, 1, 8, 8), np.float32))
    np.testing.assert_array_equal(drawn, 1)
    drawn, _ = apply_head("stochastic_pool(2, mode=sample)", np.zeros((1, 1, 4, 4), np.float32))
    np.testing.assert_array_equal(drawn, 0)
