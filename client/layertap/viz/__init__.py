"""Pictures for papers, with matplotlib. Needs the extra ``viz``.

`collect` asks a server; each ``…_figure`` draws what it answered, as a matplotlib ``Figure``; `save` writes that.
"""

from layertap.viz.compare import cka_figure, similarities_figure
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
    "cka_figure",
    "collect",
    "components_figure",
    "draw_maps",
    "labels_of",
    "maps_figure",
    "overlay_figure",
    "results_of",
    "save",
    "similarities_figure",
    "statistics_figure",
    "strip_figure",
]
