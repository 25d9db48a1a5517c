"""The errors of the SDK and of the server; a client raises the same class that the server raised.

An error has a message, a reason, and flat ``metadata`` with every variable part of the message. Its properties read the
metadata, so an error received from a server equals the one that the server raised. This module does not need gRPC.
"""

from __future__ import annotations

from collections.abc import Iterator

from layertap._base_error import LayertapError as LayertapError  # noqa: PLC0414 - a public name of this module


class PreprocessingAssumedWarning(UserWarning):
    """The model does not state its preprocessing, so the server assumed one; features may be wrong."""


class InvalidRequestError(LayertapError):
    """The request is invalid: repeating it cannot succeed on this server."""

    status = "INVALID_ARGUMENT"
    reason = "INVALID_REQUEST"


class TapSyntaxError(InvalidRequestError):
    """A tap expression does not follow the grammar."""

    reason = "TAP_SYNTAX"

    @property
    def position(self) -> int:
        """Position of the error in the expression, in characters from 0."""
        return int(self.metadata.get("position", "0"))


class UnknownLayerError(InvalidRequestError):
    """No layer of the model matches the selector."""

    reason = "UNKNOWN_LAYER"


class AmbiguousLayerError(InvalidRequestError):
    """A selector that must name one layer matches several."""

    reason = "AMBIGUOUS_LAYER"


class UnknownBlockError(InvalidRequestError):
    """No block has this name."""

    reason = "UNKNOWN_BLOCK"


class BadParameterError(InvalidRequestError):
    """A block's parameter is unknown, missing, or has an invalid value."""

    reason = "BAD_PARAMETER"


class ShapeMismatchError(InvalidRequestError):
    """A block does not fit the shape that it is applied to."""

    reason = "SHAPE_MISMATCH"


class NotTappableError(InvalidRequestError):
    """The layer cannot be tapped, for example because its first axis is not the batch."""

    reason = "NOT_TAPPABLE"


class BadRegionError(InvalidRequestError):
    """A shared memory region is not registered, or cannot be registered."""

    reason = "BAD_REGION"


class DuplicateNameError(InvalidRequestError):
    """Two results of one request would have the same name."""

    reason = "DUPLICATE_NAME"


class NoTapsError(InvalidRequestError):
    """The request has no taps and the model has no default taps."""

    reason = "NO_TAPS"


class TooManyTapsError(InvalidRequestError):
    """The request has more taps, or more results, than one request may have."""

    reason = "TOO_MANY_TAPS"


class NoImagesError(InvalidRequestError):
    """The request has no images."""

    reason = "NO_IMAGES"


class TooFewImagesError(InvalidRequestError):
    """A block takes its statistics from all images of the request, but the request has only one."""

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


class NotDifferentiableError(InvalidRequestError):
    """A gradient cannot be computed: an operator has no rule, or the target does not depend on the layer."""

    reason = "NOT_DIFFERENTIABLE"


class BadTargetError(InvalidRequestError):
    """The target of a gradient is not one number per image, or its index is out of range."""

    reason = "BAD_TARGET"


class UnknownLabelError(InvalidRequestError):
    """The model has no such label, or several outputs have it."""

    reason = "UNKNOWN_LABEL"


class BadEditError(InvalidRequestError):
    """An edit of a network is not valid: it changes a shape, changes an input, or nothing reads what it changes."""

    reason = "BAD_EDIT"


class BadFeedError(InvalidRequestError):
    """A feed is not valid: it has another shape than its layer, or nothing reads it."""

    reason = "BAD_FEED"


class UnknownMethodError(InvalidRequestError):
    """No method of attribution has this name."""

    reason = "UNKNOWN_METHOD"


class BadTensorError(InvalidRequestError):
    """A tensor has the wrong dtype, shape or number of bytes."""

    reason = "BAD_TENSOR"


class TooExpensiveError(InvalidRequestError):
    """The request would compute more operations than the server allows; nothing was computed."""

    reason = "TOO_EXPENSIVE"

    @property
    def operations(self) -> int:
        """Cost of the request, in operations as defined by ``Preview.operations``."""
        return int(self.metadata.get("operations", "0"))

    @property
    def limit(self) -> int:
        """Maximum number of operations per request (``--max-operations``)."""
        return int(self.metadata.get("limit", "0"))


class UnknownModelError(LayertapError):
    """No model has this name or version."""

    status = "NOT_FOUND"
    reason = "UNKNOWN_MODEL"


class ModelFailedError(LayertapError):
    """The model is in the repository but cannot be used."""

    status = "FAILED_PRECONDITION"
    reason = "MODEL_FAILED"


class UnavailableError(LayertapError):
    """No server responds at the address, or the server cannot serve the request now."""

    status = "UNAVAILABLE"
    reason = "UNAVAILABLE"


class ModelLoadingError(UnavailableError):
    """The model is still being loaded."""

    reason = "MODEL_LOADING"


class DrainingError(UnavailableError):
    """The server is stopping and accepts no new requests."""

    reason = "DRAINING"


class WrongServerError(UnavailableError):
    """The server at the address is no Layertap server of this version, or requires another kind of connection (TLS)."""

    reason = "WRONG_SERVER"


class ControlDisabledError(LayertapError):
    """The operator does not allow clients to load and unload models."""

    status = "PERMISSION_DENIED"
    reason = "CONTROL_DISABLED"


class WeightsDisabledError(LayertapError):
    """The operator does not allow clients to read the parameters of models."""

    status = "PERMISSION_DENIED"
    reason = "WEIGHTS_DISABLED"


class ForbiddenError(LayertapError):
    """The token lacks the role that this method requires."""

    status = "PERMISSION_DENIED"
    reason = "ROLE_MISSING"


class UnauthenticatedError(LayertapError):
    """The call has no token, or one that the server does not know."""

    status = "UNAUTHENTICATED"
    reason = "UNAUTHENTICATED"


class ResourceError(LayertapError):
    """The request needs more resources than the server allows."""

    status = "RESOURCE_EXHAUSTED"
    reason = "RESOURCE_EXHAUSTED"


class RequestTooLargeError(ResourceError):
    """The request's message, or what it would compute, exceeds a limit."""

    reason = "REQUEST_TOO_LARGE"


class ResponseTooLargeError(ResourceError):
    """The response would exceed the limit; nothing was computed."""

    reason = "RESPONSE_TOO_LARGE"


class OverloadedError(ResourceError):
    """The queue is full; ``retry_after`` is the number of seconds to wait before a retry."""

    reason = "OVERLOADED"


class DeviceMemoryError(ResourceError):
    """The GPU has too little free memory for the run."""

    reason = "DEVICE_MEMORY"


class OutOfResourcesError(ResourceError):
    """The server has no memory, thread, file descriptor or disk space left.

    ``retry_after`` is the number of seconds to wait before a retry. The request itself may be valid;
    ``metadata["resource"]`` names the resource.
    """

    reason = "OUT_OF_RESOURCES"


class DeadlineError(LayertapError):
    """The deadline passed before the response arrived."""

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


class NotSupportedError(LayertapError):
    """The server does not support what the request asks for."""

    status = "UNIMPLEMENTED"
    reason = "NOT_SUPPORTED"


class ServerFault(LayertapError):
    """An internal error of the server; ``incident`` identifies it in the server's log."""

    status = "INTERNAL"
    reason = "FAULT"

    @property
    def incident(self) -> str:
        """Identifier of the error in the server's log."""
        return self.metadata.get("incident", "")


def error_classes(root: type[LayertapError] = LayertapError) -> Iterator[type[LayertapError]]:
    """Yield the error classes of the tree below ``root``, each parent before its children."""
    yield root
    for child in root.__subclasses__():
        yield from error_classes(child)
