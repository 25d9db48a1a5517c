"""Requests, replies and error mapping without I/O, shared by the clients."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import grpc

from layertap import wire
from layertap.blocks.spec import BlockSpec
from layertap.errors import LayertapError
from layertap.expression import format_tap
from layertap.images import ImageLike, to_payloads
from layertap.types import Array, ExtractRequest, Features, LayerInfo, ModelInfo, Tap, as_sequence
from layertap.v1 import feature_service_pb2 as feature_pb  # noqa: TID251 - a client sends messages
from layertap.v1 import model_service_pb2 as model_pb  # noqa: TID251 - a client sends messages

DEFAULT_ADDRESS = "localhost:8001"
DEFAULT_TIMEOUT_SECONDS = 30.0
LARGEST_MESSAGE_BYTES = 512 * 2**20
"""Above the server's own limit on answers, so that it is the server that says what is too large."""

EXTRACT_STREAM = "/layertap.v1.FeatureService/ExtractStream"
LARGE_BYTES = 2**20
"""From here on an answer travels in chunks."""
MOST_KINDS = 1000
ROOM_FOR_ALIGNMENT = 2**16
MOST_REOPENINGS = 8
BACKOFF_SECONDS = 0.1
LONGEST_BACKOFF_SECONDS = 3.0

_RETRY = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": ""},
    "methodConfig": [{"name": [{}], "retryPolicy": _RETRY}],
}


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """How a client connects."""

    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    credentials: grpc.ChannelCredentials | None = None
    grpc_options: Sequence[tuple[str, str | int]] = ()

    def channel_options(self) -> list[tuple[str, str | int]]:
        """gRPC's channel arguments; the caller's own come last and win."""
        return [
            ("grpc.max_receive_message_length", LARGEST_MESSAGE_BYTES),
            ("grpc.max_send_message_length", LARGEST_MESSAGE_BYTES),
            ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
            # A server that is started anew is found within seconds; gRPC's own default waits up to two minutes.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 3000),
            # A request over this size is not retried, silently; gRPC's default is 256 KiB, less than many an image.
            ("grpc.per_rpc_retry_buffer_size", 16 * 2**20),
            *self.grpc_options,
        ]


def target(address: str) -> str:
    """gRPC's name for the address: all hosts behind a name share the calls."""
    has_scheme = "://" in address or address.split(":", 1)[0] in {"unix", "dns", "ipv4", "ipv6", "xds"}
    return address if has_scheme else f"dns:///{address}"


def extract_request(
    images: ImageLike | Iterable[ImageLike],
    model: str,
    taps: Tap | str | Sequence[Tap | str],
    version: str,
    inputs: Mapping[str, Array] | None,
) -> ExtractRequest:
    return ExtractRequest(model, to_payloads(images), as_sequence(taps), version, inputs or {})


def extract_reply(request: ExtractRequest, message: feature_pb.ExtractResponse) -> Features:
    return wire.decode_extract_response(message, expressions(request))


def expressions(request: ExtractRequest) -> tuple[str, ...]:
    """The request's taps as text, by which results are found too."""
    return tuple(tap if isinstance(tap, str) else format_tap(tap) for tap in request.taps)


class LargeAnswers:
    """Which requests have large answers, learned from their first: those travel in chunks from then on."""

    def __init__(self) -> None:
        self._bytes_per_image: dict[tuple[str, str, tuple[Tap | str, ...]], float] = {}

    def is_large(self, request: ExtractRequest) -> bool:
        return self._bytes_per_image.get(_kind(request), 0) * len(request.images) > LARGE_BYTES

    def bytes_of(self, request: ExtractRequest) -> int:
        """How much room the answer needs, alignment included."""
        return int(self._bytes_per_image[_kind(request)] * len(request.images)) + ROOM_FOR_ALIGNMENT

    def learn(self, request: ExtractRequest, features: Features) -> None:
        size = sum(array.nbytes for array in features.values()) / max(len(request.images), 1)
        if size * len(request.images) > LARGE_BYTES or _kind(request) in self._bytes_per_image:
            if len(self._bytes_per_image) >= MOST_KINDS:
                self._bytes_per_image.clear()
            self._bytes_per_image[_kind(request)] = size


def _kind(request: ExtractRequest) -> tuple[str, str, tuple[Tap | str, ...]]:
    return request.model, request.version, request.taps


def models_reply(message: model_pb.ListModelsResponse) -> list[ModelInfo]:
    return [wire.decode_model(model) for model in message.models]


def layers_reply(message: model_pb.ListLayersResponse) -> list[LayerInfo]:
    return [wire.decode_layer(layer) for layer in message.layers]


def blocks_reply(message: model_pb.ListBlocksResponse) -> list[BlockSpec]:
    return [wire.decode_block_spec(block) for block in message.blocks]


def error_of(error: grpc.RpcError) -> LayertapError:
    """The error that the server raised, or the one that says why there was no answer."""
    if not isinstance(error, grpc.Call):
        return LayertapError(str(error))
    trailers = {key: value for key, value in error.trailing_metadata() or () if isinstance(value, bytes)}
    details = error.details() or error.code().name
    return wire.decode_error(error.code().name, details, trailers.get("grpc-status-details-bin", b""))
