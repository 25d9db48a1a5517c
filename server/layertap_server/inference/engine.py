"""One request from taps to results: resolve, check the price, decode, run, name."""

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
    FeatureMap,
    Features,
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
    filled,
    is_own_input,
    other_inputs,
    own_input,
    own_size,
    too_many_images,
)
from layertap_server.inference.statistics import summarized
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
"""Bytes of a preview's results that its message cannot hold."""
MOST_EXTRA = 1.1
"""A compiled plan that computes more than was asked serves if it costs at most so many times as much."""


@dataclass(frozen=True, slots=True)
class _Prepared(Generic[Resolved]):
    """A request's images, and what it asks of them."""

    resolved: Resolved
    batch: Callable[[], Array]
    """The images as the plan takes them; pictures are decoded when it is called."""


class Engine:
    """Answers requests; any number of threads may ask at once."""

    def __init__(
        self,
        runtime: Runtime,
        sessions: SessionCache,
        limits: Limits,
        decode_pool: ThreadPoolExecutor,
        batcher: Batcher,
        responses: ResponseCache,
    ) -> None:
        self._runtime = runtime
        self._sessions = sessions
        self._limits = limits
        self._decode_pool = decode_pool
        self._batcher = batcher
        self._responses = responses

    def extract(self, model: LoadedModel, request: ExtractRequest, queue_ms: float = 0.0) -> Features:
        """The features of the request's images, all or nothing.

        Args:
            model: the one that the request names.
            request: the images are all pictures (encoded, uint8) or all float arrays of the model's own input.
            queue_ms: how long the request waited before; goes into the answer's timing.

        Raises:
            LayertapError: of every kind that a caller can cause.
        """
        with self._runtime.contention.request():
            return self._extracted(model, request, queue_ms)

    def _extracted(self, model: LoadedModel, request: ExtractRequest, queue_ms: float) -> Features:
        start = time.perf_counter()
        prepared = self._prepared(
            request.images, model, lambda input_, count: self._resolve(request, model, input_, count)
        )
        plan = prepared.resolved.plan
        key = self._responses.key(plan, request.images, request.inputs)
        outputs, ran_with, decoded = self._responses.get(key), 0, time.perf_counter()
        if outputs is None:
            batch = prepared.batch()
            decoded = time.perf_counter()
            outputs, ran_with = self._computed(model, plan, batch, request.inputs)
            self._responses.put(key, outputs)
        end = time.perf_counter()
        return Features(
            maps=_feature_maps(prepared.resolved, outputs),
            model=model.info.name,
            version=model.info.version,
            timing=_timing(queue_ms, start, decoded, end),
            batch_size=ran_with,
            assumed_preprocessing=assumed_preprocessing(model, request.images),
            skipped=prepared.resolved.skipped,
        )

    def preview(self, model: LoadedModel, request: PreviewRequest) -> Preview:
        """What a request for these taps would give and cost; runs nothing.

        Raises:
            LayertapError: what is wrong with the taps.
        """
        if request.image_count < 1:
            raise InvalidRequestError("image_count is at least 1", field="image_count")
        resolution = self.check(model, request.taps)
        features = tuple(_previewed(result, request.image_count) for result in resolution.results)
        if sum(feature.bytes for feature in features) >= MOST_BYTES:
            message = f"{request.image_count} images have results of more than {MOST_BYTES} bytes; ask for fewer"
            raise InvalidRequestError(message, field="image_count")
        return Preview(
            features=features,
            total_bytes=sum(feature.bytes for feature in features),
            macs_per_image=model.planner.cost(resolution.plan)[0],
            warm=resolution.plan in self._sessions or self._wider(model, resolution.plan) is not None,
            model=model.info.name,
            version=model.info.version,
            operations=resolution.operations * _computed_images(model, request.image_count),
            looks_across_images=bool(resolution.across),
            skipped=resolution.skipped,
        )

    def check(self, model: LoadedModel, taps: tuple[Tap | str, ...]) -> Resolution:
        """What the taps ask for of pictures; errors as of `preview`."""
        input_ = PlanInput(pictures=True, size=model.preprocessing.output_size)
        with current_request().stage("plan"):
            return model.planner.resolve(taps, input_)

    def inspect(self, model: LoadedModel, request: InspectRequest) -> tuple[LayerStatistics, ...]:
        """The statistics of layers over the request's images; errors as of `extract`."""
        prepared = self._prepared(
            request.images, model, lambda input_, count: self._inspection(request, model, input_, count)
        )
        batch, inspection = prepared.batch(), prepared.resolved
        with current_request().stage("plan"):
            opened = self._sessions.get(inspection, lambda: self._compile_inspection(model, inspection))
        others = other_inputs(request.inputs, opened.compiled.other_inputs, model.graph, len(batch))
        step = _step(model, inspection, len(batch))
        arrays = self._run(opened, batch, others, step, model.graph.fixed_batch)
        types = model.planner.graph_for(inspection.input).types
        outputs = [arrays[name] for name in opened.compiled.output_names]
        return tuple(
            summarized(layer, *outputs[2 * index : 2 * index + 2], has_channels=types[layer].layout is not Layout.OTHER)
            for index, layer in enumerate(inspection.layers)
        )

    def try_out(self, model: LoadedModel) -> None:
        """Opens a session of the whole model.

        Raises:
            TryOutError: onnxruntime does not take it.
        """
        outputs = [info.name for info in model.graph.outputs if info.name in model.graph.types]
        if not outputs:
            return
        graph = model.planner.graph_for(PlanInput(pictures=False, size=model.preprocessing.output_size))
        try:
            compiled = compile_plan(graph, [(name, ()) for name in outputs], front=None, image_size=None)
            self._runtime.open(compiled.model, graph.weights_folder)
        except SessionError as error:
            raise TryOutError(f"onnxruntime does not take it: {str(error).splitlines()[0]}") from error

    def warm_up(self, model: LoadedModel) -> None:
        """Opens the model, and answers its default taps once, so that its first caller waits for nothing.

        Raises:
            TryOutError: onnxruntime does not take it, or it fails when it runs.
        """
        if self._runtime.device != "CPU":  # for a CPU the loader's first session was enough
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
                raise TryOutError(f"it fails when it runs: {error.metadata['why']}") from error
            log.info("model %s is not warmed: %s", model.info.name, error.message)

    def _prepared(
        self, images_: Sequence[ImagePayload], model: LoadedModel, resolve: Callable[[PlanInput, int], Resolved]
    ) -> _Prepared[Resolved]:
        """The images, and what ``resolve`` makes of their kind, size and count."""

        def planned(input_: PlanInput, count: int) -> Resolved:
            with current_request().stage("plan"):
                return resolve(input_, count)

        if not images_:
            raise NoImagesError("the request has no images", field="images")
        if len(images_) > self._limits.images:
            raise too_many_images(len(images_), self._limits.images)
        if is_own_input(images_):
            batch = own_input(images_, model.graph, self._limits.images)
            own = PlanInput(pictures=False, size=own_size(batch, model.graph))
            return _Prepared(planned(own, len(batch)), lambda: batch)
        if (size := model.preprocessing.output_size) is not None:
            # The model says how large its images are, so what is wrong with the taps is told before any decoding.
            resolved = planned(PlanInput(pictures=True, size=size), len(images_))
            return _Prepared(resolved, lambda: self._decode(images_, model))
        batch = self._decode(images_, model)
        input_ = PlanInput(pictures=True, size=(batch.shape[1], batch.shape[2]))
        return _Prepared(planned(input_, len(batch)), lambda: batch)

    def _computed(
        self, model: LoadedModel, plan: Plan, batch: Array, inputs: Mapping[str, Array]
    ) -> tuple[Outputs, int]:
        """What the plan's heads give for the batch, and how many images ran together."""
        step = _step(model, plan, len(batch))
        with current_request().stage("plan"):
            opened = self._opened(model, plan)
        others = other_inputs(inputs, opened.compiled.other_inputs, model.graph, len(batch))
        if len(batch) <= step and _may_join(plan, opened, model):
            limits = BatchLimits(model.max_batch, model.max_delay_seconds)
            run = partial(_run_part, opened, others=others, fixed_batch=None)
            arrays, ran_with = self._batcher.run(opened.batch_key, batch, run, limits)
            self._check_sizes(arrays)
        else:
            arrays, ran_with = self._run(opened, batch, others, step, model.graph.fixed_batch), min(step, len(batch))
        return opened.outputs(arrays), ran_with

    def _resolve(self, request: ExtractRequest, model: LoadedModel, input_: PlanInput, count: int) -> Resolution:
        resolution = model.planner.resolve(request.taps, input_)
        _check_together(resolution, count)
        sizes = {result.name: result.tensor.bytes_for(count) or 0 for result in resolution.results}
        self._limits.check_response(sizes)
        self._limits.check_computed(resolution.computed_bytes * count)
        self._limits.check_operations(resolution.operations * _computed_images(model, count), resolution.dearest)
        return resolution

    def _inspection(self, request: InspectRequest, model: LoadedModel, input_: PlanInput, count: int) -> Inspection:
        inspection = model.planner.inspection(request.selectors, input_)
        total = inspection.operations * _computed_images(model, count)
        self._limits.check_operations(total, f"the statistics of {len(inspection.layers)} layers, and what they need")
        return inspection

    def _decode(self, images_: Sequence[ImagePayload], model: LoadedModel) -> Array:
        """The pictures as one uint8 batch, N×H×W×C."""
        with current_request().stage("decode"):
            return self._decoded(images_, model)

    def _decoded(self, images_: Sequence[ImagePayload], model: LoadedModel) -> Array:
        wanted, given = model.graph.image_channels, model.preprocessing.channels
        if wanted not in {-1, given}:
            message = f"the model takes {wanted} channels and a picture has {given}; send its own input, as floats"
            raise BadTensorError(message, field="images[0]", expected=str(wanted), got=str(given))

        job = cancellation.current()  # of this thread; the pool's have none

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
                    "has no fixed size, so the images of one request must be of one size"
                )
                raise BadTensorError(message, field=f"images[{index}]", index=index)
        return pictures[0][None] if len(pictures) == 1 else np.stack(pictures)

    def _run(
        self, opened: OpenPlan, batch: Array, others: OtherInputs, step: int, fixed_batch: int | None
    ) -> dict[str, Array]:
        """The plan's outputs for the batch, ``step`` images at once."""
        starts = range(0, len(batch), step)
        parts = []
        for start in starts:
            part, inputs = batch[start : start + step], others.part(start, step)
            run = partial(_run_part, opened, others=inputs, fixed_batch=fixed_batch)
            # By itself, but in the queue with all others: so many runs are in flight and no more.
            parts.append(self._batcher.run(object(), part, run, BatchLimits(len(part)))[0])
        arrays = parts[0]
        if len(parts) > 1:
            arrays = {name: _joined(name, [part[name] for part in parts]) for name in arrays}
        self._check_sizes(arrays)
        return arrays

    def _check_sizes(self, arrays: Mapping[str, Array]) -> None:
        """Sizes that only running tells were not in the estimate."""
        self._limits.check_response({name: array.nbytes for name, array in arrays.items()})

    def _opened(self, model: LoadedModel, plan: Plan) -> OpenPlan:
        """The plan's session, or that of a wider plan which costs about the same and is there already."""
        if plan not in self._sessions and (wider := self._wider(model, plan)):
            self._sessions.used(wider[0])
            return wider[1].narrowed([wider[0].heads.index(head) for head in plan.heads])
        return self._sessions.get(plan, lambda: self._compile(model, plan))

    def _wider(self, model: LoadedModel, plan: Plan) -> tuple[Plan, OpenPlan] | None:
        most, most_nodes = (MOST_EXTRA * count for count in model.planner.cost(plan))
        for wider, opened in self._sessions.sharing(plan):
            # A plan that needs more of the model's inputs than were given cannot serve.
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
        graph = model.planner.graph_for(plan.input)
        front, size = _front(model, plan.input)
        return self._open(model, graph, compile_plan(graph, plan.heads, front=front, image_size=size))

    def _compile_inspection(self, model: LoadedModel, inspection: Inspection) -> OpenPlan:
        graph = model.planner.graph_for(inspection.input)
        front, size = _front(model, inspection.input)
        return self._open(model, graph, compile_inspection(graph, inspection.layers, front=front, image_size=size))

    def _open(self, model: LoadedModel, graph: ModelGraph, compiled: CompiledPlan) -> OpenPlan:
        try:
            size = session_bytes(compiled)
            session = self._runtime.open(
                compiled.model,
                graph.weights_folder,
                # What waits for others runs as one batch with them, and on all cores.
                may_copy=lambda: not model.max_delay_seconds and self._sessions.has_room(size),
            )
            return OpenPlan(session, compiled)
        except SessionError as error:
            why = str(error).splitlines()[0]
            message = f"onnxruntime does not take these layers: {why}"
            if model.graph.image_size is None:  # it took the model when it was loaded, so it is the images' size
                raise ShapeMismatchError(f"{message}; send images of another size", why=why) from error
            raise ModelFailedError(message, model=model.info.name, why=why) from error


def assumed_preprocessing(model: LoadedModel, images_: Sequence[ImagePayload]) -> str:
    """Return the line of ``model.yaml`` that would settle how these images are preprocessed; empty if it is known."""
    if not model.preprocessing.assumed or is_own_input(images_):
        return ""
    return model.preprocessing.settling_line()


def _front(model: LoadedModel, input_: PlanInput) -> tuple[Normalization | None, tuple[int, int] | None]:
    return (model.preprocessing.normalization if input_.pictures else None), input_.size


def _previewed(result: Result, images_: int) -> PreviewedFeature:
    sizes = [size if isinstance(size, int) else -1 for size in result.tensor.shape]
    size = result.tensor.bytes_for(images_) or 0
    return PreviewedFeature(result.name, result.layer, result.tensor.dtype, (images_, *sizes[1:]), size)


def _computed_images(model: LoadedModel, count: int) -> int:
    """Return how many images are computed: a batch of a fixed size is filled up."""
    fixed = model.graph.fixed_batch or 1
    return -(-count // fixed) * fixed


def _check_together(resolution: Resolution, count: int) -> None:
    """Check blocks that take their statistics from all images of the request.

    Raises:
        TooFewImagesError: there is one image; each of its values would be compared with itself.
        InvalidRequestError: the model has to run its images one at a time.
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
    """Return how many images run at once.

    Raises:
        InvalidRequestError: images belong together, and the model takes another number of them.
        TooManyImagesError: the model computes across them, and takes fewer at once.
    """
    if plan.batching is Batching.ONE_IMAGE:
        return 1
    if plan.batching is Batching.JOINED:
        return model.max_batch
    fixed = model.graph.fixed_batch
    if fixed is not None and fixed != count:
        message = (
            f"the model takes {fixed} images at a time, so what looks across images, a block or the model itself, "
            f"needs {fixed} of them"
        )
        raise InvalidRequestError(message, images=count, expected=fixed)
    mixing = _mixing(model, plan)
    if count > model.max_batch and mixing.mixing is Mixing.REQUEST:
        message = (
            f"the images of one request run together for these layers ({mixing.why}), and the model runs at most "
            f"{model.max_batch} at once; send at most so many, or raise batching.max_batch in model.yaml"
        )
        raise TooManyImagesError(message, field="images", images=count, limit=model.max_batch, why=mixing.why)
    return count


def _mixing(model: LoadedModel, plan: Plan | Inspection) -> Verdict:
    layers = plan.layers if isinstance(plan, Inspection) else [layer for layer, _ in plan.heads]
    return model.planner.mixing(layers, plan.input)


def _may_join(plan: Plan, opened: OpenPlan, model: LoadedModel) -> bool:
    """Whether the plan's images may run with those of other requests: each is then answered as if it were alone."""
    fixed = model.graph.fixed_batch is not None
    return not fixed and plan.batching is Batching.JOINED and not opened.compiled.other_inputs


def _joined(name: str, parts: Sequence[Array]) -> Array:
    if len({part.shape[1:] for part in parts}) > 1:
        sizes = " and ".join(sorted({str(list(part.shape[1:])) for part in parts}))
        message = f"{name} has other sizes for some images ({sizes}) and cannot be one array; send them one by one"
        raise ShapeMismatchError(message, got=sizes)
    return np.concatenate(parts)


def _run_part(opened: OpenPlan, part: Array, others: OtherInputs, fixed_batch: int | None) -> dict[str, Array]:
    """Runs some images; where the model insists on more, the last image fills up and its copies are dropped."""
    missing = max((fixed_batch or 0) - len(part), 0)
    try:
        arrays = opened.run(filled(part, missing), others.filled(missing))
    except SessionError as error:
        why = str(error).splitlines()[0]
        raise InvalidRequestError(f"onnxruntime cannot run these layers on this input: {why}", why=why) from error
    current_request().runs.append(len(part))
    return {name: array[: len(part)] for name, array in arrays.items()} if missing else arrays


def _feature_maps(resolution: Resolution, outputs: Outputs) -> tuple[FeatureMap, ...]:
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


def _timing(queue_ms: float, start: float, decoded: float, end: float) -> Timing:
    decode_ms, compute_ms = (decoded - start) * 1000, (end - decoded) * 1000
    return Timing(queue_ms, decode_ms, compute_ms, queue_ms + decode_ms + compute_ms)
