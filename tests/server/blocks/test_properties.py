"""Tests of the properties that the catalogue states of activations, checked numerically."""

from __future__ import annotations

import re

import numpy as np
import pytest

from layertap import blocks
from layertap.blocks import BlockKind, BlockSpec
from layertap.types import Array
from tests.running import apply_head

STATED = [spec for spec in blocks.CATALOGUE if spec.kind is BlockKind.ACTIVATION and "monotonic" in spec.properties]
ELEMENTWISE = [spec for spec in STATED if spec.properties["elementwise"] == "yes"]
X = np.arange(-40000, 40001) / 4000


def run(spec: BlockSpec, x: Array) -> Array:
    """Apply a block to a row of values."""
    return apply_head(spec.name, x.astype(np.float32).reshape(1, 1, 1, -1))[0].ravel().astype(np.float64)


def ids(spec: BlockSpec) -> str:
    """Return the id of a parametrized block."""
    return spec.name


@pytest.mark.parametrize("spec", ELEMENTWISE, ids=ids)
def test_range(spec: BlockSpec) -> None:
    y = run(spec, np.concatenate([X, [-2000, 2000]]))
    bounds = [float(bound) for bound in re.findall(r"-?inf|-?\d+(?:\.\d+)?", spec.properties["range"])]
    low, high = min(bounds), max(bounds)
    assert y.min() >= low - 1e-6
    assert y.max() <= high + 1e-6
    assert y.min() <= (low + 0.1 if np.isfinite(low) else -5)
    assert y.max() >= (high - 0.1 if np.isfinite(high) else 5)


@pytest.mark.parametrize("spec", ELEMENTWISE, ids=ids)
def test_monotonic(spec: BlockSpec) -> None:
    assert (np.diff(run(spec, X)) >= -1e-6).all() == (spec.properties["monotonic"] == "yes")


@pytest.mark.parametrize("spec", ELEMENTWISE, ids=ids)
def test_differentiable(spec: BlockSpec) -> None:
    """Check differentiability: at a corner or jump the slope changes abruptly, elsewhere in proportion to the step."""
    x = X[::10]
    slope = np.diff(run(spec, x)) / np.diff(x)
    assert (np.abs(np.diff(slope)).max() < 0.02) == (spec.properties["differentiable"] == "yes")


@pytest.mark.parametrize("spec", ELEMENTWISE, ids=ids)
def test_zero_centred(spec: BlockSpec) -> None:
    y = run(spec, X)
    assert np.allclose(y, -y[::-1], atol=1e-5) == (spec.properties["zero_centred"] == "yes")


@pytest.mark.parametrize("spec", ELEMENTWISE, ids=ids)
def test_near_identity(spec: BlockSpec) -> None:
    x = np.array([-1e-2, -1e-3, 1e-3, 1e-2])
    assert np.allclose(run(spec, x), x, rtol=0.02) == (spec.properties["near_identity"] == "yes")


@pytest.mark.parametrize("spec", ELEMENTWISE, ids=ids)
def test_saturates(spec: BlockSpec) -> None:
    y = run(spec, np.array([-80, -60, 60, 80]))
    left, right = abs(y[1] - y[0]) < 0.01, abs(y[3] - y[2]) < 0.01
    sides = {(True, True): "both sides", (True, False): "left", (False, True): "right", (False, False): "neither side"}
    assert sides[left, right] == spec.properties["saturates"]


@pytest.mark.parametrize("spec", STATED, ids=ids)
def test_elementwise(spec: BlockSpec) -> None:
    x = np.random.default_rng(0).normal(size=(1, 4, 2, 3)).astype(np.float32)
    order = np.random.default_rng(1).permutation(x.size)
    shuffled = x.ravel()[order].reshape(x.shape)
    y, z = (apply_head(spec.name, array)[0].ravel() for array in (x, shuffled))
    is_elementwise = y.shape == x.ravel().shape and np.array_equal(y[order], z)
    assert is_elementwise == (spec.properties["elementwise"] == "yes")
