"""Serve one request from taps to results, in one line of stages.

The inputs are read, the taps are resolved to a plan, limits are checked, the images are decoded, the plan is acquired
and run, and the outputs become the response. Each stage is a module of its own and takes the request context.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from layertap.errors import InvalidRequestError
from layertap.types import (
    ExtractRequest,
    ExtractResponse,
    InspectRequest,
    LayerStatistics,
    Preview,
    PreviewRequest,
    Timing,
)
from layertap_server.graph import Feed, Mixing
from layertap_server.inference.model_inputs import InputReader, ModelInputs
from layertap_server.inference.plans import Plans
from layertap_server.inference.response import describe, respond, statistics_of
from layertap_server.inference.runs import PlanRunner, computed_images
from layertap_server.inference.targets import check_apart, target_indices
from layertap_server.models.loader import LoadedModel
from layertap_server.planning.plan import Inspection, PlanInput, Resolution, check_several
from layertap_server.planning.response_cache import ResponseCache
from layertap_server.request.context import RequestContext
from layertap_server.request.limits import Limits
from layertap_server.runtime import Contention


@dataclass(frozen=True, slots=True)
class Engine:
    """Extraction, preview and inspection on loaded models; safe to call from any number of threads."""

    reader: InputReader
    plans: Plans
    runner: PlanRunner
    responses: ResponseCache
    limits: Limits
    contention: Contention

    def extract(self, model: LoadedModel, request: ExtractRequest, context: RequestContext) -> ExtractResponse:
        """Extract the features of the request's images; if one image fails, the whole request fails.

        Args:
            model: the model that the request names.
            request: taps and images. The images are either all pictures (encoded, or uint8 arrays) or all float
                arrays for the model's own input.
            context: context of the request.

        Raises:
            LayertapError: the request is not valid, exceeds a limit or cannot be computed; see `layertap.errors`.
        """
        with self.contention.request():
            start = time.perf_counter()
            inputs = self.reader.read(request.images, request.inputs, model, context)
            resolution = self._resolve(request, inputs, context)
            inputs = inputs.with_target(target_indices(request.target, resolution.target, model, inputs.count))
            key = self.responses.key(resolution.plan, request.images, {**request.inputs, **inputs.of_plan})
            outputs, ran_with, decoded = self.responses.get(key), 0, time.perf_counter()
            if outputs is None:
                images = inputs.arrays(context)
                decoded = time.perf_counter()
                with context.stage("plan"):
                    opened = self.plans.acquire(model, resolution.plan)
                arrays, ran_with = self.runner.run(resolution.plan, opened, inputs, images, context)
                outputs = opened.outputs(arrays)
                self.responses.put(key, outputs)
            timing = _timing(context.queue_ms, start, decoded, time.perf_counter())
            return respond(resolution, outputs, inputs, timing, ran_with)

    def preview(self, model: LoadedModel, request: PreviewRequest, context: RequestContext) -> Preview:
        """Return the results and the cost of a request for these taps without running it.

        Raises:
            LayertapError: a tap is not valid, or the image count is out of range.
        """
        if request.image_count < 1:
            message = f"expected an image_count of at least 1, got {request.image_count}"
            raise InvalidRequestError(message, field="image_count")
        resolution = self.check(model, request, context)
        warm = self.plans.is_warm(model, resolution.plan)
        return describe(model, resolution, request.image_count, warm=warm)

    def check(
        self, model: LoadedModel, request: PreviewRequest | ExtractRequest, context: RequestContext
    ) -> Resolution:
        """Resolve the taps of a request for an input of pictures; raise the errors of `preview`."""
        target, fed = (
            (request.target, request.feeds) if isinstance(request, PreviewRequest) else (request.target.tap, ())
        )
        feeds = tuple(map(Feed, sorted(model.planner.find_feeds(fed).values())))
        input_ = PlanInput(model.graph.takes_pictures, model.preprocessing.output_size, feeds=feeds)
        with context.stage("plan"):
            return model.planner.resolve(request.taps, input_, context.cancellation, target, request.edits)

    def inspect(
        self, model: LoadedModel, request: InspectRequest, context: RequestContext
    ) -> tuple[LayerStatistics, ...]:
        """Return the statistics of layers over all images of the request; raise the errors of `extract`."""
        inputs = self.reader.read(request.images, request.inputs, model, context)
        inspection = self._resolve_inspection(request, inputs, context)
        images = inputs.arrays(context)
        with context.stage("plan"):
            opened = self.plans.acquire_inspection(model, inspection)
        arrays, _ = self.runner.run(inspection, opened, inputs, images, context)
        return statistics_of(inspection, opened, arrays, model)

    def _resolve(self, request: ExtractRequest, inputs: ModelInputs, context: RequestContext) -> Resolution:
        """Resolve the request's taps for its images and check the result against the limits."""
        model, count = inputs.model, inputs.count
        with context.stage("plan"):
            resolution = model.planner.resolve(
                request.taps, inputs.spec, context.cancellation, request.target, request.edits
            )
        _check_across_images(resolution, count)
        check_apart(resolution, count)
        self.limits.check_response({result.name: result.tensor.bytes_for(count) or 0 for result in resolution.results})
        self.limits.check_computed(resolution.computed_bytes * count)
        operations = resolution.operations * computed_images(model, count)
        self.limits.check_operations(operations, resolution.most_expensive)
        return resolution

    def _resolve_inspection(self, request: InspectRequest, inputs: ModelInputs, context: RequestContext) -> Inspection:
        """Resolve the request's selectors for its images and check the cost against the limits."""
        planner = inputs.model.planner
        with context.stage("plan"):
            inspection = planner.inspection(request.selectors, inputs.spec, context.cancellation, request.edits)
        operations = inspection.operations * computed_images(inputs.model, inputs.count)
        part = f"the statistics of {len(inspection.layers)} layers, and what they need"
        self.limits.check_operations(operations, part)
        return inspection


def _check_across_images(resolution: Resolution, count: int) -> None:
    """Check that blocks which compute across images receive all images of the request in one run.

    Raises:
        TooFewImagesError: the request has one image, so that each value would be compared with itself.
        InvalidRequestError: the tapped layers must run one image at a time.
    """
    across = resolution.across
    check_several(across, count)
    if across and resolution.mixing.mixing in {Mixing.RUN, Mixing.ONE}:
        why = resolution.mixing.why
        message = (
            f"{across} needs all images in one run, and these layers run one image at a time ({why}); extract them "
            "without the block and give the features to ApplyBlocks"
        )
        raise InvalidRequestError(message, block=across, why=why)


def _timing(queue_ms: float, start: float, decoded: float, end: float) -> Timing:
    """Return the timing of a request from times in seconds."""
    decode_ms, compute_ms = (decoded - start) * 1000, (end - decoded) * 1000
    return Timing(queue_ms, decode_ms, compute_ms, queue_ms + decode_ms + compute_ms)
