"""Every call that a client can make, as a value: the method, the bytes to send, and how the answer is read. No I/O.

The two clients send them; what a call means is written here once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import grpc

from layertap import wire
from layertap._connection import LARGEST_MESSAGE_BYTES
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
    Features,
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
"""What grpc.aio says by itself, as INTERNAL, where the other side ended a stream before it had taken all."""
_TOO_LARGE = re.compile(r"Received message larger than max \((\d+) vs\. (\d+)\)")
"""gRPC's own words. The limit is the server's, of requests, or that of the client's channel."""
_HEALTH = "/grpc.health.v1.Health/Check"
_SERVING = b"\x08\x01"
"""The HealthCheckResponse of a server that is ready: its one field is 1."""
_FEATURES, _MODELS, _MEMORY = (
    f"/layertap.v1.{name}/" for name in ("FeatureService", "ModelService", "SharedMemoryService")
)
EXTRACT_STREAM = f"{_FEATURES}ExtractStream"


@dataclass(frozen=True, slots=True)
class Call(Generic[Reply]):
    """One question and one answer."""

    method: str
    """gRPC's path of it."""
    request: bytes
    decode: Callable[[bytes], Reply]
    images: tuple[str, ...] = ()
    """What messages call the request's images; an empty name for one that has none."""


@dataclass(frozen=True, slots=True)
class Exchange(Generic[Reply]):
    """A question whose answer comes in chunks: half the time for an answer of many megabytes."""

    method: str
    """gRPC's path of it."""
    messages: tuple[bytes, ...]
    add: Callable[[bytes], Reply | None]
    """Takes a message; returns the answer when this message ends it, raises the `LayertapError` that is the answer."""


def extract(request: ExtractRequest, memory: Array | None = None) -> Call[Features]:
    """``memory`` is the region that the request names, as bytes."""

    def decode(data: bytes) -> Features:
        return wire.read_extract_response(data, expressions(request), memory)

    message = wire.encode_extract_request(request).SerializeToString()
    return Call(f"{_FEATURES}Extract", message, decode, names_of(request.images))


def extract_in_chunks(request: ExtractRequest) -> Exchange[Features]:
    messages = (wire.encode_stream_open(request), wire.encode_stream_batch("0", request))
    assembler, images = wire.Assembler(expressions(request)), names_of(request.images)

    def add(message: bytes) -> Features | None:
        if (ended := assembler.add(message)) is None:
            return None
        _, answer = ended
        if isinstance(answer, LayertapError):
            raise _about_image(answer, images)
        return answer

    return Exchange(EXTRACT_STREAM, messages, add)


def preview(request: PreviewRequest) -> Call[Preview]:
    def decode(data: bytes) -> Preview:
        return wire.decode_preview(feature_pb.PreviewExtractResponse.FromString(data))

    return Call(f"{_FEATURES}PreviewExtract", wire.encode_preview_request(request).SerializeToString(), decode)


def inspect(request: InspectRequest) -> Call[tuple[tuple[LayerStatistics, ...], str]]:
    """Its answer is the statistics, and the preprocessing that was assumed."""

    def decode(data: bytes) -> tuple[tuple[LayerStatistics, ...], str]:
        message = feature_pb.InspectLayersResponse.FromString(data)
        return wire.decode_statistics(message), message.assumed_preprocessing

    message = wire.encode_inspect_request(request).SerializeToString()
    return Call(f"{_FEATURES}InspectLayers", message, decode, names_of(request.images))


def apply_blocks(request: ApplyRequest) -> Call[FeatureMap]:
    message = wire.encode_apply_request(request).SerializeToString()
    return Call(f"{_FEATURES}ApplyBlocks", message, wire.read_apply_response)


def apply_blocks_in_chunks(request: ApplyRequest) -> Exchange[FeatureMap]:
    message = wire.encode_apply_stream_request(request)
    return Exchange(f"{_FEATURES}ApplyBlocksStream", (message,), wire.AppliedFeature().add)


def models() -> Call[list[ModelInfo]]:
    def decode(data: bytes) -> list[ModelInfo]:
        return [wire.decode_model(model) for model in model_pb.ListModelsResponse.FromString(data).models]

    return Call(f"{_MODELS}ListModels", model_pb.ListModelsRequest().SerializeToString(), decode)


def model(name: str, version: str) -> Call[ModelInfo]:
    def decode(data: bytes) -> ModelInfo:
        return wire.decode_model(model_pb.GetModelResponse.FromString(data).model)

    request = model_pb.GetModelRequest(model=name, version=version)
    return Call(f"{_MODELS}GetModel", request.SerializeToString(), decode)


def layers(name: str, selector: str, version: str) -> Call[list[LayerInfo]]:
    def decode(data: bytes) -> list[LayerInfo]:
        return [wire.decode_layer(layer) for layer in model_pb.ListLayersResponse.FromString(data).layers]

    request = model_pb.ListLayersRequest(model=name, version=version, selector=selector)
    return Call(f"{_MODELS}ListLayers", request.SerializeToString(), decode)


def blocks(name: str) -> Call[list[BlockSpec]]:
    def decode(data: bytes) -> list[BlockSpec]:
        return [wire.decode_block_spec(block) for block in model_pb.ListBlocksResponse.FromString(data).blocks]

    return Call(f"{_MODELS}ListBlocks", model_pb.ListBlocksRequest(name=name).SerializeToString(), decode)


def load_model(name: str) -> Call[ModelInfo]:
    def decode(data: bytes) -> ModelInfo:
        return wire.decode_model(model_pb.LoadModelResponse.FromString(data).model)

    return Call(f"{_MODELS}LoadModel", model_pb.LoadModelRequest(model=name).SerializeToString(), decode)


def unload_model(name: str) -> Call[None]:
    return Call(f"{_MODELS}UnloadModel", model_pb.UnloadModelRequest(model=name).SerializeToString(), _nothing)


def health() -> Call[None]:
    """The question whether the server is ready; its answer raises `UnavailableError` where it is not."""

    def decode(data: bytes) -> None:
        if data != _SERVING:
            raise UnavailableError("the server is there and not ready")

    return Call(_HEALTH, b"", decode)


def register_region(key: str, byte_size: int) -> Call[str]:
    def decode(data: bytes) -> str:
        return str(memory_pb.RegisterRegionResponse.FromString(data).region)

    request = memory_pb.RegisterRegionRequest(key=key, byte_size=byte_size)
    return Call(f"{_MEMORY}RegisterRegion", request.SerializeToString(), decode)


def unregister_region(name: str) -> Call[None]:
    request = memory_pb.UnregisterRegionRequest(region=name)
    return Call(f"{_MEMORY}UnregisterRegion", request.SerializeToString(), _nothing)


def _nothing(_: bytes) -> None:
    """An answer that says nothing."""


def expressions(request: ExtractRequest) -> tuple[str, ...]:
    """The request's taps as text, by which results are found too."""
    return tuple(tap if isinstance(tap, str) else format_tap(tap) for tap in request.taps)


def names_of(images: Sequence[ImagePayload]) -> tuple[str, ...]:
    """Return what messages call the images: the path of a file, and nothing for any other."""
    return tuple(image.name if isinstance(image, EncodedImage) else "" for image in images)


def _about_image(error: LayertapError, images: tuple[str, ...]) -> LayertapError:
    """Name the file that the error is about, if it is about one."""
    index = -1 if error.index is None else error.index
    name = images[index] if 0 <= index < len(images) else ""
    return error.about_image(name) if name else error


def error_of(error: grpc.RpcError, address: str = "the server", images: tuple[str, ...] = ()) -> LayertapError:
    """Return the error that the server raised, or the one that says why nothing at ``address`` answered."""
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return LayertapError(str(error))
    details = error.details() or error.code().name
    if "RST_STREAM" in details:  # what a load balancer does with a call whose server is gone
        return UnavailableError(details)
    if details == _SEND_FAILED:
        return UnavailableError("the call ended while a message was on its way")
    if (sizes := _TOO_LARGE.search(details)) and int(sizes[2]) < LARGEST_MESSAGE_BYTES:
        message = (
            f"the request has {sizes[1]} bytes and the server takes {sizes[2]}: send fewer or smaller images at once"
        )
        return RequestTooLargeError(message, limit=int(sizes[2]), bytes=int(sizes[1]))
    trailers = {key: value for key, value in error.trailing_metadata() or () if isinstance(value, bytes)}
    trailer, status = trailers.get("grpc-status-details-bin", b""), error.code().name
    reason = None if trailer else explain(status, details, address)
    return _about_image(reason or wire.decode_error(status, details, trailer), images)
