"""Tensors that a request gives as a model's own inputs, images or others, checked against the graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from layertap._nearest import did_you_mean, nearest
from layertap.errors import BadTensorError, InvalidRequestError, TooManyImagesError
from layertap.types import Array, EncodedImage, ImagePayload, PixelImage, TensorInfo
from layertap_server.graph import ModelGraph, spatial_axes


@dataclass(frozen=True, slots=True)
class OtherInputs:
    """The values; those of a batch have one for each image, the others are for all."""

    batched: Mapping[str, Array]
    shared: Mapping[str, Array]

    def part(self, start: int, count: int) -> OtherInputs:
        """Those of some of the images."""
        return OtherInputs({name: array[start : start + count] for name, array in self.batched.items()}, self.shared)

    def filled(self, missing: int) -> dict[str, Array]:
        """All by name; the last of each batch stands for so many that are missing."""
        return {**{name: filled(array, missing) for name, array in self.batched.items()}, **self.shared}


def filled(array: Array, missing: int) -> Array:
    """The array with its last row so many times more."""
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing else array


def other_inputs(given: Mapping[str, Array], needed: Collection[str], graph: ModelGraph, images: int) -> OtherInputs:
    """The request's values for the inputs that a plan needs; what it does not need is not looked at further.

    Raises:
        InvalidRequestError: a value for what is no such input, or none for one that is needed.
        BadTensorError: a value of another shape or type than the input has.
    """
    infos = {info.name: info for info in graph.inputs if info.name != graph.image_input.name}
    for name in given:
        if name not in infos:
            hint = did_you_mean(nearest(name, infos))
            message = f"the model has no input {name!r} beside its images{hint}; it has {', '.join(infos) or 'none'}"
            raise InvalidRequestError(message, field="inputs", input=name)
    batched: dict[str, Array] = {}
    shared: dict[str, Array] = {}
    for name in needed:
        if name not in given:
            told = _told(infos[name])
            message = f"these layers need the model's input {name} too ({told}); give it in inputs"
            raise InvalidRequestError(message, field="inputs", input=name, expected=told)
        array, is_batch = _checked(given[name], infos[name], graph, images)
        (batched if is_batch else shared)[name] = array
    return OtherInputs(batched, shared)


def _checked(array: Array, info: TensorInfo, graph: ModelGraph, images: int) -> tuple[Array, bool]:
    """The value as the graph takes it, and whether it has one row an image."""
    types = graph.types
    is_batch = bool(info.shape) and types[info.name].shape[0] == types[graph.image_input.name].shape[0]
    if is_batch and array.ndim == len(info.shape) - 1:
        array = array[None]
    if is_batch and array.shape == tuple(info.shape) and len(array) != images:
        is_batch = False  # as the graph says, of a model whose batch is fixed
    if is_batch and array.ndim and len(array) == 1:
        array = np.repeat(array, images, axis=0)
    expected = (images, *info.shape[1:]) if is_batch else info.shape
    fits = array.ndim == len(expected) and all(
        size in {-1, got} for size, got in zip(expected, array.shape, strict=False)
    )
    if not fits or not np.can_cast(array.dtype, info.dtype, "same_kind"):
        message = f"the input {info.name} is {_told(info)}, not {array.dtype} {list(array.shape)}"
        raise BadTensorError(
            f"{message}; the request has {images} images", field="inputs", input=info.name, expected=_told(info)
        )
    return array.astype(info.dtype, copy=False), is_batch


def _told(info: TensorInfo) -> str:
    """``float32 [any, 8]``"""
    return f"{info.dtype} [{', '.join('any' if size < 0 else str(size) for size in info.shape)}]"


def is_own_input(images_: Sequence[ImagePayload]) -> bool:
    """Whether the images are float arrays of the model's own input; all of them or none are."""
    own = [isinstance(image, PixelImage) and image.array.dtype.kind == "f" for image in images_]
    if any(own) and not all(own):
        field = f"images[{own.index(not own[0])}]"
        message = f"{field} is another kind than images[0]: pictures and float arrays do not go into one request"
        raise BadTensorError(message, field=field)
    return own[0]


def own_input(images_: Sequence[ImagePayload], graph: ModelGraph, limit: int) -> Array:
    """The float arrays as one batch in the model's own layout and dtype.

    Raises:
        TooManyImagesError, BadTensorError: there are more than ``limit``, or one does not fit.
    """
    rows = [_with_batch(image, index, graph) for index, image in enumerate(images_)]
    count = sum(len(row) for row in rows)
    if count > limit:
        raise too_many_images(count, limit)
    return rows[0] if len(rows) == 1 else np.concatenate(rows)


def own_size(batch: Array, graph: ModelGraph) -> tuple[int, int]:
    """Height and width of the images of such a batch."""
    height, width = spatial_axes(graph.image_input.layout)
    return batch.shape[height], batch.shape[width]


def _with_batch(image: PixelImage | EncodedImage, index: int, graph: ModelGraph) -> Array:
    if isinstance(image, EncodedImage):
        raise TypeError("a picture is no float array")
    expected = graph.image_input
    array = image.array if image.array.ndim == len(expected.shape) else image.array[None]
    fits = array.ndim == len(expected.shape) and all(
        wanted in {-1, got} for wanted, got in zip(expected.shape[1:], array.shape[1:], strict=True)
    )
    if not fits or 0 in array.shape:
        sizes = ["any" if size < 0 else str(size) for size in expected.shape[1:]]
        shape, got = f"[N, {', '.join(sizes)}]", str(list(image.array.shape))
        message = f"images[{index}]: the model's input {expected.name!r} is {shape}, not {got}"
        raise BadTensorError(message, field=f"images[{index}]", index=index, expected=shape, got=got)
    if np.dtype(expected.dtype).kind in "iu" and not _holds(array, expected.dtype):
        message = f"images[{index}]: the model's input is {expected.dtype}, which does not hold the values"
        raise BadTensorError(message, field=f"images[{index}]", index=index, expected=expected.dtype)
    return array.astype(expected.dtype, copy=False)


def _holds(array: Array, dtype: str) -> bool:
    limits = np.iinfo(dtype)
    return bool(((array >= limits.min) & (array <= limits.max) & (array == np.floor(array))).all())


def too_many_images(count: int, limit: int) -> TooManyImagesError:
    message = f"the request has {count} images and the limit is {limit}; send them in several requests"
    return TooManyImagesError(message, field="images", images=count, limit=limit)
