"""ExtractStream: many images over one call, worked on as fast as the caller reads.

A stream has a few items under way and takes no further message before one of them is sent: what a slow caller does not
read stays with the caller, held back by HTTP/2, and no worker ever waits for a reader. At most one of a stream's
messages waits for its turn among the items of all streams.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from layertap import wire
from layertap.errors import CancelledError, InvalidRequestError
from layertap.types import ExtractRequest, Features
from layertap_server.request.context import RequestContext
from layertap_server.rpc.dispatch import StreamTools, Writer, draining_error, forget_frames, write

LARGEST_CHUNK = 2**20
SMALLEST_CHUNK = 2**10
"""Smaller ones would keep the event loop busy with nothing but their heads."""
FIRST_ITEM_SECONDS = 4.0
"""How long a stream's first item may take to come when the server stops."""
LAST_WORD_SECONDS = 0.1
"""How long a stream may then take to say that it has ended."""

Extract = Callable[[ExtractRequest, float], Features]
"""A request and the milliseconds that it waited -> its features."""


class ExtractStream:
    """One call."""

    def __init__(
        self,
        extract: Extract,
        opened: Callable[[ExtractRequest], tuple[str, str]],
        tools: StreamTools,
    ) -> None:
        """One call's answer; ``opened`` tells the model and version that a request names."""
        self._extract = extract
        self._opened = opened
        self._tools = tools
        self._record = tools.record
        # So many that every worker has the next item at hand when it ends one.
        self._window = asyncio.Semaphore(2 * tools.workers)
        self._before_turn = asyncio.Semaphore(1)
        self._writing = asyncio.Lock()

    async def answer(self, messages: AsyncIterator[bytes], context: Writer) -> None:
        """Reads, works and writes until the caller has sent all and got all, or the server stops.

        Raises:
            DrainingError: the server stops; what it took is answered, and another server may take the rest.
            LayertapError: the opening is wrong, or the caller gone; items answer for themselves.
        """
        opening = await self._open(messages, context)
        is_gone = is_complete = False
        try:
            async with asyncio.TaskGroup() as items:
                is_complete = await self._take(
                    messages, lambda data: items.create_task(self._item(data, opening, context))
                )
        except ExceptionGroup as failures:
            if failures.subgroup(CancelledError) is None:
                raise
            forget_frames(failures)  # the task group's own frame holds them, and all that the stream held
            is_gone = True
        if is_gone:
            raise CancelledError("the caller is gone")
        if not is_complete:
            raise draining_error()

    async def _take(self, messages: AsyncIterator[bytes], begin: Callable[[bytes], object]) -> bool:
        """Begins the items as there is room; False where the server stops before the last.

        The first is taken all the same: a stream of one item is a request under way, which may end.
        """
        stop = asyncio.create_task(self._tools.draining.wait())
        is_first = True
        try:
            while True:
                await self._window.acquire()
                await self._before_turn.acquire()
                came, data = await _read(messages, stop, FIRST_ITEM_SECONDS if is_first else LAST_WORD_SECONDS)
                if came and data is None:
                    return True
                if data is None or (stop.done() and not is_first):
                    return False
                begin(data)
                del data  # the next message may be long in coming
                is_first = False
        finally:
            stop.cancel()

    async def _open(self, messages: AsyncIterator[bytes], context: Writer) -> wire.StreamOpening:
        data = await anext(messages, b"")
        self._record.bytes_in += len(data)

        def planned() -> tuple[wire.StreamOpening, tuple[str, str]]:
            with self._record.of_this_thread():
                opening = wire.decode_stream_open(data)
                if opening is None:
                    raise InvalidRequestError("the first message of a stream must be an opening", field="open")
                return opening, self._opened(opening.request)

        opening: wire.StreamOpening
        with await self._tools.turn(len(data)):
            opening, (model, version) = await self._tools.run(planned, len(data))
        answer = wire.encode_stream_opened(model, version)
        await write(answer, context)
        self._record.bytes_out += len(answer)
        return opening

    async def _item(self, data: bytes, opening: wire.StreamOpening, context: Writer) -> None:
        record = self._record.item(len(data))
        try:
            answer = await self._messages(data, opening, record)
            del data  # an answer may wait long for its reader
            for message in answer:
                async with self._writing:
                    await write(message, context)
                record.bytes_out += len(message)
            if record.failure is None:
                record.succeed()
        finally:
            self._tools.ended(record)
            self._window.release()

    async def _messages(self, data: bytes, opening: wire.StreamOpening, record: RequestContext) -> Iterator[bytes]:
        """The item's answer; its chunks are cut when they are sent."""
        id_ = wire.stream_item_id(data)

        def job() -> Features:
            nonlocal id_
            begun = time.perf_counter()
            record.add("queue", record.began, begun)
            with record.of_this_thread():
                with record.stage("decode"):
                    item = wire.parse_stream_item(data)
                    id_ = item.id
                    request = item.request(opening)
                if request is None:
                    raise InvalidRequestError("a message behind the opening must be an image or a batch", field="image")
                return self._extract(request, (begun - record.began) * 1000)

        try:
            features = await self._run_in_turn(job, len(data))
        except Exception as error:  # noqa: BLE001 - one bad item answers for itself
            failure = self._tools.failure_of(error)
            record.fail(failure)
            return iter([wire.encode_stream_error(id_, failure)])
        return _timed(wire.stream_answer(id_, features, chunk_size(opening.chunk_bytes)), record)

    async def _run_in_turn(self, job: Callable[[], Features], size: int) -> Features:
        try:
            turn = await self._tools.turn(size)
        finally:
            self._before_turn.release()
        with turn:
            features: Features = await self._tools.run(job, size)
        return features


def chunk_size(asked: int) -> int:
    """Return the bytes of a chunk for a caller who asked for so many, or for 0."""
    return min(max(asked or LARGEST_CHUNK, SMALLEST_CHUNK), LARGEST_CHUNK)


async def _read(messages: AsyncIterator[bytes], stop: asyncio.Task[Any], patience: float) -> tuple[bool, bytes | None]:
    """Whether the next message came before the server stopped and so many seconds went by; None behind the last."""

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


def _timed(messages: Iterator[bytes], record: RequestContext) -> Iterator[bytes]:
    """The messages; what making them took, and not what sending them did, is the record's last stage."""
    start = began = time.perf_counter()
    seconds = 0.0
    for message in messages:
        seconds += time.perf_counter() - began
        yield message
        began = time.perf_counter()
    record.add("encode", start, start + seconds)
