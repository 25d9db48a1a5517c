"""Tests that failed calls leave no memory in use, even if Python's cyclic garbage collector never runs."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from layertap import wire
from layertap.errors import InvalidRequestError
from layertap.types import EncodedImage, ExtractRequest, ExtractResponse, FeatureMap, Timing
from layertap.v1 import feature_service_pb2 as pb
from layertap.wire import rpcs
from layertap_server.request.context import RequestContext
from layertap_server.rpc.calls import Call, Messages, StreamTools
from layertap_server.rpc.dispatch import Dispatcher
from layertap_server.rpc.stream import ExtractStream
from layertap_server.rpc.worker_pool import QueueLimits

SIZE = 4 * 2**20
"""Bytes of the image of each request."""
CALLS = 12
"""Number of calls between the measurements."""
MOST_LEFT = 3
"""Maximum number of requests still in memory at the second measurement, since the last ones may not be freed yet."""


class Refusing:
    """A service that decodes its requests and refuses each with a chained error, or returns large responses."""

    def unary(self, request: bytes, context: RequestContext) -> bytes:
        """Refuse a unary request."""
        self.extract(rpcs.EXTRACT.request.decode(request), context)
        raise AssertionError("it refuses")

    def extract(self, request: ExtractRequest, _context: RequestContext) -> ExtractResponse:
        """Return large features for the model ``large``, and refuse requests for other models."""
        if request.model == "large":
            array = np.ones((1, SIZE // 4), np.float32)
            return ExtractResponse((FeatureMap("x", array, "x"),), "m", "1", Timing(0, 0, 0, 0))
        kept = None
        try:
            (image,) = request.images
            int(str(image))
        except ValueError as error:
            kept = InvalidRequestError("refused")
            raise kept from error
        raise AssertionError("an image is no number")

    async def stream(self, messages: Messages, call: Call, tools: StreamTools) -> None:
        """Serve a stream with `extract`."""
        await ExtractStream(self.extract, lambda _request, _context: ("m", "1"), tools).serve(messages, call)


@contextlib.asynccontextmanager
async def serving(dispatcher: Dispatcher) -> AsyncIterator[Any]:
    """Yield a channel to a server in this process with the refusing service."""
    service = Refusing()
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    handler = dispatcher.service({rpcs.EXTRACT: service.unary, rpcs.EXTRACT_STREAM: service.stream})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)
    dispatcher.close()


@pytest.fixture
def _no_collector() -> Iterator[None]:
    """Disable the cyclic garbage collector and trace allocations during a test."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    yield
    tracemalloc.stop()
    gc.enable()


IMAGE = ExtractRequest("m", (EncodedImage(bytes(SIZE)),), ("stage:1",))
REQUEST = wire.encode_extract_request(IMAGE).SerializeToString()
OPENING, ITEM = wire.encode_stream_open(IMAGE), wire.encode_stream_batch("a", IMAGE)
NONSENSE = b"\xff" * SIZE
"""Messages created once, so that references of the client to them do not count."""


async def fail(channel: Any) -> None:
    """Send a request that the service refuses."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary(rpcs.EXTRACT.path)(REQUEST)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def send_nonsense(channel: Any) -> None:
    """Send bytes that are not a message."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary(rpcs.EXTRACT.path)(NONSENSE)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def go_away(channel: Any) -> None:
    """Send a request whose deadline passes at once."""
    call = channel.unary_unary(rpcs.EXTRACT.path)(REQUEST, timeout=0.003)
    with pytest.raises(grpc.aio.AioRpcError):
        await call


async def fail_in_a_stream(channel: Any) -> None:
    """Send a stream item that the service refuses."""

    async def messages() -> AsyncIterator[bytes]:
        yield OPENING
        yield ITEM

    answers = [answer async for answer in channel.stream_stream(rpcs.EXTRACT_STREAM.path)(messages())]
    assert pb.ExtractStreamResponse.FromString(answers[-1]).error.message == "refused"


async def leave_a_stream(channel: Any) -> None:
    """Cancel a stream after its first item was refused."""

    async def messages() -> AsyncIterator[bytes]:
        yield OPENING
        yield ITEM
        await asyncio.sleep(3600)

    call = channel.stream_stream(rpcs.EXTRACT_STREAM.path)(messages())
    await call.read()
    await call.read()
    call.cancel()


async def leave_answers_unread(channel: Any) -> None:
    """Cancel a stream before its large responses were read."""

    async def messages() -> AsyncIterator[bytes]:
        yield wire.encode_stream_open(ExtractRequest("large", (), ("stage:1",)))
        for _ in range(4):
            yield ITEM
        await asyncio.sleep(3600)

    call = channel.stream_stream(rpcs.EXTRACT_STREAM.path)(messages())
    await call.read()
    await call.read()
    call.cancel()


FAILURES = [leave_answers_unread, fail, send_nonsense, go_away, fail_in_a_stream, leave_a_stream]


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.__name__)
def test_failed_calls_leave_nothing_in_memory(failure: Callable[[Any], Awaitable[None]]) -> None:
    async def main() -> None:
        dispatcher = Dispatcher(1, QueueLimits(8, 2**30))
        async with serving(dispatcher) as channel:
            await failure(channel)
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(CALLS):
                await failure(channel)
            for _ in range(1000):  # gRPC frees the calls that a caller has left a little after the dispatcher is idle
                after, _ = tracemalloc.get_traced_memory()
                if not dispatcher.is_busy and after - before < MOST_LEFT * SIZE:
                    break
                await asyncio.sleep(0.01)
            assert after - before < MOST_LEFT * SIZE, f"{(after - before) / SIZE:.1f} of {CALLS} requests are left"

    asyncio.run(main())
