"""The axes of a batch of images in the layout of a model's image input, and images that are covered in part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layertap.errors import BadTensorError
from layertap.types import Array, Layout
from layertap_server.graph import ModelGraph, spatial_axes

MOST_AT_ONCE = 64
"""Maximum number of changed images that are held in memory at a time."""
MOST_VALUES = 2**24
"""Maximum number of values of the changed images that are held in memory at a time."""


def count_at_once(image: Array) -> int:
    """Return how many changed copies of an image are held in memory at a time."""
    return max(1, min(MOST_AT_ONCE, MOST_VALUES // max(image.size, 1)))


@dataclass(frozen=True, slots=True)
class ImageAxes:
    """Axes of a batch of images."""

    channels: int
    rows: int
    columns: int

    @classmethod
    def of(cls, graph: ModelGraph) -> ImageAxes:
        """Return the axes of a model's image input.

        Raises:
            BadTensorError: the model takes no images.
        """
        if not graph.takes_pictures:
            message = f"the method explains images, and the model's main input is {graph.main_input.name}"
            raise BadTensorError(message, field="images")
        rows, columns = spatial_axes(graph.main_input.layout)
        return cls(3 if graph.main_input.layout is Layout.NHWC else 1, rows, columns)

    def size(self, images: Array) -> tuple[int, int]:
        """Return the height and width of a batch of images."""
        return images.shape[self.rows], images.shape[self.columns]

    def cover(self, image: Array, masks: Array, fill: float | Array) -> Array:
        """Return copies of an image, each shown where its mask is 1 and covered where it is 0.

        Args:
            image: one image, without the batch axis.
            masks: masks×height×width, from 0 to 1.
            fill: values that cover the image, one number or one for each channel.
        """
        shown = np.expand_dims(masks, self.channels).astype(image.dtype)
        covered = self.per_channel(fill).astype(image.dtype)
        return np.asarray((image[None] - covered) * shown + covered)

    def per_channel(self, values: float | Array) -> Array:
        """Return one number, or one for each channel, such that it broadcasts to a batch of images."""
        return np.reshape(values, (1, 1, 1, -1) if self.channels > 1 else (1, -1, 1, 1))

    def over_channels(self, images: Array, reduce: str) -> Array:
        """Return the sum or the maximum over the channels, images×height×width."""
        return np.asarray(getattr(np, reduce)(images, axis=self.channels))
