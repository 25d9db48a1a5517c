"""Draw anomaly maps in the manner of PatchCore (Roth et al. 2022): find defects that training pictures do not show.

Each spatial position of the maps of two stages, averaged with its neighbours, describes a patch. Patches of pictures
without defects form a memory, reduced to a coreset of patches that lie far apart. The anomaly score of a new patch is
its distance to the nearest patch in the memory. The upper half of a photograph is normal; in the lower half every
second piece gets a scratch, a stain or a smooth spot. Defects stand out on bricks; on grass a scratch resembles a
blade, and the scores are lower. Needs scikit-image, scikit-learn and matplotlib.
"""

from __future__ import annotations

import os

import numpy as np
from matplotlib.figure import Figure
from skimage import data, draw, transform
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from _photographs import to_rgb
from _server import OUT, server_address
from layertap import Client
from layertap.types import Array

MODEL = "efficientnet_lite0"
# The two outer rows of patches are affected by the network's padding and are cropped.
TAPS = [
    "stage:2 | average_pool(3, stride=1, padding=same) | average_pool(2) | l2 | crop(24, 24) -> fine",
    "stage:3 | average_pool(3, stride=1, padding=same) | l2 | crop(24, 24) -> coarse",
]
GRID = 24
"""Number of patches along a side."""
SIDE = 128
"""Side of a piece in pixels. The model enlarges it to 256 and crops 224, so that a patch covers 8 of its pixels."""
VISIBLE = np.s_[16:112, 16:112]
"""Part of a piece that the model sees."""
PIECES, CANDIDATES, MEMORY = 40, 6000, 600
"""Number of pieces, of patches to choose from, and of patches in the memory."""


def pieces(half: Array, random: np.random.Generator) -> list[Array]:
    """Return square pieces at random positions."""
    corners = random.integers(0, np.array(half.shape[:2]) - SIDE + 1, size=(PIECES, 2))
    return [half[top : top + SIDE, left : left + SIDE].copy() for top, left in corners]


def spoil(piece: Array, number: int, random: np.random.Generator) -> Array:
    """Draw a scratch, a stain or a smooth spot on the piece, and return its mask."""
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
    """Return one row for each patch, picture by picture."""
    features = client.extract(pictures, model=MODEL, taps=TAPS)
    maps = np.concatenate(list(features.values()), axis=1)
    return np.moveaxis(maps, 1, -1).reshape(-1, maps.shape[1])


def choose_coreset(vectors: Array) -> Array:
    """Return a coreset, chosen greedily: each time the vector that is farthest from the chosen ones."""
    chosen = [0]
    nearest = np.full(len(vectors), np.inf)
    while len(chosen) < MEMORY:
        nearest = np.minimum(nearest, np.square(vectors - vectors[chosen[-1]]).sum(axis=1))
        chosen.append(int(nearest.argmax()))
    return vectors[chosen]


def anomaly_maps(client: Client, photograph: Array) -> tuple[list[Array], Array, Array]:
    """Return test pieces of the lower half, masks of their defects, and their anomaly scores per pixel."""
    random = np.random.default_rng(0)
    normal = patches(client, pieces(photograph[:256], random))
    memory = NearestNeighbors(n_neighbors=1).fit(choose_coreset(random.permutation(normal)[:CANDIDATES]))
    tested = pieces(photograph[256:], random)
    masks = np.zeros((PIECES, SIDE, SIDE), bool)
    for number in range(0, PIECES, 2):
        masks[number] = spoil(tested[number], number // 2, random)
    distances, _ = memory.kneighbors(patches(client, tested))
    maps = [transform.resize(part, (96, 96), order=1) for part in distances.reshape(PIECES, GRID, GRID)]
    return [piece[VISIBLE] for piece in tested], masks[:, *VISIBLE], np.array(maps)


def show(figure: Figure, row: int, tested: list[Array], maps: Array) -> None:
    """Draw the first three pieces with a defect, each beside its map."""
    for column, number in enumerate((0, 2, 4)):
        axes = figure.add_subplot(3, 6, 6 * row + 2 * column + 1)
        axes.imshow(tested[number])
        axes.set_axis_off()
        axes = figure.add_subplot(3, 6, 6 * row + 2 * column + 2)
        axes.imshow(maps[number], vmin=0, vmax=maps.max())
        axes.set_axis_off()


def main() -> None:
    """Print the scores of three textures and draw their maps."""
    figure = Figure(figsize=(12, 6), layout="constrained")
    print(f"{'texture':<10}{'image AUROC':>13}{'pixel AUROC':>13}")
    with server_address() as address, Client(address) as client:
        for row, texture in enumerate(("brick", "grass", "gravel")):
            tested, masks, maps = anomaly_maps(client, to_rgb(getattr(data, texture)()))
            of_images = roc_auc_score(masks.any(axis=(1, 2)), maps.max(axis=(1, 2)))
            of_pixels = roc_auc_score(masks.ravel(), maps.ravel())
            print(f"{texture:<10}{of_images:>13.3f}{of_pixels:>13.3f}")
            show(figure, row, tested, maps)
    OUT.mkdir(parents=True, exist_ok=True)
    figure.savefig(OUT / "anomaly.png", dpi=80)
    print(f"\nwrote {os.path.relpath(OUT / 'anomaly.png')}")


if __name__ == "__main__":
    main()
