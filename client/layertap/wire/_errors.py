"""Encode errors as gRPC status with ``google.rpc`` details, and decode them, by one table for both directions.

Every error has an ErrorInfo (reason, domain ``layertap``, metadata). For generic clients there are also the standard
details BadRequest, RetryInfo and ResourceInfo. The reason and the metadata are sufficient to restore the error.
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
"""Domain of the ErrorInfo."""
LONGEST_MESSAGE = 1000
"""Maximum length of a message, in bytes as gRPC sends it."""
LONGEST_METADATA = 1500
"""Maximum size of the metadata in bytes; gRPC rejects trailers over 8 KiB, so the details stay under 4 KiB."""

_BY_REASON = {cls.reason: cls for cls in error_classes()}
"""Error classes by reason."""
_BY_STATUS: dict[str, type[LayertapError]] = {}
"""The most general error class of each gRPC status."""
for _cls in error_classes():
    _BY_STATUS.setdefault(_cls.status, _cls)


def status_of(error: LayertapError) -> int:
    """Return the number of an error's gRPC status."""
    return int(code_pb2.Code.Value(error.status))


def encode_error(error: LayertapError) -> status_pb2.Status:
    """Encode an error as the status of the trailer ``grpc-status-details-bin``."""
    message = _shorten(error.message, LONGEST_MESSAGE)
    return status_pb2.Status(code=status_of(error), message=message, details=_details(error))


def decode_error(status: str, message: str, trailer: bytes = b"") -> LayertapError:
    """Decode the error that the server raised.

    Without details, or for a reason unknown to this version, the class is the most general one of the gRPC status.

    Args:
        status: name of the gRPC status.
        message: message of the gRPC status.
        trailer: content of the trailer ``grpc-status-details-bin``.
    """
    cls = _BY_STATUS.get(status, LayertapError)
    info = _error_info(trailer)
    if info is None:
        return cls(message)
    error = _BY_REASON.get(info.reason, cls)(message, **dict(info.metadata))
    error.reason = info.reason
    return error


def encode_error_parts(error: LayertapError) -> pb.ExtractStreamError:
    """Encode an error as a message within a stream, for one item; the stream continues."""
    message = _shorten(error.message, LONGEST_MESSAGE)
    metadata = _bound_metadata(error.metadata)
    return pb.ExtractStreamError(code=status_of(error), message=message, reason=error.reason, metadata=metadata)


def decode_error_parts(message: pb.ExtractStreamError) -> LayertapError:
    """Decode the error of one item of a stream."""
    cls = _BY_STATUS.get(code_pb2.Code.Name(message.code), LayertapError)
    error = _BY_REASON.get(message.reason, cls)(message.message, **dict(message.metadata))
    error.reason = message.reason
    return error


def _details(error: LayertapError) -> list[Any]:
    """Return the ``google.rpc`` details of an error."""
    metadata = _bound_metadata(error.metadata)
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)]
    if "field" in metadata:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=metadata["field"], description=_shorten(error.message, 300)
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
    """Pack a message into an Any."""
    packed = Any()
    packed.Pack(message)
    return packed


def _error_info(trailer: bytes) -> error_details_pb2.ErrorInfo | None:
    """Return the ErrorInfo in a trailer; None if there is none of Layertap's."""
    try:
        status = status_pb2.Status.FromString(trailer)
    except DecodeError:
        return None
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Is(info.DESCRIPTOR) and detail.Unpack(info) and info.domain == DOMAIN:
            return info
    return None


def _bound_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the first items of the metadata that fit into `LONGEST_METADATA` bytes; values are never cut."""
    kept, room = {}, LONGEST_METADATA
    for key, value in metadata.items():
        size = len(key) + len(value.encode())
        if size <= room:
            kept[key] = value
            room -= size
    return kept


def _shorten(text: str, length: int) -> str:
    """Shorten a text to ``length`` bytes as gRPC sends it.

    gRPC percent-encodes each byte that is not printable ASCII as three bytes.
    """
    size = 0
    for index, character in enumerate(text):
        size += 1 if character.isascii() and character.isprintable() else 3 * len(character.encode())
        if size > length:
            return text[: max(index - 9, 0)] + "…"
    return text
