"""Maps from the target's value when a layer is changed. `layertap.methods` has the formulas and their sources.

The model runs from the layer to the target only, on copies of the layer's values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from layertap.blocks import BoundBlock
from layertap.types import Array, Layout, Tap, TargetValue
from layertap_server.inference.attribution.cams import weigh
from layertap_server.inference.attribution.image_axes import count_at_once
from layertap_server.inference.attribution.layer_runs import LayerRuns
from layertap_server.inference.attribution.result import Maps
from layertap_server.inference.attribution.subject import Subject, grid_of
from layertap_server.tensor import Tensor

KERNEL = np.outer([0.25, 0.5, 0.25], [0.25, 0.5, 0.25])
"""Weights of a position and its eight neighbours in Recipro-CAM; they sum to 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A layer of the request's images, and the runs of the model from it on."""

    type: Tensor
    values: Array
    """Values in the layer's own layout, batch first."""
    maps: Array
    """The same values, float64 images × channels × rows × columns."""
    targets: tuple[TargetValue, ...]
    """Target of each image."""
    runs: LayerRuns

    @classmethod
    def of(cls, subject: Subject) -> Layer:
        """Compute the layer that the request names, and the target of each image."""
        grid = grid_of(subject, subject.layer)
        look = subject.look(Tap(grid.layer), grid.tap())
        own, arranged = look.arrays
        runs = LayerRuns.of(subject, grid.layer, look.images)
        return cls(subject.graph.tapped(grid.layer), own, grid.arrange(arranged), look.targets, runs)

    def channels(self) -> Iterator[Array]:
        """Yield a mask for each channel, 0 on the channel and 1 elsewhere, to multiply with the values of an image."""
        count, axis = self.maps.shape[1], self.type.channel_axis - 1
        for channel in range(count):
            shape = [1] * (self.values.ndim - 1)
            shape[axis] = count
            yield np.where(np.arange(count) == channel, 0.0, 1.0).reshape(shape)

    def positions(self) -> Iterator[Array]:
        """Yield for each position a mask of `KERNEL` around it, row by row; tokens without a position are kept."""
        rows, columns = self.maps.shape[2:]
        for row in range(rows):
            for column in range(columns):
                mask = np.zeros((rows + 2, columns + 2))
                mask[row : row + 3, column : column + 3] = KERNEL
                yield self._over_values(mask[1:-1, 1:-1])

    def _over_values(self, mask: Array) -> Array:
        """Return a mask rows × columns such that it can be multiplied with an image's values."""
        match self.type.layout:
            case Layout.TOKENS:
                return np.concatenate([np.ones(self.type.prefix or 0), mask.reshape(-1)])[:, None]
            case Layout.NHWC:
                return mask[:, :, None]
        return mask[None]

    def scores(self, image: int, masks: Iterable[Array]) -> Array:
        """Return the target's value for an image's values times each mask, float64."""
        values, parts, rest = self.values[image], [], iter(masks)
        while some := list(islice(rest, count_at_once(values))):
            changed = np.stack([(values * mask).astype(values.dtype) for mask in some])
            parts.append(self.runs.scores(changed, np.full(len(some), image), self.targets))
        return np.concatenate(parts)


def ablation_cam(subject: Subject, _options: BoundBlock) -> Maps:
    """Return Ablation-CAM: one run from the layer on for each of its channels."""
    layer = Layer.of(subject)
    count = len(layer.maps) * layer.maps.shape[1]
    layer.runs.check(layer.values, count, "ablation_cam, one for each channel")
    before = np.array([target.value for target in layer.targets])[:, None]
    after = np.stack([layer.scores(image, layer.channels()) for image in range(len(layer.maps))])
    weights = (before - after) / np.where(before == 0, 1, np.abs(before))
    return Maps(weigh(layer.maps, weights), layer.targets, layer=layer.runs.layer)


def recipro_cam(subject: Subject, _options: BoundBlock) -> Maps:
    """Return Recipro-CAM: one run from the layer on for each of its positions."""
    layer = Layer.of(subject)
    images, _, rows, columns = layer.maps.shape
    layer.runs.check(layer.values, images * rows * columns, "recipro_cam, one for each position")
    scores = np.stack([layer.scores(image, layer.positions()) for image in range(images)])
    return Maps(scores.reshape(images, rows, columns), layer.targets, layer=layer.runs.layer)
