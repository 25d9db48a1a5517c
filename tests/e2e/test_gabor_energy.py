"""Test the bundled model of early vision: gratings activate their own channel."""

from __future__ import annotations

import math

import numpy as np
import pytest

from layertap import Client
from layertap.types import Array
from tests.paths import EXAMPLE_PHOTO

MODEL = "gabor_energy"
LAYERS = ("energy", "normalized")


def grating(wavelength: float, degrees: float, phase: float = 0.0, contrast: float = 0.8) -> Array:
    """Return an image of a sinusoidal grating."""
    y, x = np.mgrid[:128, :128]
    angle = math.radians(degrees)
    wave = np.cos(2 * math.pi * (x * math.cos(angle) + y * math.sin(angle)) / wavelength + phase)
    grey = np.round(127.5 * (1 + contrast * wave)).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


@pytest.mark.parametrize("wavelength", [4, 8, 16])
def test_the_matching_orientation_and_scale_responds_most(client: Client, wavelength: int) -> None:
    labels = client.model(MODEL).labels
    images = [grating(wavelength, step * 22.5, phase=step) for step in range(8)]
    features = client.extract(images, model=MODEL, taps=["normalized | gap -> n", "energy | gap -> e"])
    for step in range(8):
        expected = f"{wavelength} pixels, {step * 22.5:g}°"
        assert labels[features["n"][step].argmax()] == expected
        assert labels[features["e"][step].argmax()] == expected


def test_the_energy_is_the_amplitude_whatever_the_phase(client: Client) -> None:
    images = [grating(8, 45, phase, contrast=0.6) for phase in (0, 1, 2, 3)]
    energy = client.extract(images, model=MODEL, taps="middle | crop(8, width=8)")["middle | crop(8, width=8)"]
    # Averaging 2×2 pixels while halving the size slightly weakens a grating of 8 pixels at 45°.
    weakened = 0.3 * math.cos(math.pi / 8 * math.sqrt(0.5)) ** 2
    np.testing.assert_allclose(energy[:, 2], weakened, rtol=0.03)


def test_normalization_takes_the_contrast_out(client: Client) -> None:
    # Ignore the borders, where the padding creates an edge.
    low, high = (grating(8, 0, contrast=contrast) for contrast in (0.2, 0.8))
    features = client.extract(
        [low, high], model=MODEL, taps=[f"{layer} | crop(8, width=8) | gap -> {layer}" for layer in LAYERS]
    )
    before, after = (features[name][1].max() / features[name][0].max() for name in LAYERS)
    assert abs(before - 4) < 0.1
    assert after < 2


def test_a_photograph(client: Client) -> None:
    """Use a cat, whose whiskers and fur have every orientation."""
    maps = client.extract(EXAMPLE_PHOTO, model=MODEL)["energy"]
    assert maps.shape == (1, 24, 16, 16)
    assert (maps >= 0).all()
    assert maps.mean(axis=(0, 2, 3)).min() > 0
