"""What the listing of a loaded model says about batching, and a log line for layers that the graph leaves undecided."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from layertap.errors import LayertapError
from layertap_server.models.loader import LoadedModel
from layertap_server.planning.planner import PlanInput

log = logging.getLogger(__name__)

SIZES_TO_LIST = ((224, 224), (64, 64), (32, 32))
"""Heights and widths, in pixels, for a model that takes images of any size and whose model.yaml names none."""
UNDECIDED = "model %s: the graph does not tell whether %d layers keep images apart, as %s; their requests run alone"
MOST_NAMED = 5
"""Number of undecided layers that the log line names."""


def report_batching(model: LoadedModel) -> None:
    """List the layers' batching at the first size that goes through the model, and log the undecided layers.

    Nothing of the model runs here: a run on invented values could end or stop the server, and proves nothing.
    """
    for size in _sizes(model):
        input_ = PlanInput(pictures=False, size=size)
        try:
            undecided = model.planner.undecided(input_)
        except LayertapError:
            continue
        model.planner.list_at(input_)
        if undecided:
            log.info(UNDECIDED, model.info.name, len(undecided), ", ".join(undecided[:MOST_NAMED]))
        return


def _sizes(model: LoadedModel) -> Iterable[tuple[int, int]]:
    size = model.graph.image_size or model.preprocessing.output_size
    if size is not None:
        return [size]
    height, width = model.graph.image_sides
    return [(height or other[0], width or other[1]) for other in SIZES_TO_LIST]
