"""Worker threads and the queue before them: the one way from the event loop to a thread and back.

The standard pools cost three hand-overs between threads a job; this one costs two, and a hand-over is a tenth of a
millisecond where the whole overhead of a call is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar

from layertap.errors import OverloadedError
from layertap_server.request.cancellation import Cancellation
from layertap_server.rpc.admission import Admission

Result = TypeVar("Result")
StartThread: TypeAlias = Callable[[Callable[[], None], str], None]
RETRY_AFTER_MS = 200
TURNS_PER_WORKER = 2
"""Stream items per worker: one that it works on, and the next at hand."""


@dataclass(eq=False, slots=True)
class _Item:
    job: Callable[[], Any] | None
    """None once a worker has begun it or its caller withdrew it, so that the queue keeps no request alive."""
    size: int
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Any]
    cancellation: Cancellation = field(default_factory=Cancellation)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> Callable[[], Any] | None:
        """Return the job to the first that asks: the worker who does it, or the caller who withdraws it."""
        with self.lock:
            job, self.job = self.job, None
        return job


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """What may wait."""

    requests: int
    """Beside those that run."""
    bytes: int
    """Of all messages that wait or run."""


def _start_thread(work: Callable[[], None], name: str) -> None:
    threading.Thread(target=work, name=name, daemon=True).start()


class WorkerPool:
    """Workers, and a queue of bounded length and size before them.

    Requests that find the queue full are refused. Items of streams wait instead, in two steps: for one of a few turns
    that all streams share, so that streams never fill the queue, and then for a place in the queue.
    """

    def __init__(
        self, workers: int, room: QueueLimits, name: str, niceness: int = 0, start: StartThread = _start_thread
    ) -> None:
        """``niceness`` is added to that of the process for the worker threads, which ``start`` starts by name."""
        self._queue: SimpleQueue[_Item | None] = SimpleQueue()
        self._workers = workers
        self._niceness = niceness
        self._places = Admission(workers + room.requests, room.bytes)
        self._turns = Admission(min(TURNS_PER_WORKER * workers, (workers + room.requests) // 2))
        self._bytes_before_turn = 0
        """Bytes of the stream items that wait for a turn."""
        for number in range(workers):
            start(self._work, f"{name}-{number}")

    @property
    def admitted(self) -> int:
        """Requests that wait or run; one whose caller is gone counts until its thread is free."""
        return self._places.held

    @property
    def admitted_bytes(self) -> int:
        """Bytes of their messages."""
        return self._places.held_bytes

    @property
    def waiting(self) -> int:
        """Requests that no worker has begun."""
        return max(self.admitted - self._workers, 0)

    def check_room(self, size: int = 0) -> None:
        """Check that a request of this many bytes may enter the queue.

        Raises:
            OverloadedError: the queue is full.
        """
        if self._places.waiting or self._places.held >= self._places.most:
            raise OverloadedError(
                f"{self.admitted} requests wait or run already, which is the limit",
                retry_after_ms=RETRY_AFTER_MS,
                limit=self._places.most,
            )
        if self._places.held or self._bytes_before_turn:
            self._check_bytes(size)

    async def run(self, job: Callable[[], Result], size: int = 0) -> Result:
        """Run the job on a worker and return its result; ``size`` is the number of bytes it holds until it ends.

        Raises:
            OverloadedError: the queue is full.
        """
        self.check_room(size)
        self._places.try_take(size)
        return await self._run(job, size)

    async def stream_turn(self, size: int) -> contextlib.AbstractContextManager[None]:
        """Wait until a stream's item of this many bytes may run; the turn ends with the context that is returned.

        Raises:
            OverloadedError: the items that wait already hold all the bytes there are.
        """
        if self._bytes_before_turn:
            self._check_bytes(size)
        self._bytes_before_turn += size
        try:
            await self._turns.take()
        finally:
            self._bytes_before_turn -= size
        return self._turn()

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._turns.give_back()

    async def run_in_turn(self, job: Callable[[], Result], size: int) -> Result:
        """Run a stream's job as `run` does, but wait for a place in the queue; the stream holds a turn meanwhile."""
        await self._places.take(size)
        return await self._run(job, size)

    async def _run(self, job: Callable[[], Result], size: int) -> Result:
        """Run the job on a worker; its place is taken already, and given back when its thread is free."""
        loop = asyncio.get_running_loop()
        item = _Item(job, size, loop, loop.create_future())
        self._queue.put(item)
        try:
            result: Result = await item.answer
        except asyncio.CancelledError:
            if item.take() is not None:
                self._places.give_back(size)
            else:
                item.cancellation.cancel()
            raise
        finally:
            del item  # an error that is raised here holds this frame, and the item holds the error
        return result

    def _check_bytes(self, size: int) -> None:
        held, limit = self.admitted_bytes + self._bytes_before_turn, self._places.most_bytes
        if held + size > limit:
            raise OverloadedError(
                f"requests of {held} bytes wait or run already, and the limit is {limit}",
                retry_after_ms=RETRY_AFTER_MS,
                limit=limit,
            )

    def close(self) -> None:
        """Drop what waits; what runs is not waited for."""
        with contextlib.suppress(Exception):
            while (item := self._queue.get_nowait()) is not None:
                item.take()
        for _ in range(self._workers):
            self._queue.put(None)

    def _work(self) -> None:
        _give_way(self._niceness)
        while self.do_next():
            pass

    def do_next(self) -> bool:
        """Wait for the next job and run it on this thread; return False once the lane is closed."""
        item = self._queue.get()
        if item is not None and (job := item.take()) is not None:
            self._do(item, job)
        return item is not None

    def _do(self, item: _Item, job: Callable[[], Any]) -> None:
        with item.cancellation.of_this_thread():
            result, error = _outcome(job)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            item.loop.call_soon_threadsafe(self._finish, item, result, error)

    def _finish(self, item: _Item, result: Any, error: BaseException | None) -> None:
        self._places.give_back(item.size)
        if item.answer.cancelled():
            return
        if error is not None:
            item.answer.set_exception(error)
        else:
            item.answer.set_result(result)


def _outcome(job: Callable[[], Result]) -> tuple[Result | None, BaseException | None]:
    """Return the job's result or its error; no frame of the error's traceback holds the error."""
    try:
        return job(), None
    except BaseException as error:  # noqa: BLE001 - told where it was asked
        return None, error


def _give_way(niceness: int) -> None:
    """Add to the niceness of this thread, where the system allows it and counts it by thread."""
    if niceness and hasattr(os, "setpriority"):
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + niceness)
