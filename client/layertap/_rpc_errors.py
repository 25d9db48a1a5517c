"""Convert gRPC's errors to those of the SDK."""

from __future__ import annotations

import re

import grpc

from layertap import wire
from layertap._connection import LARGEST_MESSAGE_BYTES
from layertap._unreachable import explain
from layertap.errors import LayertapError, RequestTooLargeError, UnavailableError

_SEND_FAILED = "Internal error from Core"
"""Details of grpc.aio's own INTERNAL error for a stream that the server ended before it had read every message."""
_TOO_LARGE = re.compile(r"Received message larger than max \((\d+) vs\. (\d+)\)")
"""Details of gRPC's error for a message over the limit of the server, or over that of the client's channel."""


def about_image_of(error: LayertapError, images: tuple[str, ...]) -> LayertapError:
    """Put the image's file name into an error that is about one image."""
    index = -1 if error.index is None else error.index
    name = images[index] if 0 <= index < len(images) else ""
    return error.about_image(name) if name else error


def error_of(error: grpc.RpcError, address: str = "the server", images: tuple[str, ...] = ()) -> LayertapError:
    """Return the error that the server raised, or one that explains why no server at ``address`` responded."""
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return LayertapError(str(error))
    details = error.details() or error.code().name
    if "RST_STREAM" in details:  # a load balancer resets a call whose server is gone
        return UnavailableError(details)
    if details == _SEND_FAILED:
        return UnavailableError("the server ended the call while a message was being sent; try again")
    if (sizes := _TOO_LARGE.search(details)) and int(sizes[2]) < LARGEST_MESSAGE_BYTES:
        message = (
            f"the request has {sizes[1]} bytes and the server accepts {sizes[2]}: send fewer or smaller images at once"
        )
        return RequestTooLargeError(message, limit=int(sizes[2]), bytes=int(sizes[1]))
    trailers = {key: value for key, value in error.trailing_metadata() or () if isinstance(value, bytes)}
    trailer, status = trailers.get("grpc-status-details-bin", b""), error.code().name
    reason = None if trailer else explain(status, details, address)
    return about_image_of(reason or wire.decode_error(status, details, trailer), images)
