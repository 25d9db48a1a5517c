"""Admission by count and by bytes, and what leaves the queue."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from layertap.errors import OverloadedError
from layertap_server.rpc.worker_pool import QueueLimits, WorkerPool


def held(pool: WorkerPool, size: int) -> tuple[asyncio.Task[str], Callable[[], None]]:
    """A job that runs until it is let go."""
    go_on = threading.Event()

    def job() -> str:
        assert go_on.wait(10)
        return "done"

    return asyncio.ensure_future(pool.run(job, size)), go_on.set


async def admitted(pool: WorkerPool, count: int) -> None:
    while pool.admitted != count:  # noqa: ASYNC110 - the pool has no event for it
        await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("room", "sizes", "refused"),
    [
        (QueueLimits(1, 1000), [1, 1, 1], "the queue is full: 2 requests wait or run"),
        (QueueLimits(9, 1000), [600, 400, 1], "requests of 1000 bytes wait or run, and the limit is 1000"),
        (QueueLimits(9, 1000), [5000, 1], "requests of 5000 bytes wait or run"),
    ],
    ids=["too many", "too many bytes", "a large one is let in alone"],
)
def test_who_finds_no_room_is_told_at_once(room: QueueLimits, sizes: list[int], refused: str) -> None:
    async def play() -> None:
        pool = WorkerPool(1, room, "test")
        jobs = [held(pool, size) for size in sizes[:-1]]
        await admitted(pool, len(jobs))
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


def test_one_that_is_withdrawn_makes_room() -> None:
    async def play() -> None:
        pool = WorkerPool(1, QueueLimits(1, 1000), "test")
        (running, let_go), (waiting, _) = held(pool, 400), held(pool, 400)
        await admitted(pool, 2)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert (pool.admitted, pool.admitted_bytes) == (1, 400)
        let_go()
        await running
        assert (pool.admitted, pool.admitted_bytes) == (0, 0)
        pool.close()

    asyncio.run(play())
