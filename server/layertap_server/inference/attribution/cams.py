"""Class activation maps: weighted sums of a layer's channels. `layertap.methods` has the formulas and their sources.

Functions of arrays take the layer's values ``a`` and gradients ``g``, float64 images×channels×rows×columns, and return
maps images×rows×columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from layertap.blocks import BoundBlock
from layertap.types import Array, TargetValue
from layertap_server.inference.attribution.image_axes import ImageAxes, count_at_once
from layertap_server.inference.attribution.resampling import resize_maps
from layertap_server.inference.attribution.result import Maps
from layertap_server.inference.attribution.subject import Subject, grid_of

POSITIONS = (2, 3)
"""Axes of rows and columns."""
SMALLEST = 1e-12
"""Minimum divisor."""


def weigh(a: Array, weights: Array) -> Array:
    """Return the positive part of the sum of channels with one weight for each image and channel."""
    return np.asarray(np.maximum(np.einsum("nchw,nc->nhw", a, weights), 0))


def grad_cam(a: Array, g: Array) -> Array:
    """Return Grad-CAM."""
    return weigh(a, g.mean(POSITIONS))


def grad_cam_plus_plus(a: Array, g: Array) -> Array:
    """Return Grad-CAM++, for the exponential of the target, whose higher derivatives are powers of ``g``."""
    divisor = 2 * g**2 + a.sum(POSITIONS, keepdims=True) * g**3
    shares = np.divide(g**2, divisor, out=np.zeros_like(g), where=np.abs(divisor) > SMALLEST * np.abs(g).max() ** 2)
    return weigh(a, (shares * np.maximum(g, 0)).sum(POSITIONS))


def x_grad_cam(a: Array, g: Array) -> Array:
    """Return XGrad-CAM."""
    total = a.sum(POSITIONS)
    product = (a * g).sum(POSITIONS)
    return weigh(a, np.divide(product, total, out=np.zeros_like(total), where=np.abs(total) > SMALLEST))


def layer_cam(a: Array, g: Array) -> Array:
    """Return LayerCAM."""
    return np.asarray(np.maximum((np.maximum(g, 0) * a).sum(1), 0))


def hires_cam(a: Array, g: Array) -> Array:
    """Return HiResCAM."""
    return np.asarray(np.maximum((g * a).sum(1), 0))


WITH_GRADIENT: Mapping[str, Callable[[Array, Array], Array]] = {
    "grad_cam": grad_cam,
    "grad_cam_plus_plus": grad_cam_plus_plus,
    "x_grad_cam": x_grad_cam,
    "layer_cam": layer_cam,
    "hires_cam": hires_cam,
}
"""Functions of values and gradients, by method."""


def explain_with_gradient(subject: Subject, options: BoundBlock) -> Maps:
    """Return the maps of a method that weights a layer by its gradients."""
    grid = grid_of(subject, subject.layer)
    response = subject.extract([grid.tap(), grid.tap("grad:")])
    a, g = (grid.arrange(feature.array) for feature in response.maps)
    return Maps(WITH_GRADIENT[options.name](a, g), response.targets, layer=grid.layer)


def eigen_cam(subject: Subject, _options: BoundBlock) -> Maps:
    """Return Eigen-CAM. The sign of a component is arbitrary; here the map agrees with the mean of the channels."""
    grid = grid_of(subject, subject.layer)
    look = subject.look(grid.tap())
    values = grid.arrange(look.arrays[0])
    return Maps(np.stack([first_component(one) for one in values]), look.targets, layer=grid.layer)


def first_component(values: Array) -> Array:
    """Return the projection of channels×rows×columns onto its first principal component; NaN if values are infinite."""
    if not np.isfinite(values).all():
        return np.full(values.shape[1:], np.nan)
    points = values.reshape(len(values), -1).T
    centred = points - points.mean(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    projected = centred @ directions[0]
    sign = -1.0 if projected @ centred.mean(1) < 0 else 1.0
    return np.asarray(sign * projected.reshape(values.shape[1:]))


def score_cam(subject: Subject, _options: BoundBlock) -> Maps:
    """Return Score-CAM: one run of the network for each channel of the layer."""
    grid = grid_of(subject, subject.layer)
    look = subject.look(grid.tap())
    a = grid.arrange(look.arrays[0])
    subject.check_runs([subject.found.tap], look.images, len(a) * a.shape[1], "score_cam, one for each channel")
    scores = np.stack(
        [_scores_of_channels(subject, one, look.images[row], row, look.targets) for row, one in enumerate(a)]
    )
    weights = np.exp(scores - scores.max(1, keepdims=True))
    return Maps(weigh(a, weights / weights.sum(1, keepdims=True)), look.targets, layer=grid.layer)


def _scores_of_channels(
    subject: Subject, channels: Array, image: Array, row: int, targets: Sequence[TargetValue]
) -> Array:
    """Return the target of an image under the mask of each channel, channels×rows×columns."""
    axes, step = ImageAxes.of(subject.graph), count_at_once(image)
    parts = []
    for start in range(0, len(channels), step):
        some = channels[start : start + step].astype(np.float32)
        masks = _scaled(resize_maps(some, *axes.size(image[None])))
        parts.append(subject.scores(axes.cover(image, masks, 0.0), np.full(len(masks), row), targets))
    return np.concatenate(parts)


def _scaled(maps: Array) -> Array:
    """Return maps scaled to 0…1; a constant map becomes 0."""
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    return np.asarray((maps - low) / np.where(high > low, high - low, 1))
