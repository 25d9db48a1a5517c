"""Merge the per-channel statistics of single images in float64, as in Chan et al. 1979."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from layertap.blocks.shape import CHANNEL_STATISTICS
from layertap.types import Array

NO_IMAGE = -1
"""Number of the image in an empty place of the list of strongest images."""


@dataclass(slots=True, eq=False)
class Moments:
    """Statistics of C channels over all images added so far; `add` changes them."""

    count: Array
    """Number of finite values, C int64."""
    mean: Array
    """Mean of the finite values, C float64; 0 without any."""
    squares: Array
    """Sum of squared differences from the mean, C float64."""
    low: Array
    """Smallest finite value, C float64; infinity without any."""
    high: Array
    """Largest finite value, C float64; minus infinity without any."""
    zeros: Array
    """Number of zeros, C int64."""
    nan: Array
    """Number of NaN values, C int64."""
    inf: Array
    """Number of infinite values, C int64."""
    top_values: Array
    """Largest values, each of another image, largest first, k×C float64."""
    top_images: Array
    """Number of the image of each of these values, k×C int64; `NO_IMAGE` for none."""
    top_positions: Array
    """Position of each of these values in its map, counted row by row, k×C int64."""

    @classmethod
    def empty(cls, channels: int, top: int) -> Self:
        """Return the statistics of no images.

        Args:
            channels: number of channels C.
            top: number k of images with the largest values that are kept for each channel.
        """

        def full(value: float, dtype: str, *rows: int) -> Array:
            return np.full((*rows, channels), value, dtype)

        return cls(
            count=full(0, "int64"),
            mean=full(0, "float64"),
            squares=full(0, "float64"),
            low=full(np.inf, "float64"),
            high=full(-np.inf, "float64"),
            zeros=full(0, "int64"),
            nan=full(0, "int64"),
            inf=full(0, "int64"),
            top_values=full(-np.inf, "float64", top),
            top_images=full(NO_IMAGE, "int64", top),
            top_positions=full(0, "int64", top),
        )

    def check(self, channels: int) -> None:
        """Check that the arrays describe this number of channels.

        Raises:
            ValueError: the shape or dtype of an array, or a mean, variance or count, is impossible.
        """
        expected = Moments.empty(channels, len(self.top_values)).arrays()
        for name, array in self.arrays().items():
            if (array.shape, array.dtype) != (expected[name].shape, expected[name].dtype):
                wanted = f"{expected[name].dtype} of shape {expected[name].shape}"
                raise ValueError(f"expected {name} as {wanted}, got {array.dtype} of shape {array.shape}")
        if not np.isfinite(self.mean).all() or not (np.isfinite(self.squares) & (self.squares >= 0)).all():
            raise ValueError("expected finite means and variances of at least 0")
        if (self.low > self.high)[self.count > 0].any():
            raise ValueError("expected minima that are at most the maxima")
        if min(array.min(initial=0) for array in (self.count, self.zeros, self.nan, self.inf)) < 0:
            raise ValueError("expected counts of at least 0")

    def add(self, images: Array, numbers: Array) -> None:
        """Add the statistics of B images.

        Args:
            images: results of ``channel_stats``, B×C×10.
            numbers: number of each image, B integers.
        """
        columns = dict(zip(CHANNEL_STATISTICS, np.moveaxis(images.astype(np.float64), 2, 0), strict=True))
        counts, means = columns["finite"], columns["mean"] + columns["remainder"]
        count = counts.sum(axis=0)
        mean = (counts * means).sum(axis=0) / np.maximum(count, 1)
        # The server centres on its rounded mean, so its variance is too large by the squared remainder.
        variance = np.maximum(columns["variance"] - columns["remainder"] ** 2, 0)
        squares = (counts * (variance + (means - mean) ** 2)).sum(axis=0)
        self._merge(count, mean, squares)
        self.low = np.minimum(self.low, columns["min"].min(axis=0))
        self.high = np.maximum(self.high, columns["max"].max(axis=0))
        for name in ("zeros", "nan", "inf"):
            setattr(self, name, getattr(self, name) + columns[name].sum(axis=0).astype(np.int64))
        self._add_top(columns["max"], columns["position"].astype(np.int64), numbers)

    def _merge(self, count: Array, mean: Array, squares: Array) -> None:
        """Merge count, mean and sum of squared differences of further values."""
        total = self.count + count
        difference = mean - self.mean
        share = count / np.maximum(total, 1)
        self.squares = self.squares + squares + difference**2 * self.count * share
        self.mean = self.mean + difference * share
        self.count = total.astype(np.int64)

    def _add_top(self, values: Array, positions: Array, numbers: Array) -> None:
        """Keep the largest values; among equal values the earlier image comes first."""
        images = np.where(np.isfinite(values), np.asarray(numbers)[:, None], NO_IMAGE)
        candidates = np.concatenate([self.top_values, values])
        order = np.argsort(-candidates, axis=0, kind="stable")[: len(self.top_values)]
        for name, added in (("top_values", values), ("top_images", images), ("top_positions", positions)):
            both = np.concatenate([getattr(self, name), added])
            setattr(self, name, np.take_along_axis(both, order, axis=0))

    def part(self, start: int, stop: int) -> Moments:
        """Return the statistics of the channels from ``start`` to ``stop``, as views."""
        return Moments(**{name: array[..., start:stop] for name, array in self.arrays().items()})

    def arrays(self) -> dict[str, Array]:
        """Return the arrays by name, to store them."""
        return {item.name: getattr(self, item.name) for item in fields(self)}
