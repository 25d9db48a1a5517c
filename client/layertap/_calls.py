"""Describe the calls that a client can make: the method, the request's bytes, and how to decode the response. No I/O.

Both clients send the calls built here. `layertap.wire.rpcs` has the table of all RPCs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from layertap import wire
from layertap._features import Features, features_of
from layertap._rpc_errors import about_image_of
from layertap.errors import LayertapError, UnavailableError
from layertap.expression import format_tap
from layertap.types import (
    ApplyRequest,
    Array,
    AttributeRequest,
    Attribution,
    EncodedImage,
    ExtractRequest,
    FeatureMap,
    ImagePayload,
    InspectRequest,
    InspectResponse,
    WeightsRequest,
)
from layertap.wire import rpcs

Request = TypeVar("Request")
Reply = TypeVar("Reply")
_HEALTH = "/grpc.health.v1.Health/Check"
"""gRPC's path of the health check."""
_SERVING = b"\x08\x01"
"""The HealthCheckResponse of a ready server: its only field has the value 1 (SERVING)."""


@dataclass(frozen=True, slots=True)
class Call(Generic[Reply]):
    """A unary call: one request and one response."""

    method: str
    """gRPC's path of the method."""
    request: bytes
    """The serialized request."""
    decode: Callable[[bytes], Reply]
    """Decodes the serialized response."""
    images: tuple[str, ...] = ()
    """File names of the request's images for error messages; empty for an image that is not a file."""


@dataclass(frozen=True, slots=True)
class Exchange(Generic[Reply]):
    """A call whose response arrives in chunks, which takes half the time for a response of many megabytes."""

    method: str
    """gRPC's path of the method."""
    messages: tuple[bytes, ...]
    """The serialized requests."""
    add: Callable[[bytes], Reply | None]
    """Takes one message; returns the response once it is complete, or raises the server's `LayertapError`."""


def call_of(rpc: rpcs.UnaryRpc[Request, Reply], request: Request, images: Sequence[ImagePayload] = ()) -> Call[Reply]:
    """Return the call of an RPC.

    Args:
        rpc: the RPC's row in the table.
        request: the request.
        images: the request's images, for error messages.
    """
    return Call(rpc.path, rpc.request.encode(request), rpc.response.decode, names_of(images))


def extract(request: ExtractRequest, memory: Array | None = None) -> Call[Features]:
    """Return the call that extracts features.

    Args:
        request: what to extract.
        memory: the bytes of the shared memory region that the request names, if it names one.
    """

    def decode(data: bytes) -> Features:
        return features_of(wire.read_extract_response(data, memory), expressions(request))

    return Call(rpcs.EXTRACT.path, rpcs.EXTRACT.request.encode(request), decode, names_of(request.images))


def extract_in_chunks(request: ExtractRequest) -> Exchange[Features]:
    """Return the exchange that extracts features and receives them in chunks."""
    messages = (wire.encode_stream_open(request), wire.encode_stream_batch("0", request))
    assembler, images = wire.Assembler(), names_of(request.images)

    def add(message: bytes) -> Features | None:
        if (ended := assembler.add(message)) is None:
            return None
        _, answer = ended
        if isinstance(answer, LayertapError):
            raise about_image_of(answer, images)
        return features_of(answer, expressions(request))

    return Exchange(rpcs.EXTRACT_STREAM.path, messages, add)


def inspect(request: InspectRequest) -> Call[InspectResponse]:
    """Return the call that computes statistics of layers."""
    return call_of(rpcs.INSPECT_LAYERS, request, request.images)


def apply_blocks_in_chunks(request: ApplyRequest) -> Exchange[FeatureMap]:
    """Return the exchange that applies a head to an array and receives the result in chunks."""
    message = wire.encode_apply_stream_request(request)
    return Exchange(rpcs.APPLY_BLOCKS_STREAM.path, (message,), wire.AppliedFeature().add)


def attribute(request: AttributeRequest) -> Exchange[Attribution]:
    """Return the exchange that receives maps of how much each position contributed to a target."""
    return Exchange(rpcs.ATTRIBUTE.path, (wire.encode_attribute_request(request),), wire.ReceivedAttribution().add)


def weights(request: WeightsRequest) -> Exchange[dict[str, Array]]:
    """Return the exchange that receives the parameters of layers in chunks."""
    message = wire.encode_weights_request(request)
    return Exchange(rpcs.GET_WEIGHTS.path, (message,), wire.ReceivedWeights().add)


def health() -> Call[None]:
    """Return the call that checks whether the server is ready; it raises `UnavailableError` if not."""

    def decode(data: bytes) -> None:
        if data != _SERVING:
            raise UnavailableError("the server runs but is not ready yet; try again later")

    return Call(_HEALTH, b"", decode)


def expressions(request: ExtractRequest) -> tuple[str, ...]:
    """Return the request's taps as tap expressions, which also serve as keys of the results."""
    return tuple(tap if isinstance(tap, str) else format_tap(tap) for tap in request.taps)


def names_of(images: Sequence[ImagePayload]) -> tuple[str, ...]:
    """Return each image's file path for error messages; empty for an image that is not a file."""
    return tuple(image.name if isinstance(image, EncodedImage) else "" for image in images)
