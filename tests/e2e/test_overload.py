"""Test many streams, unlimited requests and repeated refusals: each call is answered, and memory stays bounded."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest

from layertap import Client, errors, wire
from layertap._rpc_errors import error_of
from layertap.types import Array, EncodedImage, ExtractRequest
from layertap.v1 import feature_service_pb2 as pb
from layertap.v1 import types_pb2 as types
from layertap.wire import rpcs
from tests.paths import EXAMPLE_PHOTO, MODEL
from tests.processes import ServerProcess, resident_bytes, running_server

FEATURES = "/layertap.v1.FeatureService/"
TAPS = ("stage:1 | gap",)
STREAMS_A_CHANNEL = 100
SECONDS = 120
"""Deadline against streams that never end; all of them together take a few seconds."""


def channels(address: str, count: int) -> list[Any]:
    """Open channels with one connection each, since a connection has at most 128 concurrent calls."""
    return [grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) for _ in range(count)]


def open_together(address: str, count: int) -> Counter[str]:
    """Open streams of one image each before any image is sent; return their messages and final statuses."""
    several = channels(address, 1 + count // STREAMS_A_CHANNEL)
    image = wire.encode_stream_batch("0", ExtractRequest(MODEL, (EncodedImage(EXAMPLE_PHOTO.read_bytes()),)))
    opened, seen, lock = threading.Barrier(count, timeout=SECONDS), Counter[str](), threading.Lock()

    def messages(may_send: threading.Event) -> Iterator[bytes]:
        yield wire.encode_stream_open(ExtractRequest(MODEL, (), TAPS))
        may_send.wait(SECONDS)
        yield image

    def stream(number: int) -> None:
        may_send = threading.Event()
        call = several[number % len(several)].stream_stream(rpcs.EXTRACT_STREAM.path)(
            messages(may_send), timeout=SECONDS
        )
        try:
            for message in call:
                kind = pb.ExtractStreamResponse.FromString(message).WhichOneof("message")
                with lock:
                    seen[str(kind)] += 1
                if kind == "opened":
                    opened.wait()
                    may_send.set()
            end = "OK"
        except grpc.RpcError as error:
            end = error_of(error).reason
        with lock:
            seen[end] += 1

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(stream, range(count)))
    for channel in several:
        channel.close()
    return seen


@pytest.mark.parametrize(("count", "flags"), [(400, ()), (60, ("--max-waiting", "2")), (30, ("--workers", "1"))])
def test_streams_that_send_at_the_same_moment_all_end(count: int, flags: tuple[str, ...]) -> None:
    with running_server("--log-level", "warning", *flags) as server:
        assert open_together(server.address, count) == {"opened": count, "result": count, "OK": count}
        assert open_together(server.address, 1) == {"opened": 1, "result": 1, "OK": 1}
        assert server.gauge("layertap_streams") == 0
        assert server.gauge("layertap_requests_admitted") == 0


def test_more_streams_than_may_be_open(cat: Array) -> None:
    with running_server("--max-streams", "2") as server, Client(server.address) as client:
        go_on = threading.Event()

        def messages() -> Iterator[bytes]:
            yield wire.encode_stream_open(ExtractRequest(MODEL, (), TAPS))
            go_on.wait(SECONDS)

        (channel,) = channels(server.address, 1)
        calls = [channel.stream_stream(rpcs.EXTRACT_STREAM.path)(messages(), timeout=SECONDS) for _ in range(2)]
        for call in calls:
            next(call)
        refused = channel.stream_stream(rpcs.EXTRACT_STREAM.path)(iter([]), timeout=SECONDS)
        with pytest.raises(grpc.RpcError) as caught:
            next(refused)
        error = error_of(caught.value)
        assert type(error) is errors.OverloadedError
        assert error.metadata["limit"] == "2"
        assert "--max-streams" in error.message
        assert error.retry_after
        go_on.set()
        for call in calls:
            assert list(call) == []
        assert [item.error for item in client.extract_many([cat], model=MODEL, taps=TAPS)] == [None]
        channel.close()


def test_refusals_in_a_row_keep_no_memory() -> None:
    """Refuse sixty requests of 40 MB, 2.4 GB in total; each needs a few times its size while handled."""
    size, count = 40 * 10**6, 60
    refused = pb.ExtractRequest(model=MODEL, images=[types.Image(encoded=bytes(size))]).SerializeToString()
    with running_server() as server, grpc.insecure_channel(server.address) as plain:
        channel: Any = plain
        call = channel.unary_unary(f"{FEATURES}Extract")
        before = resident_bytes(server)
        for _ in range(count):
            with pytest.raises(grpc.RpcError) as caught:
                call(refused, timeout=60)
            assert type(error_of(caught.value)) is errors.ImageDecodeError
        assert resident_bytes(server) - before < 12 * size


SHAPE = types.Tensor(dtype=types.DATA_TYPE_FLOAT32, shape=[2**31 - 1] * 3 + [0])
IMAGE = types.Image(encoded=EXAMPLE_PHOTO.read_bytes())
VALUE = types.BlockParameter(integer=1)
MANY = {
    "selectors": ("InspectLayers", pb.InspectLayersRequest(model=MODEL, images=[IMAGE], selectors=["all"] * 100_000)),
    "blocks": (
        "PreviewExtract",
        pb.PreviewExtractRequest(
            model=MODEL, taps=[types.Tap(spec=types.TapSpec(selector="stage:1", blocks=[types.Block()] * 600_000))]
        ),
    ),
    "axes": ("ApplyBlocks", pb.ApplyBlocksRequest(tensor=types.Tensor(shape=[1] * 10_000_000), expression="relu")),
    "a large shape to ApplyBlocks": ("ApplyBlocks", pb.ApplyBlocksRequest(tensor=SHAPE, expression="relu")),
    "a large shape of pixels": ("Extract", pb.ExtractRequest(model=MODEL, images=[types.Image(pixels=SHAPE)])),
    "a large shape of an input": ("Extract", pb.ExtractRequest(model=MODEL, images=[IMAGE], inputs=[SHAPE])),
    "a large shape to InspectLayers": (
        "InspectLayers",
        pb.InspectLayersRequest(model=MODEL, images=[types.Image(pixels=SHAPE)]),
    ),
}


def refusal(server: ServerProcess, method: str, request: bytes) -> errors.LayertapError:
    """Send a request that must be refused, and return the error."""
    with grpc.insecure_channel(server.address) as plain:
        channel: Any = plain
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(f"{FEATURES}{method}")(request, timeout=60)
    return error_of(caught.value)


@pytest.mark.parametrize("case", MANY)
def test_requests_without_bounds_are_invalid(server: ServerProcess, case: str) -> None:
    method, request = MANY[case]
    error = refusal(server, method, request.SerializeToString())
    assert isinstance(error, errors.InvalidRequestError), error
    assert "limit" in error.metadata
    assert "incident" not in server.log.read_text()


def test_a_large_shape_in_a_stream(server: ServerProcess) -> None:
    item = pb.ExtractStreamRequest(image=pb.ExtractStreamImage(id="a", image=types.Image(pixels=SHAPE)))
    messages = [wire.encode_stream_open(ExtractRequest(MODEL, (), TAPS)), item.SerializeToString()]
    with grpc.insecure_channel(server.address) as plain:
        channel: Any = plain
        answers = list(channel.stream_stream(rpcs.EXTRACT_STREAM.path)(iter(messages), timeout=60))
    answer = pb.ExtractStreamResponse.FromString(answers[-1])
    assert (answer.id, answer.error.reason) == ("a", "BAD_TENSOR")


def test_a_large_result_comes_in_chunks_or_not_at_all(server: ServerProcess, client: Client) -> None:
    array = np.ones((1, 12_000_000), np.float32)
    assert client.apply_blocks(array, "crelu").shape == (1, 24_000_000)
    request = pb.ApplyBlocksRequest(tensor=wire.encode_tensor(array), expression="crelu")
    error = refusal(server, "ApplyBlocks", request.SerializeToString())
    assert type(error) is errors.ResponseTooLargeError
    assert "ApplyBlocksStream" in error.message


@pytest.mark.parametrize("size", [10, 50 * 10**6], ids=["small", "large"])
def test_a_full_queue_refuses_before_it_reads(size: int, cat: Array) -> None:
    """Refuse with OVERLOADED although the request's message has not been sent."""
    refused = pb.ExtractRequest(model=MODEL, images=[types.Image(encoded=bytes(size))]).SerializeToString()
    slow = "stage:1 | " + "lcn(31) | " * 4 + "gap"
    with (
        running_server("--workers", "1", "--max-waiting", "0") as server,
        Client(server.address) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        work = pool.submit(client.extract, [cat] * 32, model=MODEL, taps=slow, timeout_seconds=SECONDS)
        server.wait_until_busy()
        error = refusal(server, "Extract", refused)
        assert not work.done()
        assert type(error) is errors.OverloadedError
        assert error.retry_after
        work.cancel()
        work.result(timeout=SECONDS)
