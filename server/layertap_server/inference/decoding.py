"""Decode the pictures of one request into one batch."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from layertap.errors import BadTensorError
from layertap.types import Array, ImagePadding, ImagePayload
from layertap_server.inference import images
from layertap_server.models.loader import LoadedModel
from layertap_server.models.preprocessing import Preprocessing
from layertap_server.request.cancellation import Cancellation
from layertap_server.request.context import RequestContext


@dataclass(frozen=True, slots=True)
class Pictures:
    """Decoded pictures of one size."""

    batch: Array
    """Pixels, uint8 N×H×W×C."""
    padding: tuple[ImagePadding, ...]
    """Padding of each picture."""


@dataclass(frozen=True, slots=True)
class Decoder:
    """Decoder of pictures; safe to use from any number of threads."""

    pool: ThreadPoolExecutor
    """Threads that decode the pictures of requests with several."""
    max_pixels: int
    """Maximum pixels per picture."""

    def decode(self, payloads: Sequence[ImagePayload], model: LoadedModel, context: RequestContext) -> Pictures:
        """Decode the pictures into one batch and record the time as the stage "decode".

        Raises:
            BadTensorError: the model's input has another number of channels, or the pictures differ in size.
            ImageDecodeError, ImageTooLargeError: a picture cannot be decoded.
            CancelledError: the request was cancelled.
        """
        with context.stage("decode"):
            _check_channels(model)
            job = _DecodeJob(payloads, model.preprocessing, self.max_pixels, context.cancellation)
            if len(payloads) == 1:
                pixels, padding = job.decode(0)
                return Pictures(pixels[None], (padding,))
            decoded = list(self.pool.map(job.decode, range(len(payloads))))
            _check_same_size([pixels for pixels, _ in decoded])
            return Pictures(np.stack([pixels for pixels, _ in decoded]), tuple(padding for _, padding in decoded))


@dataclass(frozen=True, slots=True)
class _DecodeJob:
    """The pictures of one request, which the threads of the pool decode."""

    payloads: Sequence[ImagePayload]
    preprocessing: Preprocessing
    max_pixels: int
    cancellation: Cancellation

    def decode(self, index: int) -> tuple[Array, ImagePadding]:
        """Return the pixels of one picture, H×W×C, and its padding."""
        self.cancellation.check()
        pixels = images.prepare(self.payloads[index], self.preprocessing, index, self.max_pixels)
        return images.pad(pixels, self.preprocessing)


def _check_channels(model: LoadedModel) -> None:
    """Raise `BadTensorError` if the model's input has other channels than a picture."""
    wanted, given = model.graph.image_channels, model.preprocessing.channels
    if wanted not in {-1, given}:
        message = f"the model takes {wanted} channels and a picture has {given}; send float arrays of its own input"
        raise BadTensorError(message, field="images[0]", expected=str(wanted), got=str(given))


def _check_same_size(pictures: Sequence[Array]) -> None:
    """Raise `BadTensorError` if the pictures differ in size."""
    for index, picture in enumerate(pictures):
        if picture.shape != pictures[0].shape:
            first, other = pictures[0].shape, picture.shape
            message = (
                f"images[{index}] has {other[1]}×{other[0]} pixels and images[0] {first[1]}×{first[0]}; this model "
                "has no fixed image size, so all images of one request must have the same size"
            )
            raise BadTensorError(message, field=f"images[{index}]", index=index)
