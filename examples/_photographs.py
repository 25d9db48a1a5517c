"""The photographs that scikit-image and scikit-learn bring with them."""

from __future__ import annotations

from skimage import color, data
from sklearn.datasets import load_sample_images

from layertap.types import Array

OF_SCIKIT_IMAGE = (
    *("astronaut", "camera", "chelsea", "coffee", "coins", "hubble_deep_field", "immunohistochemistry", "moon"),
    *("page", "retina", "rocket", "brick", "grass", "gravel"),
)


def photographs() -> dict[str, Array]:
    """Name to picture, uint8 H×W×3."""
    pictures = {name: getattr(data, name)() for name in OF_SCIKIT_IMAGE}
    pictures |= dict(zip(("china", "flower"), load_sample_images().images, strict=True))
    return {name: in_colour(picture) for name, picture in pictures.items()}


def in_colour(picture: Array) -> Array:
    """A grey picture with three equal channels; one in colour as it is."""
    return color.gray2rgb(picture) if picture.ndim == 2 else picture
