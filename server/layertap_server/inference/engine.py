"""Serve one request from taps to results: resolve the taps, check the cost, decode, run, and name the results."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import numpy as np

from layertap.errors import (
    BadTensorError,
    InvalidRequestError,
    ModelFailedError,
    NoImagesError,
    ShapeMismatchError,
    TooManyImagesError,
)
from layertap.types import (
    Array,
    Batching,
    ExtractRequest,
    ExtractResponse,
    FeatureMap,
    ImagePayload,
    InspectRequest,
    LayerStatistics,
    Layout,
    PixelImage,
    Preview,
    PreviewedFeature,
    PreviewRequest,
    Tap,
    Timing,
)
from layertap_server.graph import (
    CompiledPlan,
    Mixing,
    ModelGraph,
    Normalization,
    Verdict,
    compile_inspection,
    compile_plan,
)
from layertap_server.inference import images
from layertap_server.inference.batching import Batcher, BatchLimits
from layertap_server.inference.model_inputs import (
    OtherInputs,
    collect_other_inputs,
    is_own_input,
    join_own_inputs,
    own_size,
    pad_batch,
    too_many_images,
)
from layertap_server.inference.statistics import summarize
from layertap_server.models.batch_report import report_batching
from layertap_server.models.loader import LoadedModel
from layertap_server.models.preprocessing import COLOR
from layertap_server.models.repository import TryOutError
from layertap_server.planning.plan_store import OpenPlan, Outputs, SessionCache, session_bytes
from layertap_server.planning.planner import Inspection, Plan, PlanInput, Resolution, Result, check_several
from layertap_server.planning.response_cache import ResponseCache
from layertap_server.request import cancellation
from layertap_server.request.context import current_request
from layertap_server.request.limits import Limits
from layertap_server.runtime import Runtime, SessionError

Resolved = TypeVar("Resolved")
log = logging.getLogger(__name__)

MOST_BYTES = 2**63
"""Exclusive upper bound of a preview's total bytes; the message stores the total as a signed 64-bit integer."""
MOST_EXTRA = 1.1
"""Maximum cost of a wider compiled plan that is reused, as a multiple of the requested plan's cost."""


@dataclass(frozen=True, slots=True)
class _Prepared(Generic[Resolved]):
    """The images of a request and the resolved taps or selectors."""

    resolved: Resolved
    batch: Callable[[], Array]
    """Function that returns the images as the plan's input, batch first; it decodes pictures on each call."""


class Engine:
    """Extraction, preview and inspection on loaded models; safe to call from any number of threads."""

    def __init__(
        self,
        runtime: Runtime,
        sessions: SessionCache,
        limits: Limits,
        decode_pool: ThreadPoolExecutor,
        batcher: Batcher,
        responses: ResponseCache,
    ) -> None:
        """Create an engine from the parts of the server that it uses."""
        self._runtime = runtime
        self._sessions = sessions
        self._limits = limits
        self._decode_pool = decode_pool
        self._batcher = batcher
        self._responses = responses

    def extract(self, model: LoadedModel, request: ExtractRequest, queue_ms: float = 0.0) -> ExtractResponse:
        """Extract the features of the request's images; if one image fails, the whole request fails.

        Args:
            model: the model that the request names.
            request: taps and images. The images are either all pictures (encoded, or uint8 arrays) or all float
                arrays for the model's own input.
            queue_ms: milliseconds that the request waited for a worker; reported in the response's timing.

        Raises:
            LayertapError: the request is not valid, exceeds a limit or cannot be computed; see `layertap.errors`.
        """
        with self._runtime.contention.request():
            return self._extract(model, request, queue_ms)

    def _extract(self, model: LoadedModel, request: ExtractRequest, queue_ms: float) -> ExtractResponse:
        start = time.perf_counter()
        prepared = self._prepare(
            request.images, model, lambda input_, count: self._resolve(request, model, input_, count)
        )
        plan = prepared.resolved.plan
        key = self._responses.key(plan, request.images, request.inputs)
        outputs, ran_with, decoded = self._responses.get(key), 0, time.perf_counter()
        if outputs is None:
            batch = prepared.batch()
            decoded = time.perf_counter()
            outputs, ran_with = self._compute(model, plan, batch, request.inputs)
            self._responses.put(key, outputs)
        end = time.perf_counter()
        return ExtractResponse(
            maps=_build_feature_maps(prepared.resolved, outputs),
            model=model.info.name,
            version=model.info.version,
            timing=_build_timing(queue_ms, start, decoded, end),
            batch_size=ran_with,
            assumed_preprocessing=assumed_preprocessing(model, request.images),
            skipped=prepared.resolved.skipped,
        )

    def preview(self, model: LoadedModel, request: PreviewRequest) -> Preview:
        """Return the results and the cost of a request for these taps without running it.

        Raises:
            LayertapError: a tap is not valid, or the image count is out of range.
        """
        if request.image_count < 1:
            message = f"expected an image_count of at least 1, got {request.image_count}"
            raise InvalidRequestError(message, field="image_count")
        resolution = self.check(model, request.taps)
        features = tuple(_preview_result(result, request.image_count) for result in resolution.results)
        if sum(feature.bytes for feature in features) >= MOST_BYTES:
            message = f"{request.image_count} images have results of more than {MOST_BYTES} bytes; ask for fewer"
            raise InvalidRequestError(message, field="image_count")
        return Preview(
            features=features,
            total_bytes=sum(feature.bytes for feature in features),
            macs_per_image=model.planner.cost(resolution.plan)[0],
            warm=resolution.plan in self._sessions or self._find_wider(model, resolution.plan) is not None,
            model=model.info.name,
            version=model.info.version,
            operations=resolution.operations * _computed_images(model, request.image_count),
            looks_across_images=bool(resolution.across),
            skipped=resolution.skipped,
        )

    def check(self, model: LoadedModel, taps: tuple[Tap | str, ...]) -> Resolution:
        """Resolve taps for an input of pictures; raise the errors of `preview`."""
        input_ = PlanInput(pictures=True, size=model.preprocessing.output_size)
        with current_request().stage("plan"):
            return model.planner.resolve(taps, input_)

    def inspect(self, model: LoadedModel, request: InspectRequest) -> tuple[LayerStatistics, ...]:
        """Return the statistics of layers over all images of the request; raise the errors of `extract`."""
        prepared = self._prepare(
            request.images, model, lambda input_, count: self._resolve_inspection(request, model, input_, count)
        )
        batch, inspection = prepared.batch(), prepared.resolved
        with current_request().stage("plan"):
            opened = self._sessions.get(inspection, lambda: self._compile_inspection(model, inspection))
        others = collect_other_inputs(request.inputs, opened.compiled.other_inputs, model.graph, len(batch))
        step = _step(model, inspection, len(batch))
        arrays = self._run(opened, batch, others, step, model.graph.fixed_batch)
        types = model.planner.graph_for(inspection.input).types
        outputs = [arrays[name] for name in opened.compiled.output_names]
        return tuple(
            summarize(layer, *outputs[2 * index : 2 * index + 2], has_channels=types[layer].layout is not Layout.OTHER)
            for index, layer in enumerate(inspection.layers)
        )

    def try_out(self, model: LoadedModel) -> None:
        """Open a session that computes all outputs of the model, and close it.

        Raises:
            TryOutError: onnxruntime rejects the model.
        """
        outputs = [info.name for info in model.graph.outputs if info.name in model.graph.types]
        if not outputs:
            return
        graph = model.planner.graph_for(PlanInput(pictures=False, size=model.preprocessing.output_size))
        try:
            compiled = compile_plan(graph, [(name, ()) for name in outputs], front=None, image_size=None)
            self._runtime.open(compiled.model, graph.weights_folder)
        except SessionError as error:
            raise TryOutError(f"onnxruntime rejects the model: {str(error).splitlines()[0]}") from error

    def warm_up(self, model: LoadedModel) -> None:
        """Prepare a model for traffic: open it, learn how it mixes images, and extract its default taps once.

        Raises:
            TryOutError: onnxruntime rejects the model, or a run of the default taps fails.
        """
        if self._runtime.device != "CPU":  # the shape probe has opened it on the CPU already
            self.try_out(model)
        report_batching(model)
        size = model.preprocessing.output_size
        if size is None or not model.info.default_taps:
            return
        picture = PixelImage(np.zeros((*size, COLOR), np.uint8))
        try:
            self.extract(model, ExtractRequest(model.info.name, (picture,)))
        except InvalidRequestError as error:
            if "why" in error.metadata:
                raise TryOutError(f"a run of its default taps failed: {error.metadata['why']}") from error
            log.info("model %s: the warm-up request was skipped: %s", model.info.name, error.message)

    def _prepare(
        self, images_: Sequence[ImagePayload], model: LoadedModel, resolve: Callable[[PlanInput, int], Resolved]
    ) -> _Prepared[Resolved]:
        """Check the images and call ``resolve`` with their kind and size, and their count.

        Pictures are decoded here only if the plan depends on their size.
        """

        def planned(input_: PlanInput, count: int) -> Resolved:
            with current_request().stage("plan"):
                return resolve(input_, count)

        if not images_:
            raise NoImagesError("the request has no images", field="images")
        if len(images_) > self._limits.images:
            raise too_many_images(len(images_), self._limits.images)
        if is_own_input(images_):
            batch = join_own_inputs(images_, model.graph, self._limits.images)
            own = PlanInput(pictures=False, size=own_size(batch, model.graph))
            return _Prepared(planned(own, len(batch)), lambda: batch)
        if (size := model.preprocessing.output_size) is not None:
            # The image size is fixed by the model, so that invalid taps are reported before any image is decoded.
            resolved = planned(PlanInput(pictures=True, size=size), len(images_))
            return _Prepared(resolved, lambda: self._decode(images_, model))
        batch = self._decode(images_, model)
        input_ = PlanInput(pictures=True, size=(batch.shape[1], batch.shape[2]))
        return _Prepared(planned(input_, len(batch)), lambda: batch)

    def _compute(
        self, model: LoadedModel, plan: Plan, batch: Array, inputs: Mapping[str, Array]
    ) -> tuple[Outputs, int]:
        """Run the plan on the batch; return the outputs of its heads and the number of images in one run."""
        step = _step(model, plan, len(batch))
        with current_request().stage("plan"):
            opened = self._open_plan(model, plan)
        others = collect_other_inputs(inputs, opened.compiled.other_inputs, model.graph, len(batch))
        if len(batch) <= step and _may_join(plan, opened, model):
            limits = BatchLimits(model.max_batch, model.max_delay_seconds)
            run = partial(_run_part, opened, others=others, fixed_batch=None)
            arrays, ran_with = self._batcher.run(opened.batch_key, batch, run, limits)
            self._check_sizes(arrays)
        else:
            arrays, ran_with = self._run(opened, batch, others, step, model.graph.fixed_batch), min(step, len(batch))
        return opened.outputs(arrays), ran_with

    def _resolve(self, request: ExtractRequest, model: LoadedModel, input_: PlanInput, count: int) -> Resolution:
        """Resolve the request's taps for ``count`` images and check the result against the limits."""
        resolution = model.planner.resolve(request.taps, input_)
        _check_together(resolution, count)
        sizes = {result.name: result.tensor.bytes_for(count) or 0 for result in resolution.results}
        self._limits.check_response(sizes)
        self._limits.check_computed(resolution.computed_bytes * count)
        self._limits.check_operations(resolution.operations * _computed_images(model, count), resolution.dearest)
        return resolution

    def _resolve_inspection(
        self, request: InspectRequest, model: LoadedModel, input_: PlanInput, count: int
    ) -> Inspection:
        """Resolve the request's selectors for ``count`` images and check the cost against the limits."""
        inspection = model.planner.inspection(request.selectors, input_)
        total = inspection.operations * _computed_images(model, count)
        self._limits.check_operations(total, f"the statistics of {len(inspection.layers)} layers, and what they need")
        return inspection

    def _decode(self, images_: Sequence[ImagePayload], model: LoadedModel) -> Array:
        """Decode the pictures into one uint8 batch, N×H×W×C, and record the time as the stage "decode"."""
        with current_request().stage("decode"):
            return self._decode_batch(images_, model)

    def _decode_batch(self, images_: Sequence[ImagePayload], model: LoadedModel) -> Array:
        """Decode the pictures into one uint8 batch, N×H×W×C.

        Raises:
            BadTensorError: the model's input has another number of channels, or the pictures differ in size.
            ImageDecodeError, ImageTooLargeError: a picture cannot be decoded.
            CancelledError: the request was cancelled.
        """
        wanted, given = model.graph.image_channels, model.preprocessing.channels
        if wanted not in {-1, given}:
            message = f"the model takes {wanted} channels and a picture has {given}; send float arrays of its own input"
            raise BadTensorError(message, field="images[0]", expected=str(wanted), got=str(given))

        job = cancellation.current()  # the threads of the decode pool have no current job

        def prepare(index: int) -> Array:
            job.check()
            return images.prepare(images_[index], model.preprocessing, index, self._limits.image_pixels)

        indexes = range(len(images_))
        pictures = [prepare(0)] if len(indexes) == 1 else list(self._decode_pool.map(prepare, indexes))
        for index, picture in enumerate(pictures):
            if picture.shape != pictures[0].shape:
                first, other = pictures[0].shape, picture.shape
                message = (
                    f"images[{index}] has {other[1]}×{other[0]} pixels and images[0] {first[1]}×{first[0]}; this model "
                    "has no fixed image size, so all images of one request must have the same size"
                )
                raise BadTensorError(message, field=f"images[{index}]", index=index)
        return pictures[0][None] if len(pictures) == 1 else np.stack(pictures)

    def _run(
        self, opened: OpenPlan, batch: Array, others: OtherInputs, step: int, fixed_batch: int | None
    ) -> dict[str, Array]:
        """Run the plan on the batch in parts of ``step`` images and return the outputs by name."""
        starts = range(0, len(batch), step)
        parts = []
        for start in starts:
            part, inputs = batch[start : start + step], others.part(start, step)
            run = partial(_run_part, opened, others=inputs, fixed_batch=fixed_batch)
            # A unique key keeps the part from being joined with others; the batcher still limits concurrent runs.
            parts.append(self._batcher.run(object(), part, run, BatchLimits(len(part)))[0])
        arrays = parts[0]
        if len(parts) > 1:
            arrays = {name: _join_parts(name, [part[name] for part in parts]) for name in arrays}
        self._check_sizes(arrays)
        return arrays

    def _check_sizes(self, arrays: Mapping[str, Array]) -> None:
        """Check the actual response size, since sizes that depend on the data are missing in the estimate."""
        self._limits.check_response({name: array.nbytes for name, array in arrays.items()})

    def _open_plan(self, model: LoadedModel, plan: Plan) -> OpenPlan:
        """Return the session for a plan: its own, that of a wider plan of similar cost, or one compiled now."""
        if plan not in self._sessions and (wider := self._find_wider(model, plan)):
            self._sessions.count_reuse(wider[0])
            return wider[1].narrow([wider[0].heads.index(head) for head in plan.heads])
        return self._sessions.get(plan, lambda: self._compile(model, plan))

    def _find_wider(self, model: LoadedModel, plan: Plan) -> tuple[Plan, OpenPlan] | None:
        """Return a compiled plan that computes all heads of ``plan`` at similar cost; None if there is none."""
        most, most_nodes = (MOST_EXTRA * count for count in model.planner.cost(plan))
        for wider, opened in self._sessions.find_sharing(plan):
            # A wider plan that takes further model inputs is skipped: the request need not have given them.
            if (
                not isinstance(wider, Plan)
                or not plan.is_part_of(wider)
                or opened.compiled.other_inputs
                or not model.planner.is_exact(wider)
            ):
                continue
            macs, nodes = model.planner.cost(wider)
            if macs <= most and nodes <= most_nodes:
                return wider, opened
        return None

    def _compile(self, model: LoadedModel, plan: Plan) -> OpenPlan:
        """Compile a plan and open a session for it."""
        graph = model.planner.graph_for(plan.input)
        front, size = _front(model, plan.input)
        return self._open(model, graph, compile_plan(graph, plan.heads, front=front, image_size=size))

    def _compile_inspection(self, model: LoadedModel, inspection: Inspection) -> OpenPlan:
        """Compile the computation of statistics and open a session for it."""
        graph = model.planner.graph_for(inspection.input)
        front, size = _front(model, inspection.input)
        return self._open(model, graph, compile_inspection(graph, inspection.layers, front=front, image_size=size))

    def _open(self, model: LoadedModel, graph: ModelGraph, compiled: CompiledPlan) -> OpenPlan:
        """Open a session for a compiled plan.

        Raises:
            ShapeMismatchError: onnxruntime rejects the plan for images of this size.
            ModelFailedError: onnxruntime rejects the plan of a model whose image size is fixed.
        """
        try:
            size = session_bytes(compiled)
            session = self._runtime.open(
                compiled.model,
                graph.weights_folder,
                # With a delay, concurrent requests run as one batch on all cores, so that a copy has no use.
                may_copy=lambda: not model.max_delay_seconds and self._sessions.has_room(size),
            )
            return OpenPlan(session, compiled)
        except SessionError as error:
            why = str(error).splitlines()[0]
            message = f"onnxruntime rejects these layers: {why}"
            if model.graph.image_size is None:  # the model was opened at loading, so the image size is the cause
                raise ShapeMismatchError(f"{message}; send images of another size", why=why) from error
            raise ModelFailedError(message, model=model.info.name, why=why) from error


def assumed_preprocessing(model: LoadedModel, images_: Sequence[ImagePayload]) -> str:
    """Return the ``model.yaml`` line that would state the preprocessing assumed for these images.

    The line is empty if ``model.yaml`` states the preprocessing, or the images are arrays of the model's own input.
    """
    if not model.preprocessing.assumed or is_own_input(images_):
        return ""
    return model.preprocessing.settling_line()


def _front(model: LoadedModel, input_: PlanInput) -> tuple[Normalization | None, tuple[int, int] | None]:
    """Return the normalization of the image preamble (None for the model's own input) and the image size."""
    return (model.preprocessing.normalization if input_.pictures else None), input_.size


def _preview_result(result: Result, images_: int) -> PreviewedFeature:
    """Return the name, dtype, shape and bytes of a result for this number of images; unknown sizes are -1."""
    sizes = [size if isinstance(size, int) else -1 for size in result.tensor.shape]
    size = result.tensor.bytes_for(images_) or 0
    return PreviewedFeature(result.name, result.layer, result.tensor.dtype, (images_, *sizes[1:]), size)


def _computed_images(model: LoadedModel, count: int) -> int:
    """Return the number of images that are computed for ``count`` images; a fixed batch size is padded."""
    fixed = model.graph.fixed_batch or 1
    return -(-count // fixed) * fixed


def _check_together(resolution: Resolution, count: int) -> None:
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


def _step(model: LoadedModel, plan: Plan | Inspection, count: int) -> int:
    """Return the number of images per run for a request of ``count`` images.

    Raises:
        InvalidRequestError: the images must run together, and the model's fixed batch size differs from their count.
        TooManyImagesError: the model computes across its images, and the count exceeds the model's maximum batch.
    """
    if plan.batching is Batching.ONE_IMAGE:
        return 1
    if plan.batching is Batching.JOINED:
        return model.max_batch
    fixed = model.graph.fixed_batch
    if fixed is not None and fixed != count:
        message = (
            f"expected {fixed} images, got {count}: the model has a fixed batch of {fixed}, and blocks or layers of "
            "this request compute across all images of one run"
        )
        raise InvalidRequestError(message, images=count, expected=fixed)
    mixing = _mixing(model, plan)
    if count > model.max_batch and mixing.mixing is Mixing.REQUEST:
        message = (
            f"the images of one request run together for these layers ({mixing.why}), and the model runs at most "
            f"{model.max_batch} at once; send at most {model.max_batch}, or raise batching.max_batch in model.yaml"
        )
        raise TooManyImagesError(message, field="images", images=count, limit=model.max_batch, why=mixing.why)
    return count


def _mixing(model: LoadedModel, plan: Plan | Inspection) -> Verdict:
    """Return how the layers of the plan mix the images of a run."""
    layers = plan.layers if isinstance(plan, Inspection) else [layer for layer, _ in plan.heads]
    return model.planner.mixing(layers, plan.input)


def _may_join(plan: Plan, opened: OpenPlan, model: LoadedModel) -> bool:
    """Return whether the plan's images may run with those of other requests without changing any result."""
    fixed = model.graph.fixed_batch is not None
    return not fixed and plan.batching is Batching.JOINED and not opened.compiled.other_inputs


def _join_parts(name: str, parts: Sequence[Array]) -> Array:
    """Concatenate the arrays of one output over several runs.

    Raises:
        ShapeMismatchError: the shapes after the batch axis differ.
    """
    if len({part.shape[1:] for part in parts}) > 1:
        sizes = " and ".join(sorted({str(list(part.shape[1:])) for part in parts}))
        message = f"{name} differs in shape between images ({sizes}) and cannot be one array; send them one by one"
        raise ShapeMismatchError(message, got=sizes)
    return np.concatenate(parts)


def _run_part(opened: OpenPlan, part: Array, others: OtherInputs, fixed_batch: int | None) -> dict[str, Array]:
    """Run the plan on some images; pad to a fixed batch with copies of the last image, and drop their outputs.

    Raises:
        InvalidRequestError: onnxruntime fails on this input.
    """
    missing = max((fixed_batch or 0) - len(part), 0)
    try:
        arrays = opened.run(pad_batch(part, missing), others.pad(missing))
    except SessionError as error:
        why = str(error).splitlines()[0]
        raise InvalidRequestError(f"onnxruntime cannot run these layers on this input: {why}", why=why) from error
    current_request().runs.append(len(part))
    return {name: array[: len(part)] for name, array in arrays.items()} if missing else arrays


def _build_feature_maps(resolution: Resolution, outputs: Outputs) -> tuple[FeatureMap, ...]:
    return tuple(
        FeatureMap(
            name=result.name,
            array=outputs[result.head_index].array,
            layer=result.layer,
            layout=result.tensor.layout,
            tap_index=result.tap_index,
            inexact=result.layer in resolution.inexact,
            quantization=outputs[result.head_index].quantization,
        )
        for result in resolution.results
    )


def _build_timing(queue_ms: float, start: float, decoded: float, end: float) -> Timing:
    decode_ms, compute_ms = (decoded - start) * 1000, (end - decoded) * 1000
    return Timing(queue_ms, decode_ms, compute_ms, queue_ms + decode_ms + compute_ms)
