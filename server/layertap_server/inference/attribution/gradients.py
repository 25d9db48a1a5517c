"""Maps from gradients with respect to the image. `layertap.methods` has the formulas and their sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from layertap.blocks import BoundBlock
from layertap.errors import BadParameterError
from layertap.types import Array, TargetValue
from layertap_server.inference.attribution.image_axes import ImageAxes, count_at_once
from layertap_server.inference.attribution.result import Maps
from layertap_server.inference.attribution.subject import IMAGE, Subject, same_targets

GRADIENT = "grad:#0"
"""Tap of the gradient with respect to the image input, which is a model's first layer."""


def saliency(subject: Subject, _options: BoundBlock) -> Maps:
    """Return the largest magnitude of the gradient among the channels."""
    axes = ImageAxes.of(subject.graph)
    response = subject.extract([GRADIENT])
    return Maps(axes.over_channels(np.abs(response.maps[0].array), "max"), response.targets)


def guided_backprop(subject: Subject, _options: BoundBlock) -> Maps:
    """Return the largest magnitude of the guided gradient among the channels.

    Raises:
        BadParameterError: the model has no relu, so that the method would be saliency.
    """
    if not any(node.op_type in {"Relu", "Clip"} for node in subject.graph.proto.graph.node):
        message = "guided_backprop changes the gradient of relu, and the model has none; use saliency"
        raise BadParameterError(message, field="method")
    axes = ImageAxes.of(subject.graph)
    response = subject.extract([GRADIENT], replace(subject.request.target, guided=True))
    return Maps(axes.over_channels(np.abs(response.maps[0].array), "max"), response.targets)


def input_x_gradient(subject: Subject, _options: BoundBlock) -> Maps:
    """Return the sum over the channels of the image's values times their gradients."""
    axes = ImageAxes.of(subject.graph)
    response = subject.extract([IMAGE, GRADIENT])
    images, gradients = (feature.array.astype(np.float64) for feature in response.maps)
    return Maps(axes.over_channels(images * gradients, "sum"), response.targets)


def smooth_grad(subject: Subject, options: BoundBlock) -> Maps:
    """Return the magnitude of the mean gradient over noisy copies of each image, largest among the channels."""
    axes, samples = ImageAxes.of(subject.graph), options.integer("samples")
    response = subject.extract([IMAGE, GRADIENT])
    images = response.maps[0].array
    subject.check_runs([GRADIENT], images, samples * len(images), "smooth_grad")
    random = np.random.default_rng(options.integer("seed"))
    maps = []
    for row, image in enumerate(images):
        spread = options.number("std") * (float(image.max()) - float(image.min()))
        total, step = np.zeros(image.shape), count_at_once(image)
        for start in range(0, samples, step):
            noise = random.standard_normal((min(step, samples - start), *image.shape))
            noisy = (image[None] + spread * noise).astype(image.dtype)
            total += len(noisy) * _mean_gradient(subject, noisy, row, response.targets)
        maps.append(axes.over_channels(np.abs(total / samples)[None], "max")[0])
    return Maps(np.stack(maps), response.targets)


def integrated_gradients(subject: Subject, options: BoundBlock) -> Maps:
    """Return the integral of the gradient from a baseline to each image, by the trapezoidal rule."""
    axes = ImageAxes.of(subject.graph)
    response = subject.extract([IMAGE, GRADIENT])
    images = response.maps[0].array
    baseline = axes.per_channel(subject.baseline(options.word("baseline")))[0]
    subject.check_runs([GRADIENT], images, _most_steps(options) * len(images), "integrated_gradients")
    lines = [
        Line(subject, np.broadcast_to(baseline, image.shape).astype(image.dtype), image, row, response.targets)
        for row, image in enumerate(images)
    ]
    found = [_integrate(line, options) for line in lines]
    warning = _warn(max(one.missing_share for one in found), options)
    maps = axes.over_channels(np.stack([one.values for one in found]), "sum")
    return Maps(maps, response.targets, missing=tuple(one.missing for one in found), warning=warning)


def _most_steps(options: BoundBlock) -> int:
    """Return the maximum number of steps."""
    return max(options.integer("steps"), options.integer("most_steps"))


def _warn(share: float, options: BoundBlock) -> str:
    """Return a warning if a larger share of the difference is missing than the tolerance; otherwise an empty text."""
    if share <= options.number("tolerance"):
        return ""
    return f"{share:.0%} of y(x) - y(baseline) is missing in a map; raise most_steps, which is {_most_steps(options)}"


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """The line from a baseline to one image."""

    subject: Subject
    start: Array
    """Baseline, of the image's shape."""
    end: Array
    """The image."""
    row: int
    """Number of the image in the request."""
    targets: Sequence[TargetValue]

    @property
    def difference(self) -> float:
        """The target's value at the end minus that at the start."""
        (before,) = self.subject.scores(self.start[None], np.array([self.row]), self.targets)
        return self.targets[self.row].value - float(before)

    def sum_of_gradients(self, fractions: Array) -> Array:
        """Return the sum of the gradients at fractions of the line, float64."""
        total = np.zeros(self.end.shape)
        step = count_at_once(self.end)
        for start in range(0, len(fractions), step):
            places = fractions[start : start + step].reshape(-1, *[1] * self.end.ndim)
            images = (self.start + places * (self.end.astype(np.float64) - self.start)).astype(self.end.dtype)
            total += len(images) * _mean_gradient(self.subject, images, self.row, self.targets)
        return total


@dataclass(frozen=True, slots=True, eq=False)
class Integral:
    """The integrated gradients of one image."""

    values: Array
    """Product of the integral and the distance from the baseline, of the image's shape, float64."""
    missing: float
    """The target's difference minus the sum of the values."""
    missing_share: float
    """Magnitude of what is missing, as a fraction of the difference."""


def _integrate(line: Line, options: BoundBlock) -> Integral:
    """Integrate along a line; double the number of steps until the tolerance or the maximum is reached.

    The trapezoidal rule uses each gradient again when the steps are doubled.
    """
    steps, difference = options.integer("steps"), line.difference
    distance = line.end.astype(np.float64) - line.start
    total = line.sum_of_gradients(np.array([0.0, 1.0])) / 2 + line.sum_of_gradients(np.arange(1, steps) / steps)
    while True:
        values = distance * total / steps
        missing = difference - float(values.sum())
        share = abs(missing) / max(abs(difference), float(np.finfo(np.float32).tiny))
        if share <= options.number("tolerance") or 2 * steps > _most_steps(options):
            return Integral(values, missing, share)
        total += line.sum_of_gradients((np.arange(steps) + 0.5) / steps)
        steps *= 2


def _mean_gradient(subject: Subject, images: Array, row: int, targets: Sequence[TargetValue]) -> Array:
    """Return the mean gradient over changed images that stem from one image, float64."""
    rows = np.full(len(images), row)
    (gradients,) = subject.gradients([GRADIENT], images, rows, same_targets(subject.request.target, targets))
    return np.asarray(gradients.mean(0, dtype=np.float64))
