"""Draw activation statistics layer by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from layertap.types import LayerStatistics
from layertap.viz.labels import NO_LABELS
from layertap.viz.layer_axis import layer_panels
from layertap.viz.style import FAINT, LINE, SECOND_LINE, with_style

TITLES = ("mean ± std", "L2 norm", "zeros (%)", "saturated (%)", "dead channels")
"""Title of each panel."""
BROKEN_REMARK = "Red names: layers with values that are NaN or infinite; their moments are of the finite values."
"""Remark on figures with marked layers."""


@with_style
def statistics_figure(
    layers: Sequence[LayerStatistics], heading: str = "", labels: Mapping[str, str] = NO_LABELS
) -> Figure:
    """Draw mean and deviation, norm, zeros, saturation and dead channels of each layer, one panel for each.

    Args:
        layers: the statistics of each layer, from the first to the last.
        heading: text above the panels.
        labels: text to show instead of a layer's name, by name.

    Raises:
        ValueError: there are no layers.
    """
    if not layers:
        raise ValueError("there is no layer to draw")
    names = [labels.get(one.layer, one.layer) for one in layers]
    broken = [row for row, one in enumerate(layers) if one.nan_count or one.inf_count]
    page, (moments, norm, zeros, saturated, dead), bottom = layer_panels(names, TITLES, heading, marked=broken)
    if broken:
        page.remark(BROKEN_REMARK)
    rows = range(len(layers))
    moments.axvline(0, color=FAINT, linewidth=0.8)
    deviations = [one.standard_deviation for one in layers]
    means = [one.mean for one in layers]
    moments.errorbar(means, rows, xerr=deviations, fmt="o", markersize=3, color=LINE, elinewidth=1)
    moments.xaxis.set_major_locator(MaxNLocator(3))
    norm.plot([one.l2_norm for one in layers], rows, "o-", markersize=3, linewidth=0.8, color=LINE)
    norm.xaxis.set_major_locator(MaxNLocator(3))
    if all(0 < one.l2_norm < math.inf for one in layers):
        _use_log_scale(norm, [one.l2_norm for one in layers])
    zeros.barh(rows, [100 * one.zero_fraction for one in layers], color=LINE)
    saturated.barh(rows, [100 * one.saturated_fraction for one in layers], color=SECOND_LINE)
    for axis in (zeros, saturated):
        axis.set_xlim(0, 100)
        axis.set_xticks([0, 50, 100])
    dead.barh(rows, [one.dead_channels for one in layers], color=SECOND_LINE)
    dead.set_xlim(0, max(1, *(one.dead_channels * 1.05 for one in layers)))
    dead.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=3))
    return page.finish(bottom)


def _use_log_scale(axes: Axes, values: Sequence[float]) -> None:
    """Set a logarithmic scale of whole decades, so that at least two ticks have numbers."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    axes.set_xscale("log")
    axes.set_xlim(10.0**low, 10.0**high)
    decades = range(low, high + 1, -(-(high - low) // 3))
    axes.set_xticks([10.0**decade for decade in decades], [f"$10^{{{decade}}}$" for decade in decades])
    axes.minorticks_off()
