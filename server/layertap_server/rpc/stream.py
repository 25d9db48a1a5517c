"""ExtractStream: features of many images over one call, computed as fast as the caller reads.

A stream has a limited window of items in progress and reads its next message only after the response to one of them
has been sent. If the caller reads slowly, HTTP/2 flow control keeps further messages with the caller, and no worker
waits for a reader. At most one message of a stream waits for its turn among the items of all streams.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from layertap import wire
from layertap.errors import CancelledError, InvalidRequestError
from layertap.types import ExtractRequest, ExtractResponse
from layertap_server.request.cancellation import Cancellation
from layertap_server.request.context import RequestContext
from layertap_server.rpc.calls import StreamTools, Writer
from layertap_server.rpc.endings import draining_error, write
from layertap_server.rpc.tracebacks import forget_frames

MAX_CHUNK_BYTES = 2**20
"""Maximum and default size of a chunk, in bytes."""
MIN_CHUNK_BYTES = 2**10
"""Minimum size of a chunk, in bytes; for smaller chunks the cost of each message would dominate."""
FIRST_ITEM_SECONDS = 4.0
"""Seconds that a stopping server waits for the first item of an open stream."""
STREAM_END_SECONDS = 0.1
"""Seconds that a stopping server waits for the end of a stream after the first item."""

Extract = Callable[[ExtractRequest, RequestContext], ExtractResponse]
"""Function from a request and its context to its features."""


class ExtractStream:
    """One call of ExtractStream."""

    def __init__(
        self,
        extract: Extract,
        check_opening: Callable[[ExtractRequest, RequestContext], tuple[str, str]],
        tools: StreamTools,
    ) -> None:
        """Prepare to serve a call.

        Args:
            extract: function that computes the features of one item.
            check_opening: function that checks the opening request and returns the name and version of its model.
            tools: the dispatcher's functions for this stream.
        """
        self._extract = extract
        self._check_opening = check_opening
        self._tools = tools
        self._context = tools.context
        # Two items per worker, so that a worker finds the next item ready when it has finished one.
        self._window = asyncio.Semaphore(2 * tools.workers)
        self._before_turn = asyncio.Semaphore(1)
        self._writing = asyncio.Lock()

    async def serve(self, messages: AsyncIterator[bytes], call: Writer) -> None:
        """Read items, compute their features and write responses until the caller ends the stream or the server stops.

        An item that fails is answered with its error and does not end the stream.

        Raises:
            DrainingError: the server is stopping. The items that it has read are answered; the caller can send the
                others to another server.
            CancelledError: the caller has cancelled the call or disconnected.
            LayertapError: the opening is invalid.
        """
        opening = await self._open(messages, call)
        is_gone = is_complete = False
        try:
            async with asyncio.TaskGroup() as items:
                is_complete = await self._take(
                    messages, lambda data: items.create_task(self._serve_item(data, opening, call))
                )
        except ExceptionGroup as failures:
            if failures.subgroup(CancelledError) is None:
                raise
            forget_frames(failures)  # their tracebacks hold the stream's messages
            is_gone = True
        if is_gone:
            raise CancelledError("the caller is gone")
        if not is_complete:
            raise draining_error()

    async def _take(self, messages: AsyncIterator[bytes], begin: Callable[[bytes], object]) -> bool:
        """Read messages as the window permits and start each with ``begin``.

        The first item is accepted even while the server stops: a stream of one item counts as a request in progress.

        Returns:
            True when the caller has sent all its items, False when the server stops before.
        """
        stop = asyncio.create_task(self._tools.draining.wait())
        is_first = True
        try:
            while True:
                await self._window.acquire()
                await self._before_turn.acquire()
                came, data = await _read(messages, stop, FIRST_ITEM_SECONDS if is_first else STREAM_END_SECONDS)
                if came and data is None:
                    return True
                if data is None or (stop.done() and not is_first):
                    return False
                begin(data)
                del data  # free it now: the next message may take long to arrive
                is_first = False
        finally:
            stop.cancel()

    async def _open(self, messages: AsyncIterator[bytes], call: Writer) -> wire.StreamOpening:
        """Read and check the opening message, and answer it with the model's name and version."""
        data = await anext(messages, b"")
        self._context.bytes_in += len(data)

        def open_stream() -> tuple[wire.StreamOpening, tuple[str, str]]:
            opening = wire.decode_stream_open(data)
            if opening is None:
                raise InvalidRequestError("expected an opening as the first message of the stream", field="open")
            return opening, self._check_opening(opening.request, self._context)

        opening: wire.StreamOpening
        with await self._tools.turn(len(data)):
            opening, (model, version) = await self._tools.run(open_stream, len(data), self._context.cancellation)
        answer = wire.encode_stream_opened(model, version)
        await write(answer, call)
        self._context.bytes_out += len(answer)
        return opening

    async def _serve_item(self, data: bytes, opening: wire.StreamOpening, call: Writer) -> None:
        """Compute one item and send its response."""
        context = self._context.item(len(data))
        try:
            answer = await self._messages(data, opening, context)
            del data  # free it now: the response may wait long for its reader
            for message in answer:
                async with self._writing:
                    await write(message, call)
                context.bytes_out += len(message)
            if context.failure is None:
                context.succeed()
        finally:
            self._tools.finish(context)
            self._window.release()

    async def _messages(self, data: bytes, opening: wire.StreamOpening, context: RequestContext) -> Iterator[bytes]:
        """Compute one item and return the messages of its response; chunks are cut as they are sent."""
        id_ = wire.stream_item_id(data)

        def job() -> ExtractResponse:
            nonlocal id_
            begun = time.perf_counter()
            context.add("queue", context.began, begun)
            with context.stage("decode"):
                item = wire.parse_stream_item(data)
                id_ = item.id
                request = item.request(opening)
            if request is None:
                raise InvalidRequestError("expected an image or a batch after the opening", field="image")
            return self._extract(request, context)

        try:
            features = await self._run_in_turn(job, len(data), context.cancellation)
        except Exception as error:  # noqa: BLE001 - an item's failure must not end the stream
            failure = self._tools.failure_of(error)
            context.fail(failure)
            return iter([wire.encode_stream_error(id_, failure)])
        return _record_encoding(wire.stream_answer(id_, features, chunk_size(opening.chunk_bytes)), context)

    async def _run_in_turn(
        self, job: Callable[[], ExtractResponse], size: int, cancellation: Cancellation
    ) -> ExtractResponse:
        """Wait for a turn of ``size`` bytes and run the job on a worker."""
        try:
            turn = await self._tools.turn(size)
        finally:
            self._before_turn.release()
        with turn:
            features: ExtractResponse = await self._tools.run(job, size, cancellation)
        return features


def chunk_size(asked: int) -> int:
    """Return the chunk size in bytes for a requested size, clamped to the permitted range; 0 requests the default."""
    return min(max(asked or MAX_CHUNK_BYTES, MIN_CHUNK_BYTES), MAX_CHUNK_BYTES)


async def _read(messages: AsyncIterator[bytes], stop: asyncio.Task[Any], patience: float) -> tuple[bool, bytes | None]:
    """Wait for the next message, until ``patience`` seconds after the server began to stop.

    Returns:
        Whether the wait ended with a message or the end of the stream, and the message; None at the end.
    """

    async def read() -> bytes | None:
        return await anext(messages, None)

    reading = asyncio.create_task(read())
    try:
        await asyncio.wait({reading, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            await asyncio.wait({reading}, timeout=patience)
        return reading.done(), reading.result() if reading.done() else None
    finally:
        reading.cancel()


def _record_encoding(messages: Iterator[bytes], context: RequestContext) -> Iterator[bytes]:
    """Yield the messages and record the time that making them took, without sending, as the stage ``encode``."""
    start = began = time.perf_counter()
    seconds = 0.0
    for message in messages:
        seconds += time.perf_counter() - began
        yield message
        began = time.perf_counter()
    context.add("encode", start, start + seconds)
