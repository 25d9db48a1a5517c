"""Test principal components against a singular value decomposition, and their colours."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layertap.types import Array
from layertap.viz.pca import principal_components, to_colours


def maps(seed: int, channels: int, height: int, width: int) -> Array:
    """Return random maps with correlated channels."""
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(channels, channels)) * np.logspace(0, -2, channels)
    return np.tensordot(mixing, random.normal(size=(channels, height, width)), 1) + 7


@given(st.integers(0, 999), st.integers(3, 12), st.integers(4, 6), st.integers(4, 9))
def test_they_are_those_of_a_singular_value_decomposition(seed: int, channels: int, height: int, width: int) -> None:
    one, other = maps(seed, channels, height, width), maps(seed + 1, channels, width, height)
    found = principal_components([one, other])
    samples = np.concatenate([one.reshape(channels, -1).T, other.reshape(channels, -1).T])
    u, s, v = np.linalg.svd(samples - samples.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(found.explained, (s**2 / (s**2).sum())[:3], atol=1e-9)
    signs = np.sign(v[range(3), np.abs(v[:3]).argmax(axis=1)])
    expected = (u[:, :3] * s[:3] * signs).T
    flat = np.concatenate([scores.reshape(3, -1) for scores in found.scores], axis=1)
    np.testing.assert_allclose(flat, expected, atol=1e-6 * s[0])
    assert [scores.shape for scores in found.scores] == [(3, height, width), (3, width, height)]


def test_fewer_channels_than_components() -> None:
    found = principal_components([maps(0, 2, 4, 4)])
    assert found.explained[2] == 0
    assert sum(found.explained) == pytest.approx(1)
    assert (found.scores[0][2] == 0).all()


def test_more_channels_than_places() -> None:
    found = principal_components([maps(0, 200, 3, 4)])
    samples = maps(0, 200, 3, 4).reshape(200, -1).T
    _, s, _ = np.linalg.svd(samples - samples.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(found.explained, (s**2 / (s**2).sum())[:3], atol=1e-9)


def test_places_that_are_not_finite_are_no_samples() -> None:
    array = maps(1, 4, 5, 6)
    broken = array.copy()
    broken[2, 1, 3] = np.nan
    without = np.delete(array.reshape(4, 1, -1), 1 * 6 + 3, axis=2)
    assert principal_components([broken]).explained == pytest.approx(principal_components([without]).explained)


def test_no_variance_explains_nothing() -> None:
    found = principal_components([np.ones((4, 3, 3))])
    assert found.explained == (0, 0, 0)


@given(st.integers(0, 99))
def test_colours_are_of_the_screen_and_lighter_with_the_first_component(seed: int) -> None:
    (colours,) = to_colours([np.random.default_rng(seed).normal(size=(3, 9, 9))])
    assert colours.shape == (9, 9, 3)
    assert colours.min() >= 0
    assert colours.max() <= 1
    ramp = np.zeros((3, 1, 20))
    ramp[0, 0] = np.arange(20)
    (greys,) = to_colours([ramp])
    assert (np.diff(greys[0, 1:-1], axis=0) > 0).all()


def test_the_middle_of_the_second_and_third_component_is_grey() -> None:
    scores = np.zeros((3, 1, 3))
    scores[:, 0, 0], scores[:, 0, 2] = -1, 1
    (colours,) = to_colours([scores])
    assert colours[0, 1] == pytest.approx(np.repeat(colours[0, 1, 0], 3), abs=1e-3)
