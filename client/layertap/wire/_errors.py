"""Errors <-> gRPC status with ``google.rpc`` details: one table, read in both directions.

Every error carries an ErrorInfo (reason, domain ``layertap``, metadata); generic clients also find what they know:
BadRequest, RetryInfo and ResourceInfo. The metadata alone gives back the error that was raised.
"""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from layertap.errors import LayertapError, UnknownModelError, error_classes
from layertap.v1 import feature_service_pb2 as pb

DOMAIN = "layertap"
LONGEST_MESSAGE = 1000
LONGEST_METADATA = 1500
"""Bytes as they travel: gRPC refuses trailers over 8 KiB, so the details stay under 4 KiB."""

_BY_REASON = {cls.reason: cls for cls in error_classes()}
_BY_STATUS: dict[str, type[LayertapError]] = {}
for _cls in error_classes():
    _BY_STATUS.setdefault(_cls.status, _cls)


def status_of(error: LayertapError) -> int:
    """The number of the error's gRPC status."""
    return int(code_pb2.Code.Value(error.status))


def encode_error(error: LayertapError) -> status_pb2.Status:
    """What travels in the trailer ``grpc-status-details-bin``."""
    message = _short(error.message, LONGEST_MESSAGE)
    return status_pb2.Status(code=status_of(error), message=message, details=_details(error))


def decode_error(status: str, message: str, trailer: bytes = b"") -> LayertapError:
    """The error that the server raised; without details, or of a newer server, the nearest class for the status."""
    cls = _BY_STATUS.get(status, LayertapError)
    info = _error_info(trailer)
    if info is None:
        return cls(message)
    error = _BY_REASON.get(info.reason, cls)(message, **dict(info.metadata))
    error.reason = info.reason
    return error


def encode_error_parts(error: LayertapError) -> pb.ExtractStreamError:
    """What travels inside a stream, which goes on."""
    message = _short(error.message, LONGEST_MESSAGE)
    metadata = _bounded(error.metadata)
    return pb.ExtractStreamError(code=status_of(error), message=message, reason=error.reason, metadata=metadata)


def decode_error_parts(message: pb.ExtractStreamError) -> LayertapError:
    cls = _BY_STATUS.get(code_pb2.Code.Name(message.code), LayertapError)
    error = _BY_REASON.get(message.reason, cls)(message.message, **dict(message.metadata))
    error.reason = message.reason
    return error


def _details(error: LayertapError) -> list[Any]:
    metadata = _bounded(error.metadata)
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)]
    if "field" in metadata:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=metadata["field"], description=_short(error.message, 300)
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if error.retry_after is not None:
        delay = Duration()
        delay.FromMilliseconds(round(error.retry_after * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    if isinstance(error, UnknownModelError):
        name = metadata.get("model", "")
        details.append(error_details_pb2.ResourceInfo(resource_type="layertap.v1.Model", resource_name=name))
    return [_pack(detail) for detail in details]


def _pack(message: Message) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed


def _error_info(trailer: bytes) -> error_details_pb2.ErrorInfo | None:
    try:
        status = status_pb2.Status.FromString(trailer)
    except DecodeError:
        return None
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Is(info.DESCRIPTOR) and detail.Unpack(info) and info.domain == DOMAIN:
            return info
    return None


def _bounded(metadata: Mapping[str, str]) -> dict[str, str]:
    """The metadata cut to what a trailer holds: whole values, in order, until the room is spent."""
    kept, room = {}, LONGEST_METADATA
    for key, value in metadata.items():
        size = len(key) + len(value.encode())
        if size <= room:
            kept[key] = value
            room -= size
    return kept


def _short(text: str, length: int) -> str:
    """The text cut to so many bytes as gRPC sends a message: it escapes each byte that is not plain ASCII as three."""
    size = 0
    for index, character in enumerate(text):
        size += 1 if character.isascii() and character.isprintable() else 3 * len(character.encode())
        if size > length:
            return text[: max(index - 9, 0)] + "…"
    return text
