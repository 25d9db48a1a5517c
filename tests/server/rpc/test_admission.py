"""Tests of the semaphore of the worker queue: its order and limits, and that no waiter sleeps when a place is free."""

from __future__ import annotations

import asyncio
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from layertap_server.rpc.admission import Admission
from tests.server.rpc.any_order import ORDERS, play
from tests.sweeps import EXAMPLES

SIZES = st.integers(0, 6)
CALLERS = st.lists(st.tuples(SIZES, st.integers(0, 3), st.none() | st.integers(0, 9)), min_size=1, max_size=12)
"""Callers: their bytes, the steps for which they hold a place, and the step at which they are cancelled, or None."""


async def steps(count: int) -> None:
    """Yield to the event loop ``count`` times."""
    for _ in range(count):
        await asyncio.sleep(0)


def check(admission: Admission) -> None:
    """Assert that the limits hold and that no waiter sleeps while a place is free for it."""
    live = [waiter.size for waiter in admission._waiters if not waiter.booked.cancelled()]
    assert len(live) == 0 or not admission.fits(live[0]) or len(live) < admission.waiting
    assert 0 <= admission.held <= admission.most
    assert admission.held <= 1 or admission.held_bytes <= admission.most_bytes


@settings(max_examples=4 * EXAMPLES)
@given(ORDERS, st.integers(1, 3), st.sampled_from([4, 10, math.inf]), CALLERS)
def test_no_waiter_sleeps_while_a_place_is_free(
    order: tuple[list[int], int], most: int, most_bytes: float, callers: list[tuple[int, int, int | None]]
) -> None:
    admission = Admission(most, most_bytes)
    inside: list[int] = []

    async def caller(size: int, held_steps: int) -> None:
        await admission.take(size)
        inside.append(size)
        try:
            assert len(inside) <= admission.held
            await steps(held_steps)
        finally:
            inside.remove(size)
            admission.release(size)

    async def cancel(task: asyncio.Task[None], after: int) -> None:
        await steps(after)
        task.cancel()

    async def main() -> None:
        tasks = []
        for size, held_steps, cancelled_after in callers:
            task = asyncio.create_task(caller(size, held_steps))
            tasks += [task, *([asyncio.create_task(cancel(task, cancelled_after))] if cancelled_after else [])]
        await asyncio.gather(*tasks, return_exceptions=True)

    play(order, main(), lambda: check(admission))
    assert (admission.held, admission.held_bytes, admission.waiting) == (0, 0, 0)


def test_places_are_given_in_the_order_of_arrival() -> None:
    async def main() -> None:
        admission, order = Admission(1), list[int]()

        async def caller(number: int) -> None:
            await admission.take()
            order.append(number)
            admission.release()

        assert admission.try_take()
        tasks = [asyncio.create_task(caller(number)) for number in range(5)]
        await steps(1)
        assert not admission.try_take(), "nobody overtakes those who wait"
        tasks[1].cancel()
        admission.release()
        assert not admission.try_take(), "the place is booked for the first who waits"
        await asyncio.gather(*tasks, return_exceptions=True)
        assert order == [0, 2, 3, 4]

    asyncio.run(main())


def test_a_small_waiter_does_not_overtake_a_large_one() -> None:
    async def main() -> None:
        admission = Admission(9, 10)
        assert admission.try_take(6)
        large = asyncio.create_task(admission.take(6))
        await steps(1)
        assert not admission.try_take(1)
        large.cancel()
        await asyncio.gather(large, return_exceptions=True)
        assert admission.try_take(1)

    asyncio.run(main())


def test_a_holder_larger_than_the_byte_limit_is_admitted_alone() -> None:
    admission = Admission(9, 10)
    assert admission.try_take(100)
    assert not admission.try_take(0)
    admission.release(100)
    assert admission.try_take(1)
    assert not admission.try_take(100)
