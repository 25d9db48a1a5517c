"""A pool of worker threads with a bounded queue, which the event loop uses to run jobs.

The executors of the standard library switch threads three times per job; this pool switches twice. A switch costs about
0.1 ms, and the overhead of a whole call is about 1 ms.
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
from layertap_server.rpc.tracebacks import forget_frames

Result = TypeVar("Result")
StartThread: TypeAlias = Callable[[Callable[[], None], str], None]
"""Function that starts a thread, given its main function and its name."""
RETRY_AFTER_MS = 200
"""Milliseconds after which a refused caller should retry."""
TURNS_PER_WORKER = 2
"""Stream items per worker that may be queued or running: one that runs, and one that is ready."""


@dataclass(eq=False, slots=True)
class _Item:
    """A job in the queue."""

    job: Callable[[], Any] | None
    """The job; None once a worker started it or its caller withdrew it, so that the queue keeps no request alive."""
    size: int
    """Bytes that the job holds."""
    loop: asyncio.AbstractEventLoop
    """Event loop of the caller."""
    answer: asyncio.Future[Any]
    """Future of the job's result, on the caller's loop."""
    cancellation: Cancellation
    """Cancellation state of the job, which interrupts it while it runs."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Lock around `job`."""

    def take(self) -> Callable[[], Any] | None:
        """Remove and return the job; None if a worker or the caller took it before."""
        with self.lock:
            job, self.job = self.job, None
        return job

    def drop_error(self) -> None:
        """Drop the frames of an error that no caller receives; they hold the item, the request and its images."""
        if self.answer.done() and not self.answer.cancelled() and (error := self.answer.exception()) is not None:
            forget_frames(error)


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """Limits of a worker pool's queue."""

    requests: int
    """Maximum number of waiting requests, in addition to the running ones."""
    bytes: int
    """Maximum bytes of all waiting and running requests."""


def _start_thread(work: Callable[[], None], name: str) -> None:
    """Start a daemon thread."""
    threading.Thread(target=work, name=name, daemon=True).start()


class WorkerPool:
    """Worker threads with a queue that is bounded in length and in bytes.

    A request that finds the queue full is refused. A stream item waits instead, in two steps: first for one of a few
    turns that all streams share, so that streams cannot fill the queue, and then for a place in the queue.
    """

    def __init__(
        self, workers: int, limits: QueueLimits, name: str, niceness: int = 0, start: StartThread = _start_thread
    ) -> None:
        """Start the worker threads.

        Args:
            workers: number of threads.
            limits: limits of the queue.
            name: prefix of the threads' names.
            niceness: value added to the process's niceness for the threads.
            start: function that starts a thread; tests pass another one.
        """
        self._queue: SimpleQueue[_Item | None] = SimpleQueue()
        self._workers = workers
        self._niceness = niceness
        self._places = Admission(workers + limits.requests, limits.bytes)
        self._turns = Admission(min(TURNS_PER_WORKER * workers, (workers + limits.requests) // 2))
        self._bytes_before_turn = 0
        """Total bytes of the stream items that wait for a turn."""
        for number in range(workers):
            start(self._work, f"{name}-{number}")

    @property
    def admitted(self) -> int:
        """Number of requests that wait or run; a cancelled request counts until its thread is free."""
        return self._places.held

    @property
    def admitted_bytes(self) -> int:
        """Total bytes of the requests that wait or run."""
        return self._places.held_bytes

    @property
    def waiting(self) -> int:
        """Number of requests that wait for a worker."""
        return max(self.admitted - self._workers, 0)

    def check_capacity(self, size: int = 0) -> None:
        """Check that a request of ``size`` bytes fits into the queue.

        Raises:
            OverloadedError: the queue is full.
        """
        if self._places.waiting or self._places.held >= self._places.most:
            raise OverloadedError(
                f"the queue is full: {self.admitted} requests wait or run, which is the limit; retry later",
                retry_after_ms=RETRY_AFTER_MS,
                limit=self._places.most,
            )
        if self._places.held or self._bytes_before_turn:
            self._check_bytes(size)

    async def run(self, job: Callable[[], Result], size: int = 0, cancellation: Cancellation | None = None) -> Result:
        """Run a job that holds ``size`` bytes on a worker and return its result.

        If the awaiting task is cancelled while the job runs, ``cancellation`` is cancelled, which the job observes.

        Raises:
            OverloadedError: the queue is full.
        """
        self.check_capacity(size)
        self._places.try_take(size)
        return await self._run(job, size, cancellation or Cancellation())

    async def stream_turn(self, size: int) -> contextlib.AbstractContextManager[None]:
        """Wait for the turn of a stream item of ``size`` bytes; the turn ends with the returned context.

        Raises:
            OverloadedError: the item and the waiting and running requests exceed the limit of bytes.
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
        """Release a turn at the end of the context."""
        try:
            yield
        finally:
            self._turns.release()

    async def run_in_turn(self, job: Callable[[], Result], size: int, cancellation: Cancellation) -> Result:
        """Run a job as `run` does, but wait for a place in the queue; the calling stream must hold a turn."""
        await self._places.take(size)
        return await self._run(job, size, cancellation)

    async def _run(self, job: Callable[[], Result], size: int, cancellation: Cancellation) -> Result:
        """Run a job whose place is already taken; the place is released when the job's thread is free."""
        loop = asyncio.get_running_loop()
        item = _Item(job, size, loop, loop.create_future(), cancellation)
        self._queue.put(item)
        try:
            result: Result = await item.answer
        except asyncio.CancelledError:
            if item.take() is not None:
                self._places.release(size)
            else:
                item.cancellation.cancel()
            item.drop_error()
            raise
        finally:
            del item  # breaks a cycle: the raised error holds this frame, and the item holds the error
        return result

    def _check_bytes(self, size: int) -> None:
        """Raise `OverloadedError` if ``size`` more bytes exceed the limit."""
        held, limit = self.admitted_bytes + self._bytes_before_turn, self._places.most_bytes
        if held + size > limit:
            raise OverloadedError(
                f"the queue is full: requests of {held} bytes wait or run, and the limit is {limit} bytes; retry later",
                retry_after_ms=RETRY_AFTER_MS,
                limit=limit,
            )

    def close(self) -> None:
        """Drop the waiting jobs and end the threads, without waiting for running jobs."""
        with contextlib.suppress(Exception):
            while (item := self._queue.get_nowait()) is not None:
                item.take()
        for _ in range(self._workers):
            self._queue.put(None)

    def _work(self) -> None:
        """Run jobs on this thread until the pool is closed."""
        _add_niceness(self._niceness)
        while self.do_next():
            pass

    def do_next(self) -> bool:
        """Wait for the next job and run it on this thread; return False once the pool is closed."""
        item = self._queue.get()
        if item is not None and (job := item.take()) is not None:
            self._run_job(item, job)
        return item is not None

    def _run_job(self, item: _Item, job: Callable[[], Any]) -> None:
        """Run a job and pass its result or error to the caller's event loop."""
        result, error = _call(job)
        with contextlib.suppress(RuntimeError):  # the loop is closed, so no caller waits
            item.loop.call_soon_threadsafe(self._finish, item, result, error)

    def _finish(self, item: _Item, result: Any, error: BaseException | None) -> None:
        """Release the job's place and resolve its future; runs on the caller's event loop."""
        self._places.release(item.size)
        if item.answer.cancelled():
            if error is not None:  # no caller receives it
                forget_frames(error)
            return
        if error is not None:
            item.answer.set_exception(error)
        else:
            item.answer.set_result(result)


def _call(job: Callable[[], Result]) -> tuple[Result | None, BaseException | None]:
    """Run the job and return its result and its error, one of which is None.

    In a function of its own, so that no frame of the error's traceback holds a reference to the error.
    """
    try:
        return job(), None
    except BaseException as error:  # noqa: BLE001 - raised again in the caller's task
        return None, error


def _add_niceness(niceness: int) -> None:
    """Add to the niceness of this thread, on systems that permit it and have niceness per thread."""
    if niceness and hasattr(os, "setpriority"):
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + niceness)
