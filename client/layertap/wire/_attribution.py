"""The messages of Attribute: the request, and the maps in chunks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from layertap.errors import InvalidRequestError
from layertap.types import AttributeRequest, Attribution
from layertap.v1 import feature_service_pb2 as pb
from layertap.wire import _raw as raw
from layertap.wire._blocks import encode_tap
from layertap.wire._features import decode_image, encode_image
from layertap.wire._limits import parse_request
from layertap.wire._targets import (
    decode_edits,
    decode_target,
    decode_target_values,
    encode_target,
    encode_target_values,
)
from layertap.wire._tensors import decode_tensor, empty_tensor, encode_tensor, encode_tensor_header

SIZES = {"input": pb.ATTRIBUTION_SIZE_INPUT, "layer": pb.ATTRIBUTION_SIZE_LAYER}
"""Sizes of maps by name."""
_NAMES = {number: name for name, number in SIZES.items()} | {pb.ATTRIBUTION_SIZE_UNSPECIFIED: "input"}
"""Names of the sizes of maps."""


def encode_attribute_request(request: AttributeRequest, chunk_bytes: int = 0) -> bytes:
    """Encode a request for maps.

    Raises:
        InvalidRequestError: the size is not one of `SIZES`.
    """
    if request.size not in SIZES:
        message = f"expected size as one of {', '.join(SIZES)}, got {request.size!r:.40}"
        raise InvalidRequestError(message, field="size")
    return pb.AttributeRequest(
        model=request.model,
        version=request.version,
        images=[encode_image(image) for image in request.images],
        inputs=[encode_tensor(array, name) for name, array in request.inputs.items()],
        method=request.method,
        layer=request.layer,
        target=encode_target(request.target),
        edits=[encode_tap(tap) for tap in request.edits],
        size=SIZES[request.size],
        chunk_bytes=chunk_bytes,
    ).SerializeToString()


def decode_attribute_request(data: bytes) -> tuple[AttributeRequest, int]:
    """Decode a request for maps; return it with the caller's maximum chunk size in bytes.

    Raises:
        InvalidRequestError: the size of the maps is unknown.
        LayertapError: an image, an input or the target is invalid.
    """
    message = parse_request(pb.AttributeRequest, data)
    if message.size not in _NAMES:
        raise InvalidRequestError(f"there is no size of maps {message.size}; use 1 or 2", field="size")
    request = AttributeRequest(
        model=message.model,
        images=tuple(decode_image(image, index) for index, image in enumerate(message.images)),
        method=message.method or "grad_cam",
        layer=message.layer,
        target=decode_target(message.target),
        edits=decode_edits(message.edits),
        size=_NAMES[message.size],
        version=message.version,
        inputs={tensor.name: decode_tensor(tensor) for tensor in message.inputs},
    )
    return request, message.chunk_bytes


def encode_attribution(result: Attribution, chunk_bytes: int) -> Iterator[bytes]:
    """Yield the messages of a response: a header, then the maps in chunks."""
    data = raw.bytes_of(result.maps)
    header = pb.AttributionHeader(
        tensor=encode_tensor_header(result.maps, "maps"),
        total_bytes=len(data),
        model=result.model,
        version=result.version,
        method=result.method,
        layer=result.layer,
        target=result.target,
        targets=encode_target_values(result.targets),
        missing=result.missing,
        warning=result.warning,
        assumed_preprocessing=result.assumed_preprocessing,
    )
    yield pb.AttributeResponse(header=header).SerializeToString()
    for offset in range(0, len(data), chunk_bytes):
        chunk = pb.FeatureChunk(offset=offset, data=bytes(data[offset : offset + chunk_bytes]))
        yield pb.AttributeResponse(chunk=chunk).SerializeToString()


@dataclass(slots=True)
class ReceivedAttribution:
    """Assembles the messages of Attribute."""

    _result: Attribution | None = None
    _view: memoryview = field(default_factory=lambda: memoryview(b""))
    _left: int = 0

    def add(self, data: bytes) -> Attribution | None:
        """Process a message; return the maps once they are complete."""
        message = pb.AttributeResponse.FromString(data)
        if message.HasField("header"):
            self._result = _decode_header(message.header)
            self._view, self._left = raw.bytes_of(self._result.maps), message.header.total_bytes
        else:
            part = message.chunk.data
            self._view[message.chunk.offset : message.chunk.offset + len(part)] = part
            self._left -= len(part)
        return None if self._left else self._result


def _decode_header(header: pb.AttributionHeader) -> Attribution:
    """Decode a result whose maps have yet to be filled."""
    return Attribution(
        maps=empty_tensor(header.tensor),
        method=header.method,
        layer=header.layer,
        target=header.target,
        targets=decode_target_values(header.targets),
        missing=tuple(header.missing),
        warning=header.warning,
        model=header.model,
        version=header.version,
        assumed_preprocessing=header.assumed_preprocessing,
    )
