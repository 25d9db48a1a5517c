"""Anomaly maps in the manner of PatchCore (Roth et al. 2022): what of a texture was never seen?

Every place of the maps of two stages, averaged with its neighbours, describes a patch. Patches of pictures without
defects make a memory, thinned to those that lie farthest apart; a patch of a new picture is as odd as its distance to
the nearest one there. The upper half of a photograph is normal; of the lower half every second piece gets a scratch, a
stain or a smooth spot. On bricks they stand out; among straws a scratch is one more straw, and the numbers say so.
Needs scikit-image, scikit-learn and matplotlib.
"""

from __future__ import annotations

import os

import numpy as np
from matplotlib.figure import Figure
from skimage import data, draw, transform
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from _photographs import in_colour
from _server import OUT, server_address
from layertap import Client
from layertap.types import Array

MODEL = "efficientnet_lite0"
# The two outer rows of patches see the padding of the network, and are cut off.
TAPS = [
    "stage:2 | average_pool(3, stride=1, padding=same) | average_pool(2) | l2 | crop(24, 24) -> fine",
    "stage:3 | average_pool(3, stride=1, padding=same) | l2 | crop(24, 24) -> coarse",
]
GRID = 24
"""Patches a side."""
SIDE = 128
"""Pixels a side of a piece; the model enlarges it to 256, looks at the middle 224, and a patch is 8 of these."""
SEEN = np.s_[16:112, 16:112]
PIECES, CANDIDATES, MEMORY = 40, 6000, 600


def pieces(half: Array, random: np.random.Generator) -> list[Array]:
    """Squares of random places."""
    corners = random.integers(0, np.array(half.shape[:2]) - SIDE + 1, size=(PIECES, 2))
    return [half[top : top + SIDE, left : left + SIDE].copy() for top, left in corners]


def spoil(piece: Array, number: int, random: np.random.Generator) -> Array:
    """Puts a scratch, a stain or a smooth spot onto the piece; returns where, as a mask."""
    row, column = random.integers(32, 96, size=2)
    mask = np.zeros(piece.shape[:2], bool)
    if number % 3 == 0:
        angle = random.uniform(0, np.pi)
        ends = np.rint([row, column] + 16 * np.outer([-1, 1], [np.sin(angle), np.cos(angle)])).astype(int)
        for aside in range(3):
            mask[draw.line(ends[0, 0], ends[0, 1] + aside, ends[1, 0], ends[1, 1] + aside)] = True
        piece[mask] = 230
    else:
        mask[draw.disk((row, column), 9, shape=mask.shape)] = True
        piece[mask] = piece[mask] // 2 if number % 3 == 1 else piece[mask].mean(axis=0).astype(np.uint8)
    return mask


def patches(client: Client, pictures: list[Array]) -> Array:
    """One row a patch, picture by picture."""
    features = client.extract(pictures, model=MODEL, taps=TAPS)
    maps = np.concatenate(list(features.values()), axis=1)
    return np.moveaxis(maps, 1, -1).reshape(-1, maps.shape[1])


def far_apart(vectors: Array) -> Array:
    """A coreset, chosen greedily: each time the vector that is farthest from those chosen."""
    chosen = [0]
    nearest = np.full(len(vectors), np.inf)
    while len(chosen) < MEMORY:
        nearest = np.minimum(nearest, np.square(vectors - vectors[chosen[-1]]).sum(axis=1))
        chosen.append(int(nearest.argmax()))
    return vectors[chosen]


def anomaly_maps(client: Client, photograph: Array) -> tuple[list[Array], Array, Array]:
    """Pieces of the photograph's lower half, where the defects of every second one are, and how odd each pixel is."""
    random = np.random.default_rng(0)
    normal = patches(client, pieces(photograph[:256], random))
    memory = NearestNeighbors(n_neighbors=1).fit(far_apart(random.permutation(normal)[:CANDIDATES]))
    tested = pieces(photograph[256:], random)
    masks = np.zeros((PIECES, SIDE, SIDE), bool)
    for number in range(0, PIECES, 2):
        masks[number] = spoil(tested[number], number // 2, random)
    distances, _ = memory.kneighbors(patches(client, tested))
    maps = [transform.resize(part, (96, 96), order=1) for part in distances.reshape(PIECES, GRID, GRID)]
    return [piece[SEEN] for piece in tested], masks[:, *SEEN], np.array(maps)


def show(figure: Figure, row: int, tested: list[Array], maps: Array) -> None:
    """The first three pieces with a defect, each beside its map."""
    for column, number in enumerate((0, 2, 4)):
        axes = figure.add_subplot(3, 6, 6 * row + 2 * column + 1)
        axes.imshow(tested[number])
        axes.set_axis_off()
        axes = figure.add_subplot(3, 6, 6 * row + 2 * column + 2)
        axes.imshow(maps[number], vmin=0, vmax=maps.max())
        axes.set_axis_off()


def main() -> None:
    figure = Figure(figsize=(12, 6), layout="constrained")
    print(f"{'texture':<10}{'image AUROC':>13}{'pixel AUROC':>13}")
    with server_address() as address, Client(address) as client:
        for row, texture in enumerate(("brick", "grass", "gravel")):
            tested, masks, maps = anomaly_maps(client, in_colour(getattr(data, texture)()))
            of_images = roc_auc_score(masks.any(axis=(1, 2)), maps.max(axis=(1, 2)))
            of_pixels = roc_auc_score(masks.ravel(), maps.ravel())
            print(f"{texture:<10}{of_images:>13.3f}{of_pixels:>13.3f}")
            show(figure, row, tested, maps)
    OUT.mkdir(parents=True, exist_ok=True)
    figure.savefig(OUT / "anomaly.png", dpi=80)
    print(f"\nwrote {os.path.relpath(OUT / 'anomaly.png')}")


if __name__ == "__main__":
    main()
