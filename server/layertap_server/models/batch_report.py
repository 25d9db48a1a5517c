"""Report of a loaded model's batching: its listing, and a log line for layers that the graph leaves undecided."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from layertap.errors import LayertapError
from layertap_server.models.loader import LoadedModel
from layertap_server.planning.plan import PlanInput

log = logging.getLogger(__name__)

SIZES_TO_LIST = ((224, 224), (64, 64), (32, 32))
"""Heights and widths in pixels to try for a model that accepts any image size and whose model.yaml names no size."""
UNDECIDED = (
    "model %s: the graph does not determine whether %d layers keep images independent (such as %s); each request for "
    "one of them runs alone"
)
"""Log message: name of the model, number of undecided layers, names of the first few."""
MOST_NAMED = 5
"""Maximum number of undecided layers that the log line names."""


def report_batching(model: LoadedModel) -> None:
    """List the layers' batching at the first size that the model accepts, and log the undecided layers.

    The analysis reads the graph and runs no part of the model: a run on invented values could stop the server.
    """
    for size in _sizes(model):
        input_ = PlanInput(pictures=False, size=size)
        try:
            undecided = model.planner.list_at(input_)
        except LayertapError:
            continue
        if undecided:
            log.info(UNDECIDED, model.info.name, len(undecided), ", ".join(undecided[:MOST_NAMED]))
        return


def _sizes(model: LoadedModel) -> Iterable[tuple[int, int]]:
    """Return the sizes (height, width) in pixels at which to try the model, in this order."""
    size = model.graph.image_size or model.preprocessing.output_size
    if size is not None:
        return [size]
    height, width = model.graph.image_sides
    return [(height or other[0], width or other[1]) for other in SIZES_TO_LIST]
