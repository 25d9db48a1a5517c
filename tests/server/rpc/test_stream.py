"""Tests that streams end under any order of callbacks, also if other callers call, disconnect or fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from layertap import wire
from layertap.errors import InvalidRequestError, LayertapError, OverloadedError
from layertap.types import EncodedImage, ExtractRequest, ExtractResponse, FeatureMap, Timing
from layertap_server.request.context import RequestContext
from layertap_server.rpc.calls import StreamTools
from layertap_server.rpc.stream import ExtractStream
from layertap_server.rpc.worker_pool import QueueLimits, WorkerPool
from tests.server.rpc.any_order import ORDERS, play
from tests.server.rpc.test_admission import check, steps

OPENING = ExtractRequest("m", (), ("stage:1",))
BAD = b"bad"
"""Bytes of the image that `extract` refuses."""


def extract(request: ExtractRequest, _context: RequestContext) -> ExtractResponse:
    """Return constant features, or refuse the image `BAD`."""
    (image,) = request.images
    if image == EncodedImage(BAD):
        raise InvalidRequestError("the image is bad")
    return ExtractResponse((FeatureMap("x", np.zeros((1, 2), np.float32), "x"),), "m", "1", Timing(0, 0, 0, 0))


class Caller:
    """Caller of one stream, who sends images and reads responses slowly."""

    def __init__(self, images: list[bytes]) -> None:
        """Create a caller with these images."""
        self._images = images
        self.answers: list[bytes] = []

    async def messages(self) -> AsyncIterator[bytes]:
        """Yield the opening and an item per image."""
        yield wire.encode_stream_open(OPENING)
        for number, image in enumerate(self._images):
            await steps(number % 3)
            yield wire.encode_stream_batch(str(number), ExtractRequest("m", (EncodedImage(image),)))

    async def write(self, message: bytes) -> None:
        """Receive one response message."""
        await steps(2)
        self.answers.append(message)

    @property
    def ids(self) -> list[str]:
        """Ids of the items with a complete response."""
        assembler = wire.Assembler()
        return sorted(end[0] for message in self.answers if (end := assembler.add(message)))


async def work(pool: WorkerPool) -> None:
    """Run the pool's jobs as tasks, in place of worker threads."""
    while True:
        if pool._queue.qsize():
            pool.do_next()
        await asyncio.sleep(0)


def tools_of(pool: WorkerPool, workers: int) -> StreamTools:
    """Return the tools of a stream on this pool."""

    def failure_of(error: Exception) -> LayertapError:
        assert isinstance(error, LayertapError), error
        return error

    return StreamTools(
        turn=pool.stream_turn,
        run=pool.run_in_turn,
        failure_of=failure_of,
        draining=asyncio.Event(),
        workers=workers,
        context=RequestContext(),
        finish=lambda context: context.end(),
    )


STREAMS = st.lists(
    st.tuples(st.lists(st.sampled_from([b"good", BAD]), max_size=4), st.none() | st.integers(0, 40)),
    min_size=1,
    max_size=5,
)
"""Streams: the images of each, and the step at which its caller disconnects, or None."""


@settings(max_examples=150)
@given(ORDERS, STREAMS, st.integers(1, 2), st.integers(0, 2), st.integers(0, 6))
def test_every_stream_ends(
    order: tuple[list[int], int], streams: list[tuple[list[bytes], int | None]], workers: int, room: int, others: int
) -> None:
    pool = WorkerPool(workers, QueueLimits(room, 2**20), "test", start=lambda _work, _name: None)
    callers = [Caller(images) for images, _ in streams]

    async def stream(caller: Caller, gone_after: int | None) -> None:
        answer = ExtractStream(extract, lambda _request, _context: ("m", "1"), tools_of(pool, workers)).serve(
            caller.messages(), caller
        )
        task = asyncio.create_task(answer)
        if gone_after is not None:
            await steps(gone_after)
            task.cancel()
        await asyncio.gather(task, return_exceptions=gone_after is not None)

    async def unary() -> None:
        try:
            assert await pool.run(lambda: "done", 5) == "done"
        except OverloadedError:
            return

    async def main() -> None:
        worker = asyncio.create_task(work(pool))
        tasks = [stream(caller, gone) for caller, (_, gone) in zip(callers, streams, strict=True)]
        await asyncio.gather(*tasks, *(unary() for _ in range(others)))
        while pool.admitted:  # noqa: ASYNC110 - cancelled jobs count until their thread is free
            await asyncio.sleep(0)
        worker.cancel()

    def check_pool() -> None:
        check(pool._places)
        check(pool._turns)

    play(order, main(), check_pool)
    assert (pool._turns.held, pool._bytes_before_turn, pool.admitted_bytes) == (0, 0, 0)
    for caller, (images, gone_after) in zip(callers, streams, strict=True):
        assert gone_after is not None or caller.ids == [str(number) for number in range(len(images))]
