"""Compute a perceptual distance like LPIPS (Zhang et al. 2018) and compare it with the mean squared error.

At every spatial position of every stage the channels are normalized to unit length (``l2``). The distance of two
pictures is the squared difference, averaged over positions and then over stages. LPIPS learns weights of channels from
human judgements; here all channels have the same weight. Needs scikit-image.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image
from skimage import data, filters, transform, util

from _server import server_address
from layertap import Client
from layertap.types import Array

MODEL = "efficientnet_lite0"
TAPS = [f"stage:{number} | l2" for number in range(1, 6)]
STRENGTHS = ("weak", "medium", "strong")


def blur(picture: Array, sigma: float) -> Array:
    """Blur with a Gaussian."""
    return np.asarray(util.img_as_ubyte(filters.gaussian(picture, sigma, channel_axis=2)))


def noise(picture: Array, sigma: float) -> Array:
    """Add Gaussian noise."""
    return np.asarray(util.img_as_ubyte(util.random_noise(picture, var=sigma**2, rng=0)))


def jpeg(picture: Array, quality: float) -> Array:
    """Compress as JPEG."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=int(quality))
    return np.asarray(Image.open(file))


def shift(picture: Array, pixels: float) -> Array:
    """Shift horizontally."""
    return np.roll(picture, int(pixels), axis=1)


def light(picture: Array, factor: float) -> Array:
    """Scale the brightness."""
    return (picture * factor).astype(np.uint8)


DISTORTIONS: dict[str, tuple[Callable[[Array, float], Array], tuple[float, float, float]]] = {
    "shift by 1, 2, 4 pixels": (shift, (1, 2, 4)),
    "light × 0.9, 0.75, 0.6": (light, (0.9, 0.75, 0.6)),
    "blur, σ = 1, 2, 4": (blur, (1, 2, 4)),
    "JPEG, quality 40, 15, 5": (jpeg, (40, 15, 5)),
    "noise, σ = 0.05, 0.1, 0.2": (noise, (0.05, 0.1, 0.2)),
}
"""Function and three strengths of each distortion."""


def distances(client: Client, original: Array, others: list[Array]) -> list[float]:
    """Return the distance from the original to each of the other pictures."""
    features = client.extract([original, *others], model=MODEL, taps=TAPS)
    squares = [np.square(maps[1:] - maps[:1]).sum(axis=1).mean(axis=(1, 2)) for maps in features.values()]
    return [float(value) for value in np.mean(squares, axis=0)]


def main() -> None:
    """Print both measures for each distortion."""
    # The model's input size, so that resizing does not alter the distortions.
    picture = util.img_as_ubyte(transform.resize(data.astronaut(), (256, 256), anti_aliasing=True))
    errors, far = {}, {}
    with server_address() as address, Client(address) as client:
        for name, (distort, strengths) in DISTORTIONS.items():
            distorted = [distort(picture, strength) for strength in strengths]
            errors[name] = [float(np.square(other / 255 - picture / 255).mean()) for other in distorted]
            far[name] = distances(client, picture, distorted)

    print(f"{'':<28}{'mean squared error':^27}{'perceptual distance':^27}")
    print(f"{'':<28}" + 2 * "".join(f"{strength:>9}" for strength in STRENGTHS))
    for name in DISTORTIONS:
        print(f"{name:<28}{''.join(f'{value:>9.4f}' for value in errors[name])}", end="")
        print("".join(f"{value:>9.3f}" for value in far[name]))
    print("\nMedium distortions from near to far (a human would rank shift and light first):")
    for measure, values in (("mean squared error", errors), ("perceptual distance", far)):
        medium = {name.split()[0].rstrip(","): three[1] for name, three in values.items()}
        print(f"  {measure:<20} {', '.join(sorted(medium, key=medium.__getitem__))}")


if __name__ == "__main__":
    main()
