"""Report of a loaded model's batching: its listing, and a log line for layers that the graph leaves undecided."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from layertap.errors import LayertapError
from layertap_server.models.description import sizes_to_list
from layertap_server.models.loader import LoadedModel
from layertap_server.planning.plan import PlanInput

log = logging.getLogger(__name__)

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


def _sizes(model: LoadedModel) -> Iterable[tuple[int, int] | None]:
    """Return the sizes (height, width) in pixels at which to try the model, in this order; None if it has none."""
    if not model.graph.takes_pictures:
        return [None]
    size = model.graph.image_size or model.preprocessing.output_size
    return sizes_to_list(size or model.graph.image_sides)
