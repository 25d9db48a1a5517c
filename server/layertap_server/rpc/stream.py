"""ExtractStream: many images over one call, worked on as fast as the caller reads.

A stream has a few items under way and takes no further message before one of them is sent: what a slow caller does not
read stays with the caller, held back by HTTP/2, and no worker ever waits for a reader.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Protocol, TypeVar

from google.protobuf.message import DecodeError

from layertap import wire
from layertap.errors import CancelledError, InvalidRequestError, LayertapError, OverloadedError
from layertap.types import ExtractRequest, Features

Result = TypeVar("Result")
LARGEST_CHUNK = 2**20
WAIT_FOR_ROOM_SECONDS = 0.01

Extract = Callable[[ExtractRequest, float], Features]
"""A request and the milliseconds that it waited -> its features."""


class Context(Protocol):
    """What is needed of gRPC's."""

    def write(self, message: bytes) -> Awaitable[None]: ...


class ExtractStream:
    """One call."""

    def __init__(
        self,
        extract: Extract,
        opened: Callable[[ExtractRequest], tuple[str, str]],
        run: Callable[[Callable[[], Any], int], Awaitable[Any]],
        failure_of: Callable[[Exception], LayertapError],
        window: int,
    ) -> None:
        """One call's answer.

        ``opened`` tells the model and version that a request names; ``run`` does work, which holds so many bytes, on a
        worker thread and raises `OverloadedError` where there is no room; ``window`` is how many items are under way.
        """
        self._extract = extract
        self._opened = opened
        self._run = run
        self._failure_of = failure_of
        self._window = asyncio.Semaphore(window)
        self._writing = asyncio.Lock()

    async def answer(self, messages: AsyncIterator[bytes], context: Context) -> None:
        """Reads, works and writes until the caller has sent all and got all.

        Raises:
            LayertapError: the opening is wrong, or the caller gone; items answer for themselves.
        """
        opening = await self._open(messages, context)
        try:
            async with asyncio.TaskGroup() as items:
                async for data in messages:
                    await self._window.acquire()
                    items.create_task(self._item(data, opening, context))
        except* CancelledError:
            raise CancelledError("the caller is gone") from None

    async def _open(self, messages: AsyncIterator[bytes], context: Context) -> wire.StreamOpening:
        opening = None
        with contextlib.suppress(DecodeError, StopAsyncIteration):
            opening = wire.decode_stream_open(await anext(messages))
        if opening is None:
            raise InvalidRequestError("the first message of a stream must be an opening", field="open")
        request = opening.request
        model, version = await self._when_there_is_room(lambda: self._opened(request), 0)  # planning is a worker's
        await context.write(wire.encode_stream_opened(model, version))
        return opening

    async def _item(self, data: bytes, opening: wire.StreamOpening, context: Context) -> None:
        try:
            for message in await self._messages(data, opening):
                async with self._writing:
                    await _written(message, context)
        finally:
            self._window.release()

    async def _messages(self, data: bytes, opening: wire.StreamOpening) -> Iterator[bytes]:
        """The item's answer; its chunks are cut when they are sent."""
        arrived = time.perf_counter()
        id_ = ""

        def job() -> Features:
            nonlocal id_
            item = wire.parse_stream_item(data)
            id_ = item.id
            request = item.request(opening)
            if request is None:
                raise InvalidRequestError("a message behind the opening must be an image or a batch", field="image")
            return self._extract(request, (time.perf_counter() - arrived) * 1000)

        try:
            features = await self._when_there_is_room(job, len(data))
        except Exception as error:  # noqa: BLE001 - one bad item answers for itself
            return iter([wire.encode_stream_error(id_, self._failure_of(error))])
        chunk = min(opening.chunk_bytes, LARGEST_CHUNK) if opening.chunk_bytes > 0 else LARGEST_CHUNK
        return wire.stream_answer(id_, features, chunk)

    async def _when_there_is_room(self, job: Callable[[], Result], size: int) -> Result:
        """A stream that was admitted waits; only new calls are told that there is no room."""
        while True:
            try:
                result: Result = await self._run(job, size)
            except OverloadedError:
                await asyncio.sleep(WAIT_FOR_ROOM_SECONDS)
            else:
                return result


async def _written(message: bytes, context: Context) -> None:
    try:
        await context.write(message)
    except Exception as error:  # gRPC raises whatever it met, and it can only be that nobody reads
        raise CancelledError("the caller is gone") from error
