"""Retrieve images with GeM vectors (Radenović et al. 2018): find the original of a distorted copy.

Every picture becomes one vector: the maps of a late stage, pooled with the generalized mean and normalized to unit
length. The nearest vector of the gallery is the result. The gallery is 16 photographs cut into nine tiles each, so that
neighbouring tiles look alike; the queries are the middle tiles. Needs scikit-image and scikit-learn.
"""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
from PIL import Image
from skimage import filters, transform, util

from _photographs import photographs
from _server import server_address
from layertap import Client
from layertap.types import Array

MODEL = "efficientnet_lite0"
TAP = "stage:-1 | gem(p=3) | l2 -> vector"


def crop(picture: Array) -> Array:
    """Return the middle of the picture, a quarter of its area."""
    height, width = picture.shape[:2]
    return picture[height // 4 : -height // 4, width // 4 : -width // 4]


def jpeg(picture: Array) -> bytes:
    """Compress strongly as JPEG."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=10)
    return file.getvalue()


DISTORTIONS = {
    "crop to a quarter": crop,
    "mirror": lambda picture: np.ascontiguousarray(picture[:, ::-1]),
    "turn by 20°": lambda picture: util.img_as_ubyte(transform.rotate(picture, 20, mode="reflect")),
    "turn by 90°": lambda picture: np.ascontiguousarray(np.rot90(picture)),
    "grey": lambda picture: np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8),
    "a third of the light": lambda picture: picture // 3,
    "blur, σ = 2": lambda picture: util.img_as_ubyte(filters.gaussian(picture, 2, channel_axis=2)),
    "noise, σ = 0.1": lambda picture: util.img_as_ubyte(util.random_noise(picture, var=0.01, rng=0)),
    "JPEG, quality 10": jpeg,
}
"""Function of each distortion."""


def tiles(picture: Array) -> list[Array]:
    """Return 3×3 tiles, row by row."""
    return [tile for row in np.array_split(picture, 3) for tile in np.array_split(row, 3, axis=1)]


def vectors(client: Client, pictures: Iterable[Array | bytes]) -> Array:
    """Return one vector for each picture."""
    items = client.extract_many(pictures, model=MODEL, taps=TAP)
    return np.concatenate([item.features["vector"] for item in items if item.features is not None])


def main() -> None:
    """Print how often the original is found for each distortion."""
    pictures = photographs()
    names = [f"{name} {tile}" for name in pictures for tile in range(9)]
    gallery = [np.ascontiguousarray(tile) for picture in pictures.values() for tile in tiles(picture)]
    sought = np.arange(4, len(gallery), 9)  # the middle tiles
    with server_address() as address, Client(address) as client:
        known = vectors(client, gallery)
        print(f"{len(gallery)} tiles, each a vector of {known.shape[1]}\n")
        print(f"{'distortion':<20}{'first':>11}{'in three':>12}{'worst':>6}")
        found = 0
        for distortion, distort in DISTORTIONS.items():
            order = np.argsort(-vectors(client, (distort(gallery[index]) for index in sought)) @ known.T, axis=1)
            ranks = 1 + np.argmax(order == sought[:, None], axis=1)
            first, near, count = np.sum(ranks == 1), np.sum(ranks <= 3), len(sought)
            found += int(first)
            worst = f"{ranks.max():>6}  {names[sought[ranks.argmax()]]}" if ranks.max() > 1 else ""
            print(f"{distortion:<20}{first:>5} of {count}{near:>6} of {count}{worst}")
        print(f"\nfirst: {found} of {len(sought) * len(DISTORTIONS)}")

        similar = known @ vectors(client, [crop(gallery[names.index("astronaut 4")])])[0]
    print("\na quarter of 'astronaut 4' is nearest to (cosine)")
    for index in np.argsort(-similar)[:5]:
        print(f"  {similar[index]:.3f}  {names[index]}")


if __name__ == "__main__":
    main()
