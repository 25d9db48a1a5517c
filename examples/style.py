"""Compare the style of pictures with Gram matrices (Gatys et al. 2016): pieces of one texture lie close together.

The Gram matrix of a layer holds the correlations of its channels, independent of position, and so describes a texture.
Needs scikit-image and scikit-learn.
"""

from __future__ import annotations

import numpy as np

from _photographs import photographs
from _server import server_address
from layertap import Client
from layertap.types import Array

MODEL = "efficientnet_lite0"
TAPS = [f"stage:{number} | gram | flatten | l2" for number in (1, 2, 3)]
PICTURES = ("brick", "grass", "gravel", "hubble_deep_field", "immunohistochemistry", "page", "retina", "flower")


def quarters(picture: Array) -> list[Array]:
    """Return the quarters: top left, top right, bottom left, bottom right."""
    pieces = [piece for half in np.array_split(picture, 2) for piece in np.array_split(half, 2, axis=1)]
    return [np.ascontiguousarray(piece) for piece in pieces]


def main() -> None:
    """Print the mean distances between the quarters of the pictures."""
    pictures = photographs()
    pieces = [quarter for name in PICTURES for quarter in quarters(pictures[name])]
    with server_address() as address, Client(address) as client:
        features = client.extract(pieces, model=MODEL, taps=TAPS)
    styles = np.concatenate(list(features.values()), axis=1) / np.sqrt(len(TAPS))
    distance = np.linalg.norm(styles[:, None] - styles, axis=2)

    print(f"mean distance between quarters of {len(PICTURES)} pictures, from 0 to √2\n")
    print(" " * 22 + "".join(f"{name[:8]:>10}" for name in PICTURES))
    itself = np.eye(len(pieces), dtype=bool)
    for row, name in enumerate(PICTURES):
        print(f"{name:<22}", end="")
        for column in range(len(PICTURES)):
            pairs = np.s_[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            print(f"{distance[pairs][~itself[pairs]].mean():>10.2f}", end="")
        print()
    nearest = np.where(itself, np.inf, distance).argmin(axis=1) // 4
    right = nearest == np.arange(len(pieces)) // 4
    print(f"\nnearest piece belongs to the same picture: {right.sum()} of {len(pieces)}")
    for piece in np.flatnonzero(~right):
        print(f"  a quarter of {PICTURES[piece // 4]} is nearer to one of {PICTURES[nearest[piece]]}")


if __name__ == "__main__":
    main()
