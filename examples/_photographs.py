"""Provide the photographs that scikit-image and scikit-learn ship."""

from __future__ import annotations

from skimage import color, data
from sklearn.datasets import load_sample_images

from layertap.types import Array

SCIKIT_IMAGE_NAMES = (
    *("astronaut", "camera", "chelsea", "coffee", "coins", "hubble_deep_field", "immunohistochemistry", "moon"),
    *("page", "retina", "rocket", "brick", "grass", "gravel"),
)


def photographs() -> dict[str, Array]:
    """Return all photographs by name, as uint8 arrays of shape H×W×3."""
    pictures = {name: getattr(data, name)() for name in SCIKIT_IMAGE_NAMES}
    pictures |= dict(zip(("china", "flower"), load_sample_images().images, strict=True))
    return {name: to_rgb(picture) for name, picture in pictures.items()}


def to_rgb(picture: Array) -> Array:
    """Return a grey picture with three equal channels, and a colour picture unchanged."""
    return color.gray2rgb(picture) if picture.ndim == 2 else picture
