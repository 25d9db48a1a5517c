"""Runs of a model from a layer on: the caller changes the layer's values, and nothing before it is computed again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from layertap.types import Array, Tap, Target, TargetValue
from layertap_server.graph import Feed, Tail, find_tail
from layertap_server.inference.attribution.subject import Subject
from layertap_server.inference.feeds import split_inputs
from layertap_server.inference.own_inputs import own_size
from layertap_server.planning.plan import PlanInput


@dataclass(frozen=True, slots=True, eq=False)
class LayerRuns:
    """Runs of a model from a layer to the target of a request."""

    subject: Subject
    """The subject, with the edits and arrays that apply behind the layer."""
    layer: str
    """Name of the layer."""
    images: Array | None
    """The request's images as the model's image input, batch first; None if no path goes around the layer."""

    @classmethod
    def of(cls, subject: Subject, layer: str, images: Array) -> LayerRuns:
        """Return the runs of a subject's model from a layer on, with its images as the model's image input."""
        tail = find_tail(subject.graph, layer, subject.found.target.layer)
        request = replace(subject.request, edits=_edits_in(tail, subject), inputs=_inputs_in(tail, subject))
        return cls(replace(subject, request=request), layer, images if tail.needs_images else None)

    def check(self, values: Array, count: int, what: str) -> None:
        """Raise `TooExpensiveError` if the runs on ``count`` changes of the layer exceed the limit of one request."""
        subject, feed = self.subject, Feed(self.layer, values.shape[1:])
        if self.images is None:
            spec = PlanInput(False, feed.sizes, feed.input, (feed,))
        else:
            spec = PlanInput(False, own_size(self.images, subject.graph), feeds=(feed,))
        resolution = subject.model.planner.resolve([subject.found.tap], spec, subject.context.cancellation)
        subject.engine.limits.check_operations(resolution.operations * count, f"{count} runs of {what}")

    def scores(self, values: Array, rows: Array, targets: Sequence[TargetValue]) -> Array:
        """Return the target's value for changed values of the layer, float64.

        Args:
            values: changed values, batch first, in the layer's own layout.
            rows: number of the request's image that each changed one stems from.
            targets: target of each of the request's images.
        """
        parts = [self._run(values[part], rows[part]) for part in self.subject.parts_of(values)]
        return self.subject.choose(np.concatenate(parts), rows, targets)

    def _run(self, values: Array, rows: Array) -> Array:
        """Return the result of the target's tap for values that fit into one request."""
        images = None if self.images is None else self.images[rows]
        taps, fed = [self.subject.found.tap], {self.layer: values}
        return self.subject.extract_changed(taps, rows, Target(), images, fed).maps[0].array


def _edits_in(tail: Tail, subject: Subject) -> tuple[Tap, ...]:
    """Return the edits of the request that apply to a tail."""
    edits = subject.model.planner.edits_of(subject.request.edits)
    return tuple(edit for edit in edits if edit.selector in tail.layers)


def _inputs_in(tail: Tail, subject: Subject) -> Mapping[str, Array]:
    """Return the arrays of the request that a tail reads: values of the model's other inputs, and feeds behind."""
    given = split_inputs(subject.request.inputs, subject.model)
    inputs = {name: array for name, array in given.inputs.items() if name != subject.graph.main_input.name}
    return inputs | {feed.layer: array for feed, array in given.fed.items() if feed.layer in tail.layers}
