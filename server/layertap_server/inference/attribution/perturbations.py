"""Maps from the target's values on covered images. `layertap.methods` has the formulas and their sources."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from layertap.blocks import BoundBlock
from layertap.types import Array, TargetValue
from layertap_server.inference.attribution.image_axes import ImageAxes
from layertap_server.inference.attribution.resampling import resize_maps
from layertap_server.inference.attribution.result import Maps
from layertap_server.inference.attribution.subject import Subject

AT_ONCE = 64
"""Number of covered images that are held in memory at a time."""


def occlusion(subject: Subject, options: BoundBlock) -> Maps:
    """Return by how much the target falls when windows of each image are covered."""
    axes, targets = ImageAxes.of(subject.graph), subject.values_of_targets()
    images = subject.images()
    height, width = axes.size(images)
    corners = list(_corners(height, width, options.integer("window"), options.integer("stride")))
    subject.check_runs([subject.found.tap], images, len(corners) * len(images), "occlusion, one for each window")
    masks = np.ones((len(corners), height, width), np.float32)
    for mask, (top, left) in zip(masks, corners, strict=True):
        mask[top : top + options.integer("window"), left : left + options.integer("window")] = 0
    fill = subject.baseline(options.word("fill"))
    maps = []
    for row, image in enumerate(images):
        scores = _scores(subject, axes, image, row, masks, fill, targets)
        falls = targets[row].value - scores
        covered = 1 - masks
        maps.append(np.tensordot(falls, covered, 1) / covered.sum(0))
    return Maps(np.stack(maps), targets)


def _corners(height: int, width: int, window: int, stride: int) -> Iterator[tuple[int, int]]:
    """Yield the top left corners of windows that cover the whole image; the last ones end at its border."""
    for top in _starts(height, window, stride):
        for left in _starts(width, window, stride):
            yield top, left


def _starts(size: int, window: int, stride: int) -> list[int]:
    """Return the starts of windows along one axis; gaps between windows are not allowed."""
    last = max(size - window, 0)
    return sorted({*range(0, last, min(stride, window)), last})


def rise(subject: Subject, options: BoundBlock) -> Maps:
    """Return the mean of random masks, weighted by the target of the image that each mask shows, less its mean."""
    axes, targets = ImageAxes.of(subject.graph), subject.values_of_targets()
    images = subject.images()
    count = options.integer("masks")
    subject.check_runs([subject.found.tap], images, count * len(images), "rise, one for each mask")
    fill, size = subject.baseline(options.word("fill")), axes.size(images)
    maps = []
    for row, image in enumerate(images):
        random = np.random.default_rng(options.integer("seed"))
        total, shown, scores_sum = np.zeros(size), np.zeros(size), 0.0
        for start in range(0, count, AT_ONCE):
            masks = _draw(random, min(AT_ONCE, count - start), options, size)
            scores = _scores(subject, axes, image, row, masks, fill, targets)
            total += np.tensordot(scores, masks, 1)
            shown += masks.sum(0)
            scores_sum += float(scores.sum())
        maps.append(total / np.maximum(shown, np.finfo(np.float32).tiny) - scores_sum / count)
    return Maps(np.stack(maps), targets)


def _draw(random: np.random.Generator, count: int, options: BoundBlock, size: tuple[int, int]) -> Array:
    """Return random masks: coarse grids of 0 and 1, enlarged with a random shift."""
    cells, (height, width) = options.integer("cells"), size
    steps = -(-height // cells), -(-width // cells)
    coarse = (random.random((count, cells + 1, cells + 1)) < options.number("keep")).astype(np.float64)
    large = resize_maps(coarse, (cells + 1) * steps[0], (cells + 1) * steps[1])
    tops, lefts = random.integers(0, steps[0], count), random.integers(0, steps[1], count)
    return np.stack(
        [mask[top : top + height, left : left + width] for mask, top, left in zip(large, tops, lefts, strict=True)]
    )


def _scores(
    subject: Subject,
    axes: ImageAxes,
    image: Array,
    row: int,
    masks: Array,
    fill: Array,
    targets: Sequence[TargetValue],
) -> Array:
    """Return the target's value for one image under each mask, a few masks at a time."""
    parts = []
    for start in range(0, len(masks), AT_ONCE):
        covered = axes.cover(image, masks[start : start + AT_ONCE], fill)
        parts.append(subject.scores(covered, np.full(len(covered), row), targets))
    return np.concatenate(parts)
