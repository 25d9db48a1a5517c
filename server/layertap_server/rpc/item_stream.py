"""Streams of items: each message of a caller is an item, which is computed and answered on its own.

A stream has a limited window of items in progress and reads its next message only after the response to one of them
has been sent. If the caller reads slowly, HTTP/2 flow control keeps further messages with the caller, and no worker
waits for a reader. At most one message of a stream waits for its turn among the items of all streams.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeAlias, TypeVar

from layertap.errors import CancelledError, LayertapError
from layertap_server.request.context import RequestContext
from layertap_server.rpc.calls import StreamTools, Writer
from layertap_server.rpc.endings import draining_error, write
from layertap_server.rpc.tracebacks import forget_frames

FIRST_ITEM_SECONDS = 4.0
"""Seconds that a stopping server waits for the first item of an open stream."""
STREAM_END_SECONDS = 0.1
"""Seconds that a stopping server waits for the end of a stream after the first item."""

Result = TypeVar("Result")
Answer: TypeAlias = Callable[[bytes, RequestContext], Awaitable[Iterator[bytes]]]
"""Function from the message and the context of an item to the messages of its response."""


class ItemStream:
    """The items of one stream."""

    def __init__(self, answer: Answer, tools: StreamTools, *, ordered: bool = False) -> None:
        """Prepare to serve a call.

        Args:
            answer: function that computes one item. It records the item's failure in the context and returns the
                messages that report it; if it raises an error instead, the stream ends with that error.
            tools: the dispatcher's functions for this stream.
            ordered: whether the responses have the order of the items.
        """
        self._answer = answer
        self._tools = tools
        self._context = tools.context
        # Two items per worker, so that a worker finds the next item ready when it has finished one.
        self._window = asyncio.Semaphore(2 * tools.workers)
        self._before_turn = asyncio.Semaphore(1)
        self._writing = asyncio.Lock()
        self._ordered = ordered
        self._last = asyncio.Event()
        """Event that is set when the last item that began has been answered."""
        self._last.set()

    async def serve(self, messages: AsyncIterator[bytes], call: Writer) -> None:
        """Read items, compute them and write responses until the caller ends the stream or the server stops.

        Raises:
            DrainingError: the server is stopping. The items that it has read are answered; the caller can send the
                others to another server.
            CancelledError: the caller has cancelled the call or disconnected.
            LayertapError: the error with which an item ended the stream.
        """
        is_complete = False
        end: LayertapError | None = None
        try:
            async with asyncio.TaskGroup() as items:
                is_complete = await self._take(messages, lambda data: self._begin(items, data, call))
        except ExceptionGroup as failures:
            end = _reason_of(failures)
            if end is None:
                raise
            forget_frames(failures)  # their tracebacks hold the stream's messages
        if end is not None:
            raise end
        if not is_complete:
            raise draining_error()

    async def run_in_turn(self, job: Callable[[], Result], size: int, context: RequestContext) -> Result:
        """Wait for a turn of ``size`` bytes and run the job of an item on a worker."""
        try:
            turn = await self._tools.turn(size)
        finally:
            self._before_turn.release()
        with turn:
            result: Result = await self._tools.run(job, size, context.cancellation)
        return result

    def _begin(self, items: asyncio.TaskGroup, data: bytes, call: Writer) -> None:
        """Start the task of one item."""
        before, self._last = self._last, asyncio.Event()
        items.create_task(self._serve_item(data, call, before, self._last))

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

    async def _serve_item(self, data: bytes, call: Writer, before: asyncio.Event, done: asyncio.Event) -> None:
        """Compute one item and send its response; ``before`` is set once the preceding item has been answered."""
        context = self._context.item(len(data))
        try:
            answer = await self._answer(data, context)
            del data  # free it now: the response may wait long for its reader
            if self._ordered:
                await before.wait()
            for message in answer:
                async with self._writing:
                    await write(message, call)
                context.bytes_out += len(message)
            if context.failure is None:
                context.succeed()
        finally:
            done.set()
            self._tools.finish(context)
            self._window.release()


def _reason_of(failures: ExceptionGroup[Exception]) -> LayertapError | None:
    """Return the error with which a stream ends: that of a caller who is gone first; None for unexpected errors."""
    if failures.subgroup(CancelledError) is not None:
        return CancelledError("the caller is gone")
    expected = failures.subgroup(LayertapError)
    first = expected.exceptions[0] if expected is not None else None
    return first if isinstance(first, LayertapError) else None


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


def record_encoding(messages: Iterator[bytes], context: RequestContext) -> Iterator[bytes]:
    """Yield the messages and record the time that making them took, without sending, as the stage ``encode``."""
    start = began = time.perf_counter()
    seconds = 0.0
    for message in messages:
        seconds += time.perf_counter() - began
        yield message
        began = time.perf_counter()
    context.add("encode", start, start + seconds)
