"""Check the tensors that a request gives as a model's own inputs, images or others, against the graph."""

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
    """Values of the model's inputs other than its image input."""

    batched: Mapping[str, Array]
    """Values with one row per image, by input name."""
    shared: Mapping[str, Array]
    """Values that hold for all images, by input name."""

    def part(self, start: int, count: int) -> OtherInputs:
        """Return the values for ``count`` images from ``start`` on."""
        return OtherInputs({name: array[start : start + count] for name, array in self.batched.items()}, self.shared)

    def pad(self, missing: int) -> dict[str, Array]:
        """Return all values by name; the last row of each batched value is repeated ``missing`` times."""
        return {**{name: pad_batch(array, missing) for name, array in self.batched.items()}, **self.shared}


def pad_batch(array: Array, missing: int) -> Array:
    """Append ``missing`` copies of the last row."""
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing else array


def collect_other_inputs(
    given: Mapping[str, Array], needed: Collection[str], graph: ModelGraph, images: int
) -> OtherInputs:
    """Check and return the request's values for the inputs that a plan needs.

    Of the values for other inputs, only the names are checked.

    Args:
        given: the request's values by input name.
        needed: names of the inputs that the plan needs, other than the image input.
        graph: the model.
        images: number of images in the request.

    Raises:
        InvalidRequestError: the model has no input of a given name, or the value of a needed input is missing.
        BadTensorError: a value does not have the shape or dtype of its input.
    """
    infos = {info.name: info for info in graph.inputs if info.name != graph.image_input.name}
    for name in given:
        if name not in infos:
            hint = did_you_mean(nearest(name, infos))
            message = (
                f"the model has no input {name!r} besides its images{hint}; its other inputs: "
                f"{', '.join(infos) or 'none'}"
            )
            raise InvalidRequestError(message, field="inputs", input=name)
    batched: dict[str, Array] = {}
    shared: dict[str, Array] = {}
    for name in needed:
        if name not in given:
            expected = _describe(infos[name])
            message = f"these layers also need the model's input {name} ({expected}); give it in inputs"
            raise InvalidRequestError(message, field="inputs", input=name, expected=expected)
        array, is_batch = _check_value(given[name], infos[name], graph, images)
        (batched if is_batch else shared)[name] = array
    return OtherInputs(batched, shared)


def _check_value(array: Array, info: TensorInfo, graph: ModelGraph, images: int) -> tuple[Array, bool]:
    """Return the value in the input's dtype, repeated per image if needed, and whether it has one row per image.

    Raises:
        BadTensorError: the value does not have the shape or dtype of the input.
    """
    types = graph.types
    is_batch = bool(info.shape) and types[info.name].shape[0] == types[graph.image_input.name].shape[0]
    if is_batch and array.ndim == len(info.shape) - 1:
        array = array[None]
    if is_batch and array.shape == tuple(info.shape) and len(array) != images:
        is_batch = False  # the value has the fixed batch of the graph, so that it holds for each run
    if is_batch and array.ndim and len(array) == 1:
        array = np.repeat(array, images, axis=0)
    expected = (images, *info.shape[1:]) if is_batch else info.shape
    fits = array.ndim == len(expected) and all(
        size in {-1, got} for size, got in zip(expected, array.shape, strict=False)
    )
    if not fits or not np.can_cast(array.dtype, info.dtype, "same_kind"):
        message = f"expected {_describe(info)} for the input {info.name}, got {array.dtype} {list(array.shape)}"
        raise BadTensorError(
            f"{message}; the request has {images} images", field="inputs", input=info.name, expected=_describe(info)
        )
    return array.astype(info.dtype, copy=False), is_batch


def _describe(info: TensorInfo) -> str:
    """Return the dtype and shape of an input as text, such as ``float32 [any, 8]``."""
    return f"{info.dtype} [{', '.join('any' if size < 0 else str(size) for size in info.shape)}]"


def is_own_input(images_: Sequence[ImagePayload]) -> bool:
    """Return whether the images are float arrays of the model's own input.

    Raises:
        BadTensorError: the request mixes pictures and float arrays.
    """
    own = [isinstance(image, PixelImage) and image.array.dtype.kind == "f" for image in images_]
    if any(own) and not all(own):
        field = f"images[{own.index(not own[0])}]"
        message = (
            f"{field} and images[0] differ in kind: pictures and float arrays cannot be mixed in one request; send "
            "them in separate requests"
        )
        raise BadTensorError(message, field=field)
    return own[0]


def join_own_inputs(images_: Sequence[ImagePayload], graph: ModelGraph, limit: int) -> Array:
    """Join float arrays into one batch in the layout and dtype of the model's image input.

    Raises:
        TooManyImagesError: the arrays hold more than ``limit`` images.
        BadTensorError: an array does not fit the model's image input.
    """
    rows = [_with_batch(image, index, graph) for index, image in enumerate(images_)]
    count = sum(len(row) for row in rows)
    if count > limit:
        raise too_many_images(count, limit)
    return rows[0] if len(rows) == 1 else np.concatenate(rows)


def own_size(batch: Array, graph: ModelGraph) -> tuple[int, int]:
    """Return the height and width of a batch in the layout of the model's image input."""
    height, width = spatial_axes(graph.image_input.layout)
    return batch.shape[height], batch.shape[width]


def _with_batch(image: PixelImage | EncodedImage, index: int, graph: ModelGraph) -> Array:
    """Return a float array with a batch axis, in the dtype of the model's image input.

    Raises:
        BadTensorError: the array does not have the shape of the input, or its values do not fit the dtype.
    """
    if isinstance(image, EncodedImage):
        raise TypeError(f"images[{index}]: expected a float array, got an encoded picture")
    expected = graph.image_input
    array = image.array if image.array.ndim == len(expected.shape) else image.array[None]
    fits = array.ndim == len(expected.shape) and all(
        wanted in {-1, got} for wanted, got in zip(expected.shape[1:], array.shape[1:], strict=True)
    )
    if not fits or 0 in array.shape:
        sizes = ["any" if size < 0 else str(size) for size in expected.shape[1:]]
        shape, got = f"[N, {', '.join(sizes)}]", str(list(image.array.shape))
        message = f"images[{index}]: expected {shape} for the model's input {expected.name!r}, got {got}"
        raise BadTensorError(message, field=f"images[{index}]", index=index, expected=shape, got=got)
    if np.dtype(expected.dtype).kind in "iu" and not _holds(array, expected.dtype):
        message = f"images[{index}]: expected integers in the range of {expected.dtype}, the dtype of the model's input"
        raise BadTensorError(message, field=f"images[{index}]", index=index, expected=expected.dtype)
    return array.astype(expected.dtype, copy=False)


def _holds(array: Array, dtype: str) -> bool:
    """Return whether an integer dtype represents all values exactly."""
    limits = np.iinfo(dtype)
    return bool(((array >= limits.min) & (array <= limits.max) & (array == np.floor(array))).all())


def too_many_images(count: int, limit: int) -> TooManyImagesError:
    """Return the error for a request with more images than the limit."""
    message = f"the request has {count} images and the limit is {limit}; send them in several requests"
    return TooManyImagesError(message, field="images", images=count, limit=limit)
