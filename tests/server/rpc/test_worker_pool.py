"""Tests of the worker pool's queue: limits by number and by bytes, and cancelled requests."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable

import pytest

from layertap.errors import OverloadedError
from layertap_server.rpc.worker_pool import QueueLimits, WorkerPool


def start_job(pool: WorkerPool, size: int) -> tuple[asyncio.Task[str], Callable[[], None]]:
    """Run a job of ``size`` bytes; return its task, and the function that lets the job end."""
    go_on = threading.Event()

    def job() -> str:
        assert go_on.wait(10)
        return "done"

    return asyncio.ensure_future(pool.run(job, size)), go_on.set


async def wait_until_admitted(pool: WorkerPool, count: int) -> None:
    """Wait until ``count`` requests wait or run."""
    while pool.admitted != count:  # noqa: ASYNC110 - the pool has no event for this
        await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("limits", "sizes", "refused"),
    [
        (QueueLimits(1, 1000), [1, 1, 1], "the queue is full: 2 requests wait or run"),
        (QueueLimits(9, 1000), [600, 400, 1], "requests of 1000 bytes wait or run, and the limit is 1000"),
        (QueueLimits(9, 1000), [5000, 1], "requests of 5000 bytes wait or run"),
    ],
    ids=["too many", "too many bytes", "a large one is let in alone"],
)
def test_a_request_that_finds_the_queue_full_is_refused_at_once(
    limits: QueueLimits, sizes: list[int], refused: str
) -> None:
    async def play() -> None:
        pool = WorkerPool(1, limits, "test")
        jobs = [start_job(pool, size) for size in sizes[:-1]]
        await wait_until_admitted(pool, len(jobs))
        with pytest.raises(OverloadedError, match=refused) as caught:
            await pool.run(lambda: "never", sizes[-1])
        assert caught.value.retry_after == 0.2
        for task, let_go in jobs:
            let_go()
            assert await task == "done"
        assert (pool.admitted, pool.admitted_bytes) == (0, 0)
        assert await pool.run(lambda: "next", sizes[-1]) == "next"
        pool.close()

    asyncio.run(play())


def test_a_cancelled_waiting_request_frees_its_place() -> None:
    async def play() -> None:
        pool = WorkerPool(1, QueueLimits(1, 1000), "test")
        (running, let_go), (waiting, _) = start_job(pool, 400), start_job(pool, 400)
        await wait_until_admitted(pool, 2)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert (pool.admitted, pool.admitted_bytes) == (1, 400)
        let_go()
        await running
        assert (pool.admitted, pool.admitted_bytes) == (0, 0)
        pool.close()

    asyncio.run(play())


class Held:
    """An object that a failing job holds in its frame."""


def test_an_error_that_arrives_with_the_cancellation_leaves_nothing_in_memory() -> None:
    held: list[weakref.ref[Held]] = []

    def job() -> None:
        image = Held()
        held.append(weakref.ref(image))
        raise ValueError("failed")

    async def play() -> None:
        pool = WorkerPool(1, QueueLimits(1, 1000), "test", start=lambda _work, _name: None)
        task = asyncio.ensure_future(pool.run(job))
        await asyncio.sleep(0)
        pool.do_next()
        # The callback that resolves the future is scheduled, and this one runs before the task sees the result.
        asyncio.get_running_loop().call_soon(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    gc.disable()
    try:
        asyncio.run(play())
        assert [reference() for reference in held] == [None]
    finally:
        gc.enable()
