"""Rows of a bulk run: an image, values of the model's other inputs, or both.

The values of an input are an array with one row per image. An array without axes holds for all images.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from layertap.errors import BadTensorError
from layertap.images import ImageLike, as_array, as_images, describe, to_payloads
from layertap.types import Array, ExtractRequest, ImagePayload

BATCH_RANK = 4
"""Number of axes of a batch of float images."""


@dataclass(frozen=True, slots=True)
class Row:
    """An image with the values of other inputs that belong to it."""

    image: ImageLike | None
    """The image; None if the model takes none, or the taps need none."""
    inputs: Mapping[str, Array]
    """Values by input name, each with one row."""


def name_of(row: ImageLike | Row, number: int) -> str:
    """Return the name of an image or a row: the path of its image, or else its number."""
    image = row.image if isinstance(row, Row) else row
    return str(number) if image is None else describe(image, number)


def to_inputs(given: Mapping[str, Any] | None) -> dict[str, Array]:
    """Return the values of inputs as NumPy arrays, by input name.

    Raises:
        BadTensorError: a value is no array of numbers.
    """
    return {name: _array_of(name, value) for name, value in (given or {}).items()}


def _array_of(name: str, value: Any) -> Array:
    """Return the value of one input as a NumPy array."""
    array = np.asarray(value) if isinstance(value, (int, float, list, tuple)) else as_array(value, 0)
    if array.dtype.kind not in "biuf":
        message = f"the input {name!r} is an array of {array.dtype}; expected numbers"
        raise BadTensorError(message, field="inputs", input=name, got=str(array.dtype))
    return array


def rows_of(
    images: ImageLike | Iterable[ImageLike] | None, given: Mapping[str, Any] | None
) -> Iterable[ImageLike | Row]:
    """Return the images of a bulk run or, if inputs are given, its rows.

    Raises:
        BadTensorError: arrays differ in their number of rows, or there are neither images nor arrays.
    """
    inputs = to_inputs(given)
    several: Iterable[ImageLike | None] | None = None if images is None else _one_by_one(as_images(images))
    if not inputs and images is not None:
        return as_images(images)
    length = length_of_inputs(inputs)
    if several is None:
        if length is None:
            raise BadTensorError("expected images, or inputs with one row each", field="images")
        several = [None] * length
    rows = _joined(several, inputs, length)
    return list(rows) if isinstance(several, Sized) else rows


def payloads_of(images: ImageLike | Iterable[ImageLike] | None) -> tuple[ImagePayload, ...]:
    """Return the payloads of images as `to_payloads`; none if there are no images."""
    return () if images is None else to_payloads(images)


async def rows_of_async(images: AsyncIterable[ImageLike], given: Mapping[str, Any]) -> AsyncIterator[Row]:
    """Yield the rows of a bulk run whose images arrive asynchronously; raise the errors of `rows_of`."""
    inputs = to_inputs(given)
    length = length_of_inputs(inputs)
    number = 0
    async for image in images:
        yield _row(image, inputs, number, length)
        number += 1


def length_of_inputs(inputs: Mapping[str, Array]) -> int | None:
    """Return the number of rows of the arrays; None if no array has rows.

    Raises:
        BadTensorError: the arrays differ in their number of rows.
    """
    lengths = {name: len(array) for name, array in inputs.items() if array.ndim}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise BadTensorError(f"expected inputs with the same number of rows: {shown}", field="inputs")
    return next(iter(lengths.values()), None)


def count_rows(request: ExtractRequest) -> int:
    """Return the number of images of a request or, if it has none, of the rows of its inputs."""
    return len(request.images) or max((len(array) for array in request.inputs.values() if array.ndim), default=0)


def _one_by_one(images: Iterable[ImageLike]) -> Iterable[ImageLike]:
    """Return the images with each float batch N×C×H×W split into its rows."""
    parts = (part for image in images for part in _parts(image))
    return list(parts) if isinstance(images, Sized) else parts


def _parts(image: ImageLike) -> Iterable[ImageLike]:
    """Return the rows of a float batch; any other image alone."""
    is_batch = isinstance(image, np.ndarray) and image.dtype.kind == "f" and image.ndim == BATCH_RANK
    return list(image) if is_batch and isinstance(image, np.ndarray) else [image]


def _joined(images: Iterable[ImageLike | None], inputs: Mapping[str, Array], length: int | None) -> Iterator[Row]:
    """Yield the rows of images and inputs."""
    number = -1
    for number, image in zip(count(), images):
        yield _row(image, inputs, number, length)
    if length is not None and number + 1 != length:
        raise BadTensorError(f"inputs have {length} rows and there are {number + 1} images", field="inputs")


def _row(image: ImageLike | None, inputs: Mapping[str, Array], number: int, length: int | None) -> Row:
    """Return one row; an array without axes belongs to each."""
    if length is not None and number >= length:
        raise BadTensorError(f"inputs have {length} rows and there are more images", field="inputs")
    values = {name: array[number : number + 1] if array.ndim else array for name, array in inputs.items()}
    return Row(image, values)
