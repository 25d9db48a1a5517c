"""The statistics of each image -> those of all of them."""

from __future__ import annotations

import math

import numpy as np

from layertap.types import Array, LayerStatistics
from layertap_server.graph import COLUMNS


def summarized(layer: str, summary: Array, channels: Array, *, has_channels: bool) -> LayerStatistics:
    """One layer's statistics out of its summary, N×10 as `COLUMNS` says, and its largest values a channel, N×C.

    Means and variances of images are joined as in Chan et al. 1979. A layer without a finite value has NaN for them.
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
