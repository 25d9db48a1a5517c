"""Maps from the target's values on covered images. `layertap.methods` has the formulas and their sources."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, product

import numpy as np

from layertap.blocks import BoundBlock
from layertap.types import Array
from layertap_server.inference.attribution.image_axes import ImageAxes, count_at_once
from layertap_server.inference.attribution.resampling import resize_maps
from layertap_server.inference.attribution.result import Maps
from layertap_server.inference.attribution.subject import Subject


def occlusion(subject: Subject, options: BoundBlock) -> Maps:
    """Return by how much the target falls when windows of each image are covered."""
    axes, look = ImageAxes.of(subject.graph), subject.look()
    images, targets, window = look.images, look.targets, options.integer("window")
    height, width = axes.size(images)
    tops, lefts = (_starts(side, window, options.integer("stride")) for side in (height, width))
    count = len(tops) * len(lefts)
    subject.check_runs([subject.found.tap], images, count * len(images), "occlusion, one for each window")
    fill = subject.baseline(options.word("fill"))
    maps = []
    for row, image in enumerate(images):
        falls, covers = np.zeros((height, width)), np.zeros((height, width))
        corners = product(tops, lefts)
        while some := list(islice(corners, count_at_once(image))):
            masks = _windows(some, window, (height, width))
            scores = subject.scores(axes.cover(image, masks, fill), np.full(len(masks), row), targets)
            falls += np.tensordot(targets[row].value - scores, 1 - masks, 1)
            covers += (1 - masks).sum(0)
        maps.append(falls / covers)
    return Maps(np.stack(maps), targets)


def _windows(corners: Sequence[tuple[int, int]], window: int, size: tuple[int, int]) -> Array:
    """Return masks that are 0 in the windows with these top left corners, and 1 elsewhere."""
    masks = np.ones((len(corners), *size), np.float32)
    for mask, (top, left) in zip(masks, corners, strict=True):
        mask[top : top + window, left : left + window] = 0
    return masks


def _starts(size: int, window: int, stride: int) -> list[int]:
    """Return the starts of windows along one axis, which leave no gap; the last window ends at the border."""
    last = max(size - window, 0)
    return sorted({*range(0, last, min(stride, window)), last})


def rise(subject: Subject, options: BoundBlock) -> Maps:
    """Return the mean of random masks, weighted by the target of the image that each mask shows, less its mean."""
    axes, look = ImageAxes.of(subject.graph), subject.look()
    images, targets = look.images, look.targets
    count = options.integer("masks")
    subject.check_runs([subject.found.tap], images, count * len(images), "rise, one for each mask")
    fill, size = subject.baseline(options.word("fill")), axes.size(images)
    maps = []
    for row, image in enumerate(images):
        random = np.random.default_rng(options.integer("seed"))
        total, shown, scores_sum = np.zeros(size), np.zeros(size), 0.0
        step = count_at_once(image)
        for start in range(0, count, step):
            masks = _draw(random, min(step, count - start), options, size)
            scores = subject.scores(axes.cover(image, masks, fill), np.full(len(masks), row), targets)
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
