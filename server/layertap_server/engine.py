"""One request from taps to results: resolve, check the price, decode, run, name."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from layertap.errors import (
    BadTensorError,
    InvalidRequestError,
    NoImagesError,
    ResponseTooLargeError,
    TooManyImagesError,
)
from layertap.types import Array, EncodedImage, ExtractRequest, FeatureMap, Features, PixelImage, Timing
from layertap_server import images
from layertap_server.graph import compile_plan
from layertap_server.plan import Plan, Resolution
from layertap_server.repository import LoadedModel, Repository
from layertap_server.runtime import Runtime
from layertap_server.sessions import OpenPlan, SessionCache


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may cost."""

    images: int = 64
    image_pixels: int = 64 * 2**20
    response_bytes: int = 256 * 2**20


class Engine:
    """Answers requests; any number of threads may ask at once."""

    def __init__(
        self,
        repository: Repository,
        runtime: Runtime,
        sessions: SessionCache,
        limits: Limits,
        decode_pool: ThreadPoolExecutor,
    ) -> None:
        self._repository = repository
        self._runtime = runtime
        self._sessions = sessions
        self._limits = limits
        self._decode_pool = decode_pool

    def extract(self, request: ExtractRequest, queue_ms: float = 0.0) -> Features:
        """The features of the request's images, all or nothing.

        Args:
            request: the images are all pictures (encoded, uint8) or all float arrays of the model's own input.
            queue_ms: how long the request waited before; goes into the answer's timing.

        Raises:
            LayertapError: of every kind that a caller can cause.
        """
        start = time.perf_counter()
        model = self._repository.get(request.model, request.version)
        self._check_count(request)
        if _is_own_input(request):
            batch = _own_input(request, model, self._limits.images)
            resolution = self._resolve(request, model, None, len(batch))
        else:
            # Where the model says how large its images are, what is wrong with the taps is told before any decoding.
            size = model.preprocessing.output_size
            if size is not None:
                self._resolve(request, model, size, len(request.images))
            batch = self._decode(request, model)
            resolution = self._resolve(request, model, batch.shape[1:3], len(batch))
        decoded = time.perf_counter()
        arrays = self._run(model, resolution.plan, batch)
        end = time.perf_counter()
        return Features(
            maps=_feature_maps(resolution, arrays),
            model=model.info.name,
            version=model.info.version,
            timing=_timing(queue_ms, start, decoded, end),
            batch_size=len(batch),
        )

    def _check_count(self, request: ExtractRequest) -> None:
        if not request.images:
            raise NoImagesError("the request has no images", field="images")
        if len(request.images) > self._limits.images:
            raise _too_many(len(request.images), self._limits.images)

    def _resolve(
        self, request: ExtractRequest, model: LoadedModel, image_size: tuple[int, ...] | None, count: int
    ) -> Resolution:
        size = (image_size[0], image_size[1]) if image_size else None
        resolution = model.planner.resolve(request.taps, size)
        sizes = {result.name: result.bytes_for(count) or 0 for result in resolution.results}
        total, limit = sum(sizes.values()), self._limits.response_bytes
        if total > limit:
            largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
            message = f"the answer would have {total} bytes and the limit is {limit}; pool the layers or send less"
            raise ResponseTooLargeError(message, bytes=total, limit=limit, largest=largest)
        return resolution

    def _decode(self, request: ExtractRequest, model: LoadedModel) -> Array:
        """The pictures as one uint8 batch, N×H×W×3."""

        def prepare(index: int) -> Array:
            return images.prepare(request.images[index], model.preprocessing, index, self._limits.image_pixels)

        indexes = range(len(request.images))
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

    def _run(self, model: LoadedModel, plan: Plan, batch: Array) -> list[Array]:
        opened = self._sessions.get(plan, lambda: self._compile(model, plan))
        step = len(batch) if plan.looks_across_images else model.max_batch
        if step > model.max_batch and model.graph.fixed_batch:
            raise InvalidRequestError(
                f"the model takes {model.max_batch} images at a time, so no block can look across more of them",
                limit=model.max_batch,
            )
        starts = range(0, len(batch), step)
        parts = [_run_part(opened, batch[start : start + step], model.graph.fixed_batch) for start in starts]
        return parts[0] if len(parts) == 1 else [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]

    def _compile(self, model: LoadedModel, plan: Plan) -> OpenPlan:
        front = model.preprocessing.normalization if plan.image_size else None
        compiled = compile_plan(model.graph, plan.heads, front=front, image_size=plan.image_size)
        return OpenPlan(self._runtime.open(compiled.model, model.graph.weights_folder), compiled)


def _run_part(opened: OpenPlan, part: Array, fixed_batch: int | None) -> list[Array]:
    """Runs some images; where the model insists on more, the last image fills up and its copies are dropped."""
    missing = max((fixed_batch or 0) - len(part), 0)
    fed = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part
    arrays = opened.session.run({opened.compiled.input_name: fed}, opened.compiled.output_names)
    return [array[: len(part)] for array in arrays] if missing else arrays


def _too_many(count: int, limit: int) -> TooManyImagesError:
    message = f"the request has {count} images and the limit is {limit}; send them in several requests"
    return TooManyImagesError(message, field="images", images=count, limit=limit)


def _is_own_input(request: ExtractRequest) -> bool:
    """Whether the images are float arrays of the model's own input; all of them or none are."""
    own = [isinstance(image, PixelImage) and image.array.dtype.kind == "f" for image in request.images]
    if any(own) and not all(own):
        field = f"images[{own.index(not own[0])}]"
        message = f"{field} is another kind than images[0]: pictures and float arrays do not go into one request"
        raise BadTensorError(message, field=field)
    return own[0]


def _own_input(request: ExtractRequest, model: LoadedModel, limit: int) -> Array:
    """The float arrays as one batch in the model's own layout and dtype."""
    rows = [_with_batch(image, index, model) for index, image in enumerate(request.images)]
    count = sum(len(row) for row in rows)
    if count > limit:
        raise _too_many(count, limit)
    return rows[0] if len(rows) == 1 else np.concatenate(rows)


def _with_batch(image: PixelImage | EncodedImage, index: int, model: LoadedModel) -> Array:
    if isinstance(image, EncodedImage):
        raise TypeError("a picture is no float array")
    expected = model.graph.image_input
    array = image.array if image.array.ndim == len(expected.shape) else image.array[None]
    fits = array.ndim == len(expected.shape) and all(
        wanted in {-1, got} for wanted, got in zip(expected.shape[1:], array.shape[1:], strict=True)
    )
    if not fits or not len(array):
        sizes = ["any" if size < 0 else str(size) for size in expected.shape[1:]]
        shape, got = f"[N, {', '.join(sizes)}]", str(list(image.array.shape))
        message = f"images[{index}]: the model's input {expected.name!r} is {shape}, not {got}"
        raise BadTensorError(message, field=f"images[{index}]", index=index, expected=shape, got=got)
    return array.astype(expected.dtype, copy=False)


def _feature_maps(resolution: Resolution, arrays: Sequence[Array]) -> tuple[FeatureMap, ...]:
    return tuple(
        FeatureMap(result.name, arrays[result.head_index], result.layer, result.layout, result.tap_index)
        for result in resolution.results
    )


def _timing(queue_ms: float, start: float, decoded: float, end: float) -> Timing:
    decode_ms, compute_ms = (decoded - start) * 1000, (end - decoded) * 1000
    return Timing(queue_ms, decode_ms, compute_ms, queue_ms + decode_ms + compute_ms)
