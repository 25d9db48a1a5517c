"""Check float arrays that a request gives for the model's own image input, and join them into one batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from layertap.errors import BadTensorError, TooManyImagesError
from layertap.types import Array, EncodedImage, ImagePayload, PixelImage
from layertap_server.graph import ModelGraph, spatial_axes


def is_own_input(images_: Sequence[ImagePayload]) -> bool:
    """Return whether the images are float arrays of the model's own input; also if there are none.

    Raises:
        BadTensorError: the request mixes pictures and float arrays.
    """
    if not images_:
        return True
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


def own_size(batch: Array, graph: ModelGraph) -> tuple[int, ...]:
    """Return the height and width of a batch of images, or the sizes after the batch if the model takes none."""
    if not graph.takes_pictures:
        return batch.shape[1:]
    height, width = spatial_axes(graph.main_input.layout)
    return batch.shape[height], batch.shape[width]


def _with_batch(image: PixelImage | EncodedImage, index: int, graph: ModelGraph) -> Array:
    """Return a float array with a batch axis, in the dtype of the model's image input.

    Raises:
        BadTensorError: the array does not have the shape of the input, or its values do not fit the dtype.
    """
    if isinstance(image, EncodedImage):
        raise TypeError(f"images[{index}]: expected a float array, got an encoded picture")
    expected = graph.main_input
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
