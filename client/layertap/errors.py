"""Every error that Layertap raises, in the SDK and in the server: a client sees the class that the server raised.

    LayertapError
      InvalidRequestError         INVALID_ARGUMENT
        TapSyntaxError            TAP_SYNTAX          .position
        UnknownLayerError         UNKNOWN_LAYER       .suggestions
        AmbiguousLayerError       AMBIGUOUS_LAYER     .suggestions
        UnknownBlockError         UNKNOWN_BLOCK       .suggestions
        BadParameterError         BAD_PARAMETER       .suggestions
        ShapeMismatchError        SHAPE_MISMATCH
        NotTappableError          NOT_TAPPABLE
        DuplicateNameError        DUPLICATE_NAME
        NoTapsError               NO_TAPS
        TooManyTapsError          TOO_MANY_TAPS
        NoImagesError             NO_IMAGES
        TooFewImagesError         TOO_FEW_IMAGES
        TooManyImagesError        TOO_MANY_IMAGES
        ImageDecodeError          IMAGE_DECODE_FAILED .index
        ImageTooLargeError        IMAGE_TOO_LARGE     .index
        BadTensorError            BAD_TENSOR
        BadRegionError            BAD_REGION
        TooExpensiveError         TOO_EXPENSIVE       .operations, .limit
      UnknownModelError           NOT_FOUND           .suggestions
      ModelFailedError            FAILED_PRECONDITION
      UnavailableError            UNAVAILABLE         .retry_after
        ModelLoadingError, DrainingError, WrongServerError
      ControlDisabledError        PERMISSION_DENIED
      UnauthenticatedError        UNAUTHENTICATED
      ResourceError               RESOURCE_EXHAUSTED
        ResponseTooLargeError, OverloadedError .retry_after, DeviceMemoryError, RequestTooLargeError,
        OutOfResourcesError .retry_after
      DeadlineError               DEADLINE_EXCEEDED
      CancelledError              CANCELLED
      SharedMemoryDisabledError   PERMISSION_DENIED
      ServerFault                 INTERNAL            .incident

An error holds its message, its reason and a flat ``metadata`` with every variable part of the message. The properties
read the metadata, so an error that crossed the wire is the error that was raised. Nothing here knows gRPC.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

MetadataValue = str | int | float | Sequence[str] | Sequence[int]


class PreprocessingAssumedWarning(UserWarning):
    """Pictures were preprocessed as the server assumes, since the model does not say how. Features may be wrong."""


class LayertapError(Exception):
    """The root. ``status`` is a gRPC status name, ``reason`` the finer word of the error table."""

    status: ClassVar[str] = "UNKNOWN"
    reason: str = "UNKNOWN"

    def __init__(self, message: str, **metadata: MetadataValue) -> None:
        """Keeps ``metadata`` as strings; a list becomes JSON."""
        super().__init__(message)
        self.message = message
        self.metadata: Mapping[str, str] = {key: _as_text(value) for key, value in metadata.items()}

    def located(self, field: str) -> LayertapError:
        """The same error, saying which field of the request it is about, such as ``taps[0]``."""
        self.metadata = {"field": field, **self.metadata}
        return self

    def about_image(self, name: str) -> LayertapError:
        """Begin the message with the name of the image that the error is about, such as ``cat.jpg``, and return it."""
        if name not in self.message:
            self.message = f"{name}: {self.message}"
            self.args = (self.message,)
        return self

    @property
    def suggestions(self) -> tuple[str, ...]:
        """Names that look like the one that was not found."""
        return tuple(json.loads(self.metadata.get("suggestions", "[]")))

    @property
    def retry_after(self) -> float | None:
        """Seconds after which a repetition may succeed."""
        milliseconds = self.metadata.get("retry_after_ms")
        return None if milliseconds is None else float(milliseconds) / 1000

    @property
    def index(self) -> int | None:
        """Which of the request's images the error is about, from 0."""
        index = self.metadata.get("index")
        return None if index is None else int(index)


def _as_text(value: MetadataValue) -> str:
    return str(value) if isinstance(value, str | int | float) else json.dumps(list(value), ensure_ascii=False)


class InvalidRequestError(LayertapError):
    """The request cannot be answered as it is, by this server, ever."""

    status = "INVALID_ARGUMENT"
    reason = "INVALID_REQUEST"


class TapSyntaxError(InvalidRequestError):
    """A tap expression that does not follow the grammar."""

    reason = "TAP_SYNTAX"

    @property
    def position(self) -> int:
        """Where in the expression, in characters from 0."""
        return int(self.metadata.get("position", "0"))


class UnknownLayerError(InvalidRequestError):
    """No layer of the model matches the selector."""

    reason = "UNKNOWN_LAYER"


class AmbiguousLayerError(InvalidRequestError):
    """A selector that must name one layer names several."""

    reason = "AMBIGUOUS_LAYER"


class UnknownBlockError(InvalidRequestError):
    """No block has this name."""

    reason = "UNKNOWN_BLOCK"


class BadParameterError(InvalidRequestError):
    """A block's parameter that does not exist, is missing, or has a value it cannot take."""

    reason = "BAD_PARAMETER"


class ShapeMismatchError(InvalidRequestError):
    """A block that does not fit the shape it is put on."""

    reason = "SHAPE_MISMATCH"


class NotTappableError(InvalidRequestError):
    """The layer cannot be tapped, for example because its first axis is not the batch."""

    reason = "NOT_TAPPABLE"


class BadRegionError(InvalidRequestError):
    """A region of shared memory that is not registered, or cannot be."""

    reason = "BAD_REGION"


class DuplicateNameError(InvalidRequestError):
    """Two results of one request would have one name."""

    reason = "DUPLICATE_NAME"


class NoTapsError(InvalidRequestError):
    """No taps were given and the model has no default."""

    reason = "NO_TAPS"


class TooManyTapsError(InvalidRequestError):
    """More taps, or results of them, than one request may have."""

    reason = "TOO_MANY_TAPS"


class NoImagesError(InvalidRequestError):
    """The request has no images."""

    reason = "NO_IMAGES"


class TooFewImagesError(InvalidRequestError):
    """A block takes its statistics from all images of the request, and the request has one."""

    reason = "TOO_FEW_IMAGES"


class TooManyImagesError(InvalidRequestError):
    """The request has more images than the server accepts."""

    reason = "TOO_MANY_IMAGES"


class ImageDecodeError(InvalidRequestError):
    """An image file cannot be read or decoded."""

    reason = "IMAGE_DECODE_FAILED"


class ImageTooLargeError(InvalidRequestError):
    """An image has more pixels than the server accepts."""

    reason = "IMAGE_TOO_LARGE"


class BadTensorError(InvalidRequestError):
    """A tensor of the wrong dtype, shape or number of bytes."""

    reason = "BAD_TENSOR"


class TooExpensiveError(InvalidRequestError):
    """The request would compute more operations than the server allows; found before anything ran."""

    reason = "TOO_EXPENSIVE"

    @property
    def operations(self) -> int:
        """Price of the request, in operations as of ``Preview.operations``."""
        return int(self.metadata.get("operations", "0"))

    @property
    def limit(self) -> int:
        """Most operations that the server computes for one request (``--max-operations``)."""
        return int(self.metadata.get("limit", "0"))


class UnknownModelError(LayertapError):
    """No model has this name or version."""

    status = "NOT_FOUND"
    reason = "UNKNOWN_MODEL"


class ModelFailedError(LayertapError):
    """The model is in the repository and cannot be used."""

    status = "FAILED_PRECONDITION"
    reason = "MODEL_FAILED"


class UnavailableError(LayertapError):
    """Nobody answers at that address, or not now."""

    status = "UNAVAILABLE"
    reason = "UNAVAILABLE"


class ModelLoadingError(UnavailableError):
    """The model is still being loaded."""

    reason = "MODEL_LOADING"


class DrainingError(UnavailableError):
    """The server is stopping and takes no new work."""

    reason = "DRAINING"


class WrongServerError(UnavailableError):
    """What answers at the address is no Layertap server of this version, or does not connect in this way (TLS)."""

    reason = "WRONG_SERVER"


class ControlDisabledError(LayertapError):
    """The operator did not allow models to be loaded and unloaded from outside."""

    status = "PERMISSION_DENIED"
    reason = "CONTROL_DISABLED"


class ForbiddenError(LayertapError):
    """The token has not the role that the method wants."""

    status = "PERMISSION_DENIED"
    reason = "ROLE_MISSING"


class UnauthenticatedError(LayertapError):
    """There is no token, or none that the server knows."""

    status = "UNAUTHENTICATED"
    reason = "UNAUTHENTICATED"


class ResourceError(LayertapError):
    """The request is more than the server will spend."""

    status = "RESOURCE_EXHAUSTED"
    reason = "RESOURCE_EXHAUSTED"


class RequestTooLargeError(ResourceError):
    """The request's message, or what it would compute, is over the limit."""

    reason = "REQUEST_TOO_LARGE"


class ResponseTooLargeError(ResourceError):
    """The answer would be over the limit; computed from the shapes before anything ran."""

    reason = "RESPONSE_TOO_LARGE"


class OverloadedError(ResourceError):
    """The queue is full; ``retry_after`` says when to come again."""

    reason = "OVERLOADED"


class DeviceMemoryError(ResourceError):
    """The GPU has too little free memory for the run."""

    reason = "DEVICE_MEMORY"


class OutOfResourcesError(ResourceError):
    """The server's system has no memory, thread, file descriptor or disk space left.

    ``retry_after`` says when to retry. The request itself may be right; ``metadata["resource"]`` names what is missing.
    """

    reason = "OUT_OF_RESOURCES"


class DeadlineError(LayertapError):
    """The deadline passed before the answer was there."""

    status = "DEADLINE_EXCEEDED"
    reason = "DEADLINE_EXCEEDED"


class CancelledError(LayertapError):
    """The call was cancelled."""

    status = "CANCELLED"
    reason = "CANCELLED"


class SharedMemoryDisabledError(LayertapError):
    """The operator does not offer shared memory."""

    status = "PERMISSION_DENIED"
    reason = "SHARED_MEMORY_DISABLED"


class ServerFault(LayertapError):
    """A defect of the server; ``incident`` finds it in the server's log."""

    status = "INTERNAL"
    reason = "FAULT"

    @property
    def incident(self) -> str:
        """The fault's name in the server's log."""
        return self.metadata.get("incident", "")


def error_classes(root: type[LayertapError] = LayertapError) -> Iterator[type[LayertapError]]:
    """The whole tree, parents first."""
    yield root
    for child in root.__subclasses__():
        yield from error_classes(child)
