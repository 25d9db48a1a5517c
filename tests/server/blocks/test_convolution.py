"""Tests of convolutions: shape errors, symbolic sizes and initial weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layertap import blocks
from layertap.errors import BadParameterError, LayertapError, RequestTooLargeError, ShapeMismatchError
from layertap.expression import format_block
from layertap.types import Array
from layertap_server.blocks.filters import FilterShape, initial_weights
from tests import references
from tests.running import apply_head

ZEROS = np.zeros((1, 4, 6, 6), np.float32)


@pytest.mark.parametrize(
    ("head", "error", "words"),
    [
        ("conv(3, 3)", BadParameterError, "needs its weight [3, 4, 3, 3], and none is given"),
        ("conv(3, 3, weight=hee)", BadParameterError, "no initial weights 'hee' (did you mean he?)"),
        ('conv(3, 3, weight="gabor(scals=2)")', BadParameterError, "no parameter 'scals'"),
        ('conv(3, 3, weight="he |")', BadParameterError, "expected the end"),
        ("conv(3, 3, weight=sobel)", BadParameterError, "sobel makes 2 filters, and a group has 3"),
        ("conv(2, 5, weight=sobel)", BadParameterError, "sobel needs a kernel of 3"),
        ("conv(1, 1, weight=[[1], [1, 2]])", BadParameterError, "have different lengths"),
        ("conv(1, 1, weight=[1, 2])", ShapeMismatchError, "the weight has shape [2] where [1, 4, 1, 1] is needed"),
        ("conv(2, 1, weight=he, bias=[1, 2, 3])", ShapeMismatchError, "bias has shape [3] where [2] is needed"),
        ("conv(6, 1, groups=3, weight=he)", ShapeMismatchError, "4 channels and 6 filters do not make 3 groups"),
        ("conv(1, 9, weight=he)", ShapeMismatchError, "a window of 9 is larger than the 6"),
        ("linear(3, weight=he)", ShapeMismatchError, "put flatten or gap before it"),
        ("transposed_conv(1, 1, padding=9, weight=he)", ShapeMismatchError, "the padding removes the whole result"),
        ('conv(6, 3, weight="gabor(64, scales=64)")', BadParameterError, "gabor makes 8192 filters, and a group has 6"),
        (
            'conv(8, 2, weight="gabor(wavelength=0.01)")',
            BadParameterError,
            "no finite numbers",
        ),
        ('conv(1, 4, weight="gaussian(0.01)")', BadParameterError, "no finite numbers"),
        ("conv(65536, 9, padding=4, weight=he)", RequestTooLargeError, "limited to 16777216 numbers"),
        ("gap | conv(1, 1, weight=he)", ShapeMismatchError, "needs height and width"),
    ],
)
def test_what_does_not_fit_says_why(head: str, error: type[LayertapError], words: str) -> None:
    with pytest.raises(error) as caught:
        apply_head(head, ZEROS)
    assert words in caught.value.message


@pytest.mark.parametrize("padding", ["valid", "same", "same_lower", "[1, 0, 2, 1]"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_height_and_width_that_are_not_known(padding: str, stride: int) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 7, 8)).astype(np.float32)
    head = f"conv(4, [3, 2], stride={stride}, padding={padding}, weight=he)"
    known, _ = apply_head(head, x)
    unknown, promised = apply_head(head, x, symbolic="NHW")
    np.testing.assert_array_equal(unknown, known)
    assert all(size == got or isinstance(size, str) for size, got in zip(promised.shape, known.shape, strict=True))


@given(st.integers(1, 3), st.integers(1, 4), st.integers(5, 9), st.integers(0, 2**31 - 1))
def test_a_transposed_convolution_is_the_adjoint(kernel: int, stride: int, size: int, seed: int) -> None:
    """Check that ⟨conv(x), y⟩ = ⟨x, transposed_conv(y)⟩ for one weight."""
    random = np.random.default_rng(seed)
    weight = random.normal(size=(2, 3, kernel, kernel))
    x = random.normal(size=(1, 3, (size - 1) * stride + kernel, (size - 1) * stride + kernel))
    y = random.normal(size=(1, 2, size, size))
    forward = references.conv(x, weight, stride=(stride, stride))
    head = blocks.transposed_conv(3, kernel, stride=stride, weight=weight)
    back, _ = apply_head(format_block(head), y.astype(np.float32))
    assert abs((forward * y).sum() - (x * back).sum()) < 1e-4 * np.abs(x).sum()


@pytest.mark.parametrize(
    ("text", "variance"),
    [("he", 2 / (16 * 9)), ("glorot", 2 / (9 * (16 + 512)))],
)
def test_random_weights(text: str, variance: float) -> None:
    shape = FilterShape(512, 1, 16, 3, 3)
    weights = initial_weights(text, shape, salt=0)
    assert weights.shape == (512, 16, 3, 3)
    count = weights.size
    assert abs(weights.mean()) < 5 * np.sqrt(variance / count)
    assert abs(weights.var() / variance - 1) < 5 * np.sqrt(2 / count)
    np.testing.assert_array_equal(weights, initial_weights(text, shape, salt=0))
    assert not np.array_equal(weights, initial_weights(f"{text}(1)", shape, salt=0))
    assert not np.array_equal(weights, initial_weights(text, shape, salt=1))


def grating(angle: float, wavelength: float, phase: float, size: int = 64) -> Array:
    """Return an image of a sine grating, 1×1×size×size."""
    y, x = np.mgrid[:size, :size]
    return np.cos(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / wavelength - phase)[None, None]


@given(st.integers(0, 3), st.integers(0, 1), st.floats(0, 6.28))
def test_a_quadrature_pair_measures_the_energy_of_its_grating(turn: int, scale: int, phase: float) -> None:
    """Check that a grating of amplitude 1 gives energy 1 at the matching filters, for every phase."""
    image = grating(turn * np.pi / 4, 6 * 2**scale, phase).astype(np.float32)
    head = 'conv(16, 31, weight="gabor(4, scales=2, wavelength=6)") | modulus(2) | gap'
    energies, _ = apply_head(head, image)
    assert energies[0].argmax() == scale * 4 + turn
    assert abs(energies[0].max() - 1) < 0.02


def test_a_constant_patch_gives_zero() -> None:
    flat = np.full((1, 1, 32, 32), 7, np.float32)
    for weight, out in (("gabor", 8), ("laplacian", 1)):
        answer, _ = apply_head(f"conv({out}, 15, weight={weight})", flat)
        assert np.abs(answer).max() < 1e-5
