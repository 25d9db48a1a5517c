"""Test similarities against differently written formulas, in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layertap.similarity import Difference, cka_matrix, linear_cka
from layertap.types import Array


def hsic(k: Array, m: Array) -> float:
    """Compute eq. 3 of Kornblith et al. 2019, with an explicit centring matrix."""
    count = len(k)
    h = np.eye(count) - np.ones((count, count)) / count
    return float(np.trace(k @ h @ m @ h)) / (count - 1) ** 2


def reference_cka(x: Array, y: Array) -> float:
    """Compute eq. 4 of Kornblith et al. 2019, for linear kernels."""
    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / float(np.sqrt(hsic(k, k) * hsic(m, m)))


def features(seed: int, count: int, width: int) -> Array:
    """Return random features, count × width."""
    return np.random.default_rng(seed).normal(size=(count, width)) * 3 + 1


@given(st.integers(0, 999), st.integers(3, 20), st.integers(1, 30), st.integers(1, 30))
def test_cka_is_that_of_the_paper(seed: int, count: int, width: int, other_width: int) -> None:
    """Compare CKA with the formula of the paper."""
    x, y = features(seed, count, width), features(seed + 1, count, other_width)
    assert linear_cka(x, y) == pytest.approx(reference_cka(x, y), abs=1e-10)
    assert linear_cka(x, x) == pytest.approx(1)


@given(st.integers(0, 999), st.floats(0.01, 100))
def test_cka_does_not_see_a_rotation_a_scale_or_a_shift(seed: int, scale: float) -> None:
    """Check the invariances of CKA."""
    x, y = features(seed, 12, 6), features(seed + 1, 12, 4)
    rotation, _ = np.linalg.qr(features(seed + 2, 6, 6))
    assert linear_cka(scale * x @ rotation + 5, y) == pytest.approx(linear_cka(x, y), abs=1e-9)


def test_cka_takes_float32_of_large_values() -> None:
    """Check CKA of large float32 values."""
    x, y = features(0, 10, 5).astype(np.float32) + 1000, features(1, 10, 5).astype(np.float32)
    assert linear_cka(x, y) == pytest.approx(reference_cka(x.astype(np.float64), y.astype(np.float64)), abs=1e-6)


def test_cka_of_images_that_are_all_alike_is_0() -> None:
    """Check CKA of constant features."""
    assert linear_cka(np.ones((4, 3)), features(0, 4, 2)) == 0


def test_a_matrix_has_every_pair() -> None:
    """Check that the matrix contains the CKA of every pair."""
    ones, others = [features(seed, 9, 3 + seed) for seed in range(3)], [features(9 + seed, 9, 4) for seed in range(2)]
    matrix = cka_matrix(ones, others)
    assert matrix.shape == (3, 2)
    expected = [[reference_cka(one, other) for other in others] for one in ones]
    np.testing.assert_allclose(matrix, expected, atol=1e-10)


@given(st.integers(0, 999), st.integers(1, 5))
def test_parts_are_joined_as_if_they_were_one(seed: int, parts: int) -> None:
    """Check that adding parts equals adding the whole."""
    a, b = features(seed, parts, 7).astype(np.float32), features(seed + 1, parts, 7).astype(np.float32)
    difference = Difference()
    for one, other in zip(a, b, strict=True):
        difference.add(one, other)
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    assert difference.cosine == pytest.approx(np.dot(x, y) / np.linalg.norm(x) / np.linalg.norm(y))
    assert difference.relative_l2 == pytest.approx(np.linalg.norm(x - y) / np.linalg.norm(x))


def test_nothing_is_alike_to_zero() -> None:
    """Check the similarities of features that are 0."""
    difference = Difference()
    difference.add(np.zeros(3), np.ones(3))
    assert (difference.cosine, difference.relative_l2) == (None, None)
