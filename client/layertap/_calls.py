"""Describe every call that a client can make: the method, the request's bytes, and how to decode the response. No I/O.

The blocking client and the asyncio client both send the calls built here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import grpc

from layertap import wire
from layertap._connection import LARGEST_MESSAGE_BYTES
from layertap._features import Features
from layertap._unreachable import explain
from layertap.blocks.spec import BlockSpec
from layertap.errors import LayertapError, RequestTooLargeError, UnavailableError
from layertap.expression import format_tap
from layertap.types import (
    ApplyRequest,
    Array,
    EncodedImage,
    ExtractRequest,
    FeatureMap,
    ImagePayload,
    InspectRequest,
    LayerInfo,
    LayerStatistics,
    ModelInfo,
    Preview,
    PreviewRequest,
)
from layertap.v1 import feature_service_pb2 as feature_pb  # noqa: TID251 - a client sends messages
from layertap.v1 import model_service_pb2 as model_pb  # noqa: TID251 - a client sends messages
from layertap.v1 import shared_memory_service_pb2 as memory_pb  # noqa: TID251 - a client sends messages

Reply = TypeVar("Reply")
_SEND_FAILED = "Internal error from Core"
"""Details of grpc.aio's own INTERNAL error for a stream that the server ended before it had read every message."""
_TOO_LARGE = re.compile(r"Received message larger than max \((\d+) vs\. (\d+)\)")
"""Details of gRPC's error for a message over the limit of the server, or over that of the client's channel."""
_HEALTH = "/grpc.health.v1.Health/Check"
"""gRPC's path of the health check."""
_SERVING = b"\x08\x01"
"""The HealthCheckResponse of a ready server: its only field has the value 1 (SERVING)."""
_FEATURES, _MODELS, _MEMORY = (
    f"/layertap.v1.{name}/" for name in ("FeatureService", "ModelService", "SharedMemoryService")
)
EXTRACT_STREAM = f"{_FEATURES}ExtractStream"
"""gRPC's path of ExtractStream."""


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


def extract(request: ExtractRequest, memory: Array | None = None) -> Call[Features]:
    """Return the call that extracts features.

    Args:
        request: what to extract.
        memory: the bytes of the shared memory region that the request names, if it names one.
    """

    def decode(data: bytes) -> Features:
        return Features.of(wire.read_extract_response(data, memory), expressions(request))

    message = wire.encode_extract_request(request).SerializeToString()
    return Call(f"{_FEATURES}Extract", message, decode, names_of(request.images))


def extract_in_chunks(request: ExtractRequest) -> Exchange[Features]:
    """Return the exchange that extracts features and receives them in chunks."""
    messages = (wire.encode_stream_open(request), wire.encode_stream_batch("0", request))
    assembler, images = wire.Assembler(), names_of(request.images)

    def add(message: bytes) -> Features | None:
        if (ended := assembler.add(message)) is None:
            return None
        _, answer = ended
        if isinstance(answer, LayertapError):
            raise _about_image(answer, images)
        return Features.of(answer, expressions(request))

    return Exchange(EXTRACT_STREAM, messages, add)


def preview(request: PreviewRequest) -> Call[Preview]:
    """Return the call that previews an extraction."""

    def decode(data: bytes) -> Preview:
        return wire.decode_preview(feature_pb.PreviewExtractResponse.FromString(data))

    return Call(f"{_FEATURES}PreviewExtract", wire.encode_preview_request(request).SerializeToString(), decode)


def inspect(request: InspectRequest) -> Call[tuple[tuple[LayerStatistics, ...], str]]:
    """Return the call that computes statistics of layers; its response also has the assumed preprocessing."""

    def decode(data: bytes) -> tuple[tuple[LayerStatistics, ...], str]:
        message = feature_pb.InspectLayersResponse.FromString(data)
        return wire.decode_statistics(message), message.assumed_preprocessing

    message = wire.encode_inspect_request(request).SerializeToString()
    return Call(f"{_FEATURES}InspectLayers", message, decode, names_of(request.images))


def apply_blocks(request: ApplyRequest) -> Call[FeatureMap]:
    """Return the call that applies a head to an array."""
    message = wire.encode_apply_request(request).SerializeToString()
    return Call(f"{_FEATURES}ApplyBlocks", message, wire.read_apply_response)


def apply_blocks_in_chunks(request: ApplyRequest) -> Exchange[FeatureMap]:
    """Return the exchange that applies a head to an array and receives the result in chunks."""
    message = wire.encode_apply_stream_request(request)
    return Exchange(f"{_FEATURES}ApplyBlocksStream", (message,), wire.AppliedFeature().add)


def models() -> Call[list[ModelInfo]]:
    """Return the call that lists all models."""

    def decode(data: bytes) -> list[ModelInfo]:
        return [wire.decode_model(model) for model in model_pb.ListModelsResponse.FromString(data).models]

    return Call(f"{_MODELS}ListModels", model_pb.ListModelsRequest().SerializeToString(), decode)


def model(name: str, version: str) -> Call[ModelInfo]:
    """Return the call that describes one model."""

    def decode(data: bytes) -> ModelInfo:
        return wire.decode_model(model_pb.GetModelResponse.FromString(data).model)

    request = model_pb.GetModelRequest(model=name, version=version)
    return Call(f"{_MODELS}GetModel", request.SerializeToString(), decode)


def layers(name: str, selector: str, version: str) -> Call[list[LayerInfo]]:
    """Return the call that lists a model's layers."""

    def decode(data: bytes) -> list[LayerInfo]:
        return [wire.decode_layer(layer) for layer in model_pb.ListLayersResponse.FromString(data).layers]

    request = model_pb.ListLayersRequest(model=name, version=version, selector=selector)
    return Call(f"{_MODELS}ListLayers", request.SerializeToString(), decode)


def blocks(name: str) -> Call[list[BlockSpec]]:
    """Return the call that lists the block catalogue, or one entry of it."""

    def decode(data: bytes) -> list[BlockSpec]:
        return [wire.decode_block_spec(block) for block in model_pb.ListBlocksResponse.FromString(data).blocks]

    return Call(f"{_MODELS}ListBlocks", model_pb.ListBlocksRequest(name=name).SerializeToString(), decode)


def load_model(name: str) -> Call[ModelInfo]:
    """Return the call that loads or reloads a model."""

    def decode(data: bytes) -> ModelInfo:
        return wire.decode_model(model_pb.LoadModelResponse.FromString(data).model)

    return Call(f"{_MODELS}LoadModel", model_pb.LoadModelRequest(model=name).SerializeToString(), decode)


def unload_model(name: str) -> Call[None]:
    """Return the call that unloads a model."""
    return Call(f"{_MODELS}UnloadModel", model_pb.UnloadModelRequest(model=name).SerializeToString(), _nothing)


def health() -> Call[None]:
    """Return the call that checks whether the server is ready; it raises `UnavailableError` if not."""

    def decode(data: bytes) -> None:
        if data != _SERVING:
            raise UnavailableError("the server runs but is not ready yet; try again later")

    return Call(_HEALTH, b"", decode)


def register_region(key: str, byte_size: int) -> Call[str]:
    """Return the call that registers a shared memory region; its response is the region's name."""

    def decode(data: bytes) -> str:
        return str(memory_pb.RegisterRegionResponse.FromString(data).region)

    request = memory_pb.RegisterRegionRequest(key=key, byte_size=byte_size)
    return Call(f"{_MEMORY}RegisterRegion", request.SerializeToString(), decode)


def unregister_region(name: str) -> Call[None]:
    """Return the call that releases a shared memory region."""
    request = memory_pb.UnregisterRegionRequest(region=name)
    return Call(f"{_MEMORY}UnregisterRegion", request.SerializeToString(), _nothing)


def _nothing(_: bytes) -> None:
    """Decode an empty response."""


def expressions(request: ExtractRequest) -> tuple[str, ...]:
    """Return the request's taps as tap expressions, which also serve as keys of the results."""
    return tuple(tap if isinstance(tap, str) else format_tap(tap) for tap in request.taps)


def names_of(images: Sequence[ImagePayload]) -> tuple[str, ...]:
    """Return each image's file path for error messages; empty for an image that is not a file."""
    return tuple(image.name if isinstance(image, EncodedImage) else "" for image in images)


def _about_image(error: LayertapError, images: tuple[str, ...]) -> LayertapError:
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
    return _about_image(reason or wire.decode_error(status, details, trailer), images)
