"""Combine the statistics of single images into those of a whole request."""

from __future__ import annotations

import math

import numpy as np

from layertap.types import Array, LayerStatistics
from layertap_server.graph import COLUMNS


def summarize(layer: str, summary: Array, channels: Array, *, has_channels: bool) -> LayerStatistics:
    """Combine the statistics of a layer over N images.

    Means and variances are combined as in Chan et al. 1979.

    Args:
        layer: the layer's name.
        summary: statistics of each image, N×10, with the columns of ``COLUMNS``.
        channels: largest absolute value of each channel in each image, N×C; a channel of zeros only counts as dead.
        has_channels: whether the layer has a channel axis; otherwise the number of dead channels is 0.

    Returns:
        The statistics of the layer. Minimum, maximum, mean and standard deviation are NaN if no value is finite.
    """
    columns = dict(zip(COLUMNS, summary.astype(np.float64).T, strict=True))
    finite = columns["finite"]
    count = float(finite.sum())
    total = count + float(columns["nan"].sum() + columns["inf"].sum())
    mean = float((columns["mean"] * finite).sum() / count) if count else math.nan
    spread = columns["variance"] + (columns["mean"] - mean) ** 2
    return LayerStatistics(
        layer=layer,
        min=float(columns["min"].min()) if count else math.nan,
        max=float(columns["max"].max()) if count else math.nan,
        mean=mean,
        standard_deviation=math.sqrt(float((spread * finite).sum()) / count) if count else math.nan,
        zero_fraction=float(columns["zeros"].sum()) / max(total, 1),
        saturated_fraction=float(columns["saturated"].sum()) / max(total, 1),
        dead_channels=int((channels == 0).all(axis=0).sum()) if has_channels else 0,
        nan_count=int(columns["nan"].sum()),
        inf_count=int(columns["inf"].sum()),
        l2_norm=float(np.sqrt((columns["norm"] ** 2).sum())),
    )
