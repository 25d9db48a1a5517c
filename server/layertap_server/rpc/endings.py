"""Ends of calls: responses that are written, errors that become statuses, and deadlines that passed."""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from layertap import wire
from layertap.errors import (
    CancelledError,
    DeadlineError,
    DrainingError,
    InvalidRequestError,
    LayertapError,
    ServerFault,
)
from layertap_server.request.context import RequestContext
from layertap_server.rpc.call_metadata import REQUEST_ID
from layertap_server.rpc.calls import Call, Writer
from layertap_server.rpc.tracebacks import forget_frames
from layertap_server.rpc.worker_pool import RETRY_AFTER_MS
from layertap_server.runtime.shortage import shortage_in

log = logging.getLogger(__name__)

NETWORK_DELAY_SECONDS = 0.05
"""Remaining seconds at which a cancelled call already counts as past its deadline: the caller's clock began earlier."""
DETAILS = "grpc-status-details-bin"
"""Trailing metadata key of the serialized ``google.rpc.Status``."""


async def write(message: bytes, call: Writer) -> None:
    """Send one message.

    Raises:
        CancelledError: the caller has cancelled the call or disconnected.
    """
    try:
        await call.write(message)
    except Exception as error:  # gRPC raises several types here, all of which mean that the caller is gone
        raise CancelledError("the caller is gone") from error


def record_passed_deadline(context: RequestContext, call: Call) -> None:
    """Record a `DeadlineError` for a cancelled call whose deadline has passed.

    gRPC reports a passed deadline and a departed caller in the same way. The caller's clock started earlier than the
    server's by the network delay, so its cancellation can arrive shortly before the deadline on the server's clock.
    """
    remaining = call.time_remaining()
    if remaining is not None and remaining <= NETWORK_DELAY_SECONDS:
        context.fail(DeadlineError("the deadline passed before the response was ready"))


def draining_error() -> DrainingError:
    """Return the error for new requests and for open streams while the server stops."""
    return DrainingError("the server is stopping; retry on another server", retry_after_ms=RETRY_AFTER_MS)


def error_for(context: RequestContext, error: Exception) -> LayertapError:
    """Return the error that the caller receives for an exception.

    An unexpected exception becomes a `ServerFault` with an incident id, and its traceback is logged under that id.
    """
    if isinstance(error, LayertapError | DecodeError):
        forget_frames(error)
    if isinstance(error, LayertapError):
        return error
    if isinstance(error, DecodeError):
        return InvalidRequestError("expected a request message of this method, got bytes that cannot be parsed as one")
    if (shortage := shortage_in(error)) is not None:
        log.warning("%s, in %s/%s, request %s", shortage.message, context.service, context.method, context.request_id)
        return shortage
    incident = uuid.uuid4().hex[:12]
    method = f"{context.service}/{context.method}"
    log.error("incident %s in %s, request %s", incident, method, context.request_id, exc_info=error)
    return ServerFault(f"internal error; the server's log describes it under incident {incident}", incident=incident)


def fail(call: Call, error: LayertapError, context: RequestContext) -> None:
    """Set the status, message and details with which a streaming call ends once its handler returns."""
    code, message, metadata = _status_of(error, context)
    call.set_code(code)
    call.set_details(message)
    call.set_trailing_metadata(metadata)


async def abort(call: Call, error: LayertapError, context: RequestContext) -> NoReturn:
    """End a unary call with an error.

    A handler that sets the status and returns an empty response sends headers before the status. Proxies and clients
    retry a call only if the status comes first, as `abort` sends it. The call keeps the exception that gRPC raises, and
    the frames of its traceback would keep the request, so the traceback is dropped once gRPC has caught the exception.
    """
    try:
        await call.abort(*_status_of(error, context))
    except BaseException as raised:
        asyncio.get_running_loop().call_soon(forget_frames, raised)
        raise
    raise AssertionError("abort raises")


def _status_of(error: LayertapError, context: RequestContext) -> tuple[grpc.StatusCode, str, tuple[Any, ...]]:
    """Return the status code, message and trailing metadata of an error."""
    details = wire.encode_error(error)
    metadata = ((DETAILS, details.SerializeToString()), *trailer(context))
    return grpc.StatusCode[error.status], details.message, metadata


def trailer(context: RequestContext) -> tuple[tuple[str, str], ...]:
    """Return the trailing metadata of a call."""
    return ((REQUEST_ID, context.request_id),)
