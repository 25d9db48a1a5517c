"""Tests of the batcher, with runs that block until the test releases them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layertap.errors import CancelledError
from layertap.types import Array
from layertap_server.inference.batching import Batcher, BatchLimits
from layertap_server.request.cancellation import Cancellation
from layertap_server.request.context import RequestContext

LIMITS = BatchLimits(images=4)


class Gate:
    """A plan whose runs block until the gate is opened, and then double their images."""

    def __init__(self, batch_key: str = "a") -> None:
        self.batch_key = batch_key
        self.open = threading.Event()
        self.sizes: list[int] = []
        self.begun = threading.Semaphore(0)

    def of(self, batch_key: str) -> Gate:
        """Return a plan with another key that shares this gate."""
        other = Gate(batch_key)
        other.open, other.sizes, other.begun = self.open, self.sizes, self.begun
        return other

    def join(self, _others: Sequence[Gate]) -> Gate:
        return self

    def run(self, images: Array, _cancellation: Cancellation) -> dict[str, Array]:
        self.sizes.append(len(images))
        self.begun.release()
        assert self.open.wait(10)
        if (images < 0).any():
            raise ValueError("negative")
        return {"doubled": images * 2}


class Shifted:
    """A plan that adds 0.5 to its images."""

    def __init__(self, batch_key: str) -> None:
        self.batch_key = batch_key

    def join(self, _others: Sequence[Shifted]) -> Shifted:
        return self

    def run(self, images: Array, _cancellation: Cancellation) -> dict[str, Array]:
        return {"same": images + 0.5}


def rows(*values: float) -> Array:
    return np.array(values, np.float64)[:, None]


def wait_for(batcher: Batcher, waiting: int) -> None:
    with batcher._change:
        pass
    for _ in range(1000):
        if len(batcher._waiting) >= waiting:
            return
        threading.Event().wait(0.002)
    raise AssertionError("they do not wait")


def test_nobody_waits_for_company() -> None:
    gate = Gate()
    gate.open.set()
    arrays, ran_with = Batcher(1).run(gate, rows(1, 2), LIMITS, RequestContext())
    assert arrays["doubled"].tolist() == [[2], [4]]
    assert (ran_with, gate.sizes) == (2, [2])


Answer = Future[tuple[dict[str, Array], int]]


def together(batcher: Batcher, gate: Gate, asked: list[tuple[str, Array]]) -> list[Answer]:
    """Occupy the only slot with a first request while the other requests arrive, one at a time, and return these."""
    pool = ThreadPoolExecutor(len(asked) + 1)
    first = pool.submit(batcher.run, gate.of("first"), rows(0), LIMITS, RequestContext())
    assert gate.begun.acquire(timeout=10)
    futures = []
    for number, (plan, images) in enumerate(asked, 1):
        futures.append(pool.submit(batcher.run, gate.of(plan), images, LIMITS, RequestContext()))
        wait_for(batcher, number)
    gate.open.set()
    first.result(10)
    for future in futures:
        future.exception(10)
    pool.shutdown()
    return futures


def test_what_waits_for_one_plan_runs_together_up_to_the_limit() -> None:
    batcher, gate = Batcher(1), Gate()
    futures = together(
        batcher, gate, [("a", rows(1)), ("b", rows(5)), ("a", rows(2, 3)), ("a", rows(4, 4)), ("a", rows(9))]
    )
    assert [future.result()[0]["doubled"].ravel().tolist() for future in futures] == [[2], [10], [4, 6], [8, 8], [18]]
    assert gate.sizes == [1, 4, 1, 2]  # 1 + 2 + 1 images of a, then b, then the images that exceeded the limit
    assert [future.result()[1] for future in futures] == [4, 1, 4, 2, 4]


def test_a_bad_one_harms_no_other() -> None:
    batcher, gate = Batcher(1), Gate()
    good, bad, other = together(batcher, gate, [("a", rows(1)), ("a", rows(-1)), ("a", rows(2))])
    assert good.result()[0]["doubled"].tolist() == [[2]]
    assert other.result()[0]["doubled"].tolist() == [[4]]
    with pytest.raises(ValueError, match="negative"):
        bad.result()


def test_who_is_gone_costs_nothing() -> None:
    batcher, gate, gone = Batcher(1), Gate(), RequestContext()
    pool = ThreadPoolExecutor(3)
    first = pool.submit(batcher.run, gate.of("first"), rows(0), LIMITS, RequestContext())
    assert gate.begun.acquire(timeout=10)
    stays = pool.submit(batcher.run, gate, rows(1), LIMITS, RequestContext())
    wait_for(batcher, 1)
    leaves = pool.submit(batcher.run, gate, rows(7), LIMITS, gone)
    wait_for(batcher, 2)
    gone.cancellation.cancel()
    gate.open.set()
    first.result(10)
    assert stays.result(10)[1] == 1
    with pytest.raises(CancelledError):
        leaves.result(10)
    assert gate.sizes == [1, 1]


def test_waiting_and_running_are_told_apart() -> None:
    """Check the stages of the request that runs the batch, and of the request that is joined to it."""
    batcher, gate, records = Batcher(1), Gate(), [RequestContext() for _ in range(3)]

    def ask(number: int) -> None:
        batcher.run(gate, rows(number), LIMITS, records[number])

    with ThreadPoolExecutor(3) as pool:
        pool.submit(ask, 0)
        assert gate.begun.acquire(timeout=10)
        for number in (1, 2):
            pool.submit(ask, number)
            wait_for(batcher, number)
        assert (batcher.running, batcher.waiting) == (1, 2)
        gate.open.set()
    assert (batcher.running, batcher.waiting) == (0, 0)
    for record in records:
        batch, compute = record.stages
        assert (batch.stage, compute.stage) == ("batch", "compute")
        assert batch.start <= batch.end == compute.start <= compute.end
    leader, taken = (record.stages[1] for record in records[1:])
    assert leader.start == taken.start  # they ran together


def test_a_model_that_asks_for_it_waits_for_others() -> None:
    batcher, gate = Batcher(2), Gate()
    gate.open.set()
    limits = BatchLimits(images=2, delay_seconds=10)
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(batcher.run, gate, rows(number), limits, RequestContext()) for number in range(2)]
        assert {future.result(5)[1] for future in futures} == {2}
    assert gate.sizes == [2]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 4)), min_size=1, max_size=12), st.integers(1, 3))
def test_everyone_gets_their_own(asked: list[tuple[str, int]], slots: int) -> None:
    batcher = Batcher(slots)

    def ask(number: int) -> bool:
        plan, count = asked[number]
        images = np.full((count, 2), float(number))
        arrays, ran_with = batcher.run(Shifted(plan), images, LIMITS, RequestContext())
        return bool((arrays["same"] == number + 0.5).all()) and arrays["same"].shape == (count, 2) and ran_with >= count

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(ask, range(len(asked))))
    assert (batcher._running, batcher._waiting) == (0, [])
