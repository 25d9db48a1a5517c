"""Draw feature maps, statistics and comparisons with matplotlib. Needs the extra ``viz``.

`collect` extracts what the figures show, each ``…_figure`` returns a matplotlib ``Figure``, and `save` writes it to a
file.
"""

from layertap.viz.attribution import attribution_figure, collect_attributions
from layertap.viz.compare import cka_figure, similarities_figure
from layertap.viz.filters import filters_figure, opposite_pairs
from layertap.viz.grid import draw_maps, maps_figure
from layertap.viz.labels import labels_of
from layertap.viz.overlay import overlay_figure
from layertap.viz.pca import components_figure
from layertap.viz.pictures import Picture, Result, collect, results_of
from layertap.viz.statistics import statistics_figure
from layertap.viz.strip import strip_figure
from layertap.viz.style import save

__all__ = [
    "Picture",
    "Result",
    "attribution_figure",
    "cka_figure",
    "collect",
    "collect_attributions",
    "components_figure",
    "draw_maps",
    "filters_figure",
    "labels_of",
    "maps_figure",
    "opposite_pairs",
    "overlay_figure",
    "results_of",
    "save",
    "similarities_figure",
    "statistics_figure",
    "strip_figure",
]
