"""Worker threads and the queue before them: the one way from the event loop to a thread and back.

The standard pools cost three hand-overs between threads a job; this one costs two, and a hand-over is a tenth of a
millisecond where the whole overhead of a call is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, TypeVar

from layertap.errors import OverloadedError
from layertap_server.cancellation import Cancellation

Result = TypeVar("Result")
RETRY_AFTER_MS = 200
ITEMS_A_WORKER = 2
"""Of all streams: one that it works on, and the next at hand."""


@dataclass(eq=False, slots=True)
class _Item:
    job: Callable[[], Any]
    size: int
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Any]
    cancellation: Cancellation = field(default_factory=Cancellation)
    lock: threading.Lock = field(default_factory=threading.Lock)
    is_taken: bool = False

    def take(self) -> bool:
        """Whether this is the first to want it: the worker who does it, or the caller who withdraws it."""
        with self.lock:
            taken, self.is_taken = self.is_taken, True
        return not taken


@dataclass(frozen=True, slots=True)
class Room:
    """What may wait."""

    requests: int
    """Beside those that run."""
    bytes: int
    """Of all messages that wait or run."""


class Lane:
    """So many workers, and room for requests that wait for one.

    Of streams a lane takes as many items as keep its workers busy and no more: what else they bring waits outside, and
    nobody finds the room full of them.
    """

    def __init__(self, workers: int, room: Room, name: str, niceness: int = 0) -> None:
        """``niceness`` of the workers, as of the operating system: those with more come later."""
        self._queue: SimpleQueue[_Item | None] = SimpleQueue()
        self._workers = workers
        self._niceness = niceness
        self._most = workers + room.requests
        self._most_bytes = room.bytes
        self.admitted = 0
        """Requests that wait or run; one whose caller is gone counts until its thread is free."""
        self.admitted_bytes = 0
        """Of their messages."""
        self._stream_items = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        """Streams that wait for something to leave, the first come first."""
        for number in range(workers):
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True).start()

    @property
    def waiting(self) -> int:
        """Requests that no worker has begun."""
        return max(self.admitted - self._workers, 0)

    async def run(self, job: Callable[[], Result], size: int = 0) -> Result:
        """What the job returns; ``size`` is how many bytes it holds while it waits and runs.

        Raises:
            OverloadedError: there is no room.
        """
        self._check_room(size)
        loop = asyncio.get_running_loop()
        item = _Item(job, size, loop, loop.create_future())
        self.admitted += 1
        self.admitted_bytes += size
        self._queue.put(item)
        try:
            result: Result = await item.answer
        except asyncio.CancelledError:
            if item.take():
                self._leave(item)  # nobody had begun it
            else:
                item.cancellation.cancel()
            raise
        return result

    async def stream_turn(self) -> None:
        """Returns when a stream may bring another item."""
        while self._stream_items >= ITEMS_A_WORKER * self._workers:
            await self._something_left()

    async def run_of_stream(self, job: Callable[[], Result], size: int) -> Result:
        """As `run`, for a stream's item, which was admitted with its stream: it waits for room."""
        self._stream_items += 1
        try:
            while True:
                try:
                    return await self.run(job, size)
                except OverloadedError:
                    await self._something_left()
        finally:
            self._stream_items -= 1
            self._wake()

    async def _something_left(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():  # its stream may be gone
                waiter.set_result(None)
                return

    def _check_room(self, size: int) -> None:
        if self.admitted >= self._most:
            raise OverloadedError(
                f"{self.admitted} requests wait or run already, which is the limit",
                retry_after_ms=RETRY_AFTER_MS,
                limit=self._most,
            )
        # One that is larger than all the room is let in when it is alone.
        if self.admitted and self.admitted_bytes + size > self._most_bytes:
            raise OverloadedError(
                f"requests of {self.admitted_bytes} bytes wait or run already, and the limit is {self._most_bytes}",
                retry_after_ms=RETRY_AFTER_MS,
                limit=self._most_bytes,
            )

    def _leave(self, item: _Item) -> None:
        self.admitted -= 1
        self.admitted_bytes -= item.size
        self._wake()

    def close(self) -> None:
        """Drops what waits; what runs is not waited for."""
        with contextlib.suppress(Exception):
            while (item := self._queue.get_nowait()) is not None:
                item.take()
        for _ in range(self._workers):
            self._queue.put(None)

    def _work(self) -> None:
        _give_way(self._niceness)
        while (item := self._queue.get()) is not None:
            if item.take():
                self._do(item)

    def _do(self, item: _Item) -> None:
        result, error = None, None
        try:
            with item.cancellation.of_this_thread():
                result = item.job()
        except BaseException as raised:  # noqa: BLE001 - told where it was asked
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            item.loop.call_soon_threadsafe(self._finish, item, result, error)

    def _finish(self, item: _Item, result: Any, error: BaseException | None) -> None:
        self._leave(item)
        if item.answer.cancelled():
            return
        if error is not None:
            item.answer.set_exception(error)
        else:
            item.answer.set_result(result)


def _give_way(niceness: int) -> None:
    """Adds to the niceness of this thread, where the system lets it and knows threads' own."""
    if niceness and hasattr(os, "setpriority"):
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + niceness)
