"""Test class activation maps of arrays against loops over images, channels and positions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from layertap.types import Array
from layertap_server.inference.attribution import cams
from layertap_server.inference.attribution.resampling import resize_maps

SHAPE = (2, 3, 4, 5)


def arrays(seed: int = 0) -> tuple[Array, Array]:
    """Return random values and gradients of a layer."""
    random = np.random.default_rng(seed)
    return random.normal(size=SHAPE), random.normal(size=SHAPE)


def weights(method: str, a: Array, g: Array) -> float:
    """Return the weight of one channel, from its values and gradients, rows×columns."""
    places = list(itertools.product(range(a.shape[0]), range(a.shape[1])))
    match method:
        case "grad_cam":
            return sum(g[place] for place in places) / len(places)
        case "x_grad_cam":
            return sum(g[place] * a[place] for place in places) / sum(a[place] for place in places)
        case "grad_cam_plus_plus":
            total = sum(a[place] for place in places)
            shares = [g[place] ** 2 / (2 * g[place] ** 2 + total * g[place] ** 3) for place in places]
            return sum(share * max(g[place], 0) for share, place in zip(shares, places, strict=True))
    raise ValueError(method)


@pytest.mark.parametrize("method", ["grad_cam", "x_grad_cam", "grad_cam_plus_plus"])
def test_a_channel_has_one_weight(method: str) -> None:
    a, g = arrays()
    found = cams.WITH_GRADIENT[method](a, g)
    for image, row, column in itertools.product(range(2), range(4), range(5)):
        total = sum(weights(method, a[image, c], g[image, c]) * a[image, c, row, column] for c in range(3))
        assert found[image, row, column] == pytest.approx(max(total, 0))


@pytest.mark.parametrize(("method", "keeps_negative"), [("hires_cam", True), ("layer_cam", False)])
def test_a_position_has_its_own_weight(method: str, keeps_negative: bool) -> None:
    a, g = arrays(1)
    found = cams.WITH_GRADIENT[method](a, g)
    for image, row, column in itertools.product(range(2), range(4), range(5)):
        gradients = [g[image, c, row, column] for c in range(3)]
        total = sum(
            (gradient if keeps_negative else max(gradient, 0)) * a[image, c, row, column]
            for c, gradient in enumerate(gradients)
        )
        assert found[image, row, column] == pytest.approx(max(total, 0))


@pytest.mark.parametrize("method", list(cams.WITH_GRADIENT))
def test_a_gradient_of_zeros_gives_zeros(method: str) -> None:
    a, _ = arrays(2)
    assert not cams.WITH_GRADIENT[method](a, np.zeros(SHAPE)).any()
    assert not cams.WITH_GRADIENT[method](np.zeros(SHAPE), np.zeros(SHAPE)).any()


def test_the_first_component_explains_most_and_agrees_with_the_mean() -> None:
    a, _ = arrays(3)
    found = cams.first_component(a[0]).reshape(-1)
    points = a[0].reshape(3, -1).T
    values, vectors = np.linalg.eigh(np.cov(points.T))
    expected = (points - points.mean(0)) @ vectors[:, -1]
    assert found.var(ddof=1) == pytest.approx(values[-1])
    assert abs(found @ expected) == pytest.approx(np.linalg.norm(found) * np.linalg.norm(expected))
    assert found @ points.mean(1) >= 0


def test_values_that_are_not_finite_have_no_component() -> None:
    a, _ = arrays(4)
    a[0, 0, 0, 0] = np.inf
    assert np.isnan(cams.first_component(a[0])).all()


def test_maps_are_enlarged_between_the_centres_of_their_positions() -> None:
    maps = np.array([[0.0, 1.0], [2.0, 3.0]])
    large = resize_maps(maps, 4, 4)
    assert large[0].tolist() == [0, 0.25, 0.75, 1]
    assert large[:, 0].tolist() == [0, 0.5, 1.5, 2]
    np.testing.assert_allclose(resize_maps(maps, 2, 2), maps)
    np.testing.assert_allclose(resize_maps(np.ones((5, 3, 3)), 7, 2), np.ones((5, 7, 2)))
