"""Every call that a client can make, as a value: the method, the bytes to send, and how the answer is read. No I/O.

The two clients send them; what a call means is written here once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import grpc

from layertap import wire
from layertap._connection import LARGEST_MESSAGE_BYTES
from layertap.blocks.spec import BlockSpec
from layertap.errors import LayertapError, RequestTooLargeError, UnavailableError
from layertap.expression import format_tap
from layertap.types import (
    ApplyRequest,
    Array,
    ExtractRequest,
    FeatureMap,
    Features,
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

    return Call(f"{_FEATURES}Extract", wire.encode_extract_request(request).SerializeToString(), decode)


def extract_in_chunks(request: ExtractRequest) -> Exchange[Features]:
    messages = (wire.encode_stream_open(request), wire.encode_stream_batch("0", request))
    assembler = wire.Assembler(expressions(request))

    def add(message: bytes) -> Features | None:
        if (ended := assembler.add(message)) is None:
            return None
        _, answer = ended
        if isinstance(answer, LayertapError):
            raise answer
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

    return Call(f"{_FEATURES}InspectLayers", wire.encode_inspect_request(request).SerializeToString(), decode)


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


def error_of(error: grpc.RpcError) -> LayertapError:
    """The error that the server raised, or the one that says why there was no answer."""
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
    return wire.decode_error(error.code().name, details, trailers.get("grpc-status-details-bin", b""))
