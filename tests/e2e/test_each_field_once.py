"""Test that no response of any RPC repeats a field, since not every protobuf library merges repeated fields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import status_pb2

from layertap import Client, _calls, wire
from layertap._shared_memory import new_region
from layertap.images import to_payloads
from layertap.types import ApplyRequest, Array, ExtractRequest, RegisterRegionRequest, UnregisterRegionRequest
from layertap.v1 import feature_service_pb2 as pb
from layertap.v1 import model_service_pb2 as models_pb
from layertap.wire import rpcs
from tests.paths import MODEL
from tests.processes import ServerProcess, running_server
from tests.strict_wire import check_once

FEATURES, MODELS = "/layertap.v1.FeatureService/", "/layertap.v1.ModelService/"
SMALL, LARGE = ("stage:1 | gap | quantize -> q", "logits | softmax"), ("stem", "stage:5 | quantize -> q")


@pytest.fixture(scope="module")
def sharing() -> Iterator[ServerProcess]:
    """Start a server with shared memory."""
    with running_server("--shared-memory") as server:
        yield server


@pytest.fixture
def channel(sharing: ServerProcess) -> Iterator[grpc.Channel]:
    """Open a channel to the server."""
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(sharing.address, options) as opened:
        yield opened


def request_of(cat: Array, taps: tuple[str, ...], region: str = "") -> ExtractRequest:
    """Return a request for two images."""
    return ExtractRequest(MODEL, to_payloads([cat, cat[::-1].copy()]), taps, region=region)


@pytest.mark.parametrize("taps", [SMALL, LARGE])
def test_extract(channel: Any, cat: Array, taps: tuple[str, ...]) -> None:
    request = wire.encode_extract_request(request_of(cat, taps))
    answer = channel.unary_unary(f"{FEATURES}Extract")(request.SerializeToString(), timeout=30)
    check_once(answer, pb.ExtractResponse.DESCRIPTOR)
    assert pb.ExtractResponse.FromString(answer).SerializeToString() == answer


def test_extract_into_shared_memory(sharing: ServerProcess, channel: Any, cat: Array) -> None:
    with Client(sharing.address) as client, new_region(2**26) as (key, _memory):
        region = client._call(_calls.call_of(rpcs.REGISTER_REGION, RegisterRegionRequest(key, 2**26)), 10)
        request = wire.encode_extract_request(request_of(cat, LARGE, region))
        answer = channel.unary_unary(f"{FEATURES}Extract")(request.SerializeToString(), timeout=30)
        client._call(_calls.call_of(rpcs.UNREGISTER_REGION, UnregisterRegionRequest(region)), 10)
    assert pb.ExtractResponse.FromString(answer).features[0].tensor.HasField("shared")
    check_once(answer, pb.ExtractResponse.DESCRIPTOR)


@pytest.mark.parametrize(("taps", "kind"), [(SMALL, "result"), (LARGE, "chunk")])
def test_a_stream(channel: Any, cat: Array, taps: tuple[str, ...], kind: str) -> None:
    request = request_of(cat, taps)
    messages = [
        wire.encode_stream_open(request, 100_000),
        wire.encode_stream_batch("a", request),
        wire.encode_stream_batch("", request),
        wire.encode_stream_batch("bad", ExtractRequest(MODEL, ())),
    ]
    answers = list(channel.stream_stream(f"{FEATURES}ExtractStream")(iter(messages), timeout=30))
    for answer in answers:
        check_once(answer, pb.ExtractStreamResponse.DESCRIPTOR)
    kinds = {pb.ExtractStreamResponse.FromString(answer).WhichOneof("message") for answer in answers}
    assert {"opened", "error", kind} <= kinds


@pytest.mark.parametrize("array", [np.ones((1, 2), np.float32), np.ones((2, 3, 300, 300), np.float32)])
def test_apply_blocks(channel: Any, array: Array) -> None:
    request = ApplyRequest(array, "relu")
    answer = channel.unary_unary(f"{FEATURES}ApplyBlocks")(wire.encode_apply_request(request).SerializeToString())
    check_once(answer, pb.ApplyBlocksResponse.DESCRIPTOR)
    np.testing.assert_array_equal(wire.read_apply_response(answer).array, array)
    assembled = wire.AppliedFeature()
    asked = wire.encode_apply_stream_request(request, 4096)
    for message in channel.unary_stream(f"{FEATURES}ApplyBlocksStream")(asked, timeout=30):
        check_once(message, pb.ApplyBlocksStreamResponse.DESCRIPTOR)
        result = assembled.add(message)
    assert result is not None
    np.testing.assert_array_equal(result.array, array)


OTHERS = {
    f"{FEATURES}PreviewExtract": (pb.PreviewExtractRequest(model=MODEL), pb.PreviewExtractResponse.DESCRIPTOR),
    f"{MODELS}ListModels": (models_pb.ListModelsRequest(), models_pb.ListModelsResponse.DESCRIPTOR),
    f"{MODELS}GetModel": (models_pb.GetModelRequest(model=MODEL), models_pb.GetModelResponse.DESCRIPTOR),
    f"{MODELS}ListLayers": (models_pb.ListLayersRequest(model=MODEL), models_pb.ListLayersResponse.DESCRIPTOR),
    f"{MODELS}ListBlocks": (models_pb.ListBlocksRequest(), models_pb.ListBlocksResponse.DESCRIPTOR),
}


@pytest.mark.parametrize("method", OTHERS)
def test_everything_else(channel: Any, method: str) -> None:
    request, descriptor = OTHERS[method]
    answer = channel.unary_unary(method)(request.SerializeToString(), timeout=30)
    assert answer
    check_once(answer, descriptor)


def test_statistics(channel: Any, cat: Array) -> None:
    images = wire.encode_extract_request(request_of(cat, ())).images
    request = pb.InspectLayersRequest(model=MODEL, images=images)
    answer = channel.unary_unary(f"{FEATURES}InspectLayers")(request.SerializeToString(), timeout=60)
    check_once(answer, pb.InspectLayersResponse.DESCRIPTOR)


def test_errors(channel: Any) -> None:
    unknown = models_pb.GetModelRequest(model="none")
    for method, sent in (
        (f"{FEATURES}Extract", pb.ExtractRequest(model=MODEL).SerializeToString()),
        (f"{MODELS}GetModel", unknown.SerializeToString()),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(method)(sent, timeout=10)
        trailers: dict[Any, Any] = dict(caught.value.trailing_metadata())  # type: ignore[arg-type] # the stubs are wrong
        check_once(trailers["grpc-status-details-bin"], status_pb2.Status.DESCRIPTOR)
