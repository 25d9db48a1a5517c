"""Tests of the cache of compiled plans."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random
from types import FrameType
from typing import cast

import pytest

from layertap.errors import DeviceMemoryError, LayertapError, OutOfResourcesError
from layertap_server.graph import CompiledPlan
from layertap_server.planning.open_plan import OpenPlan, session_bytes
from layertap_server.planning.plan import Plan, PlanInput
from layertap_server.planning.plan_store import PlanStore, RoomInStore
from layertap_server.runtime import Contention, Session
from layertap_server.runtime.contention import RUNS_BEFORE_A_COPY, SingleThreadedReplica
from layertap_server.runtime.replica import Replica
from layertap_server.runtime.shortage import Resource, out_of


def plan(number: int) -> Plan:
    return Plan(1, ((f"layer{number}", ()),), PlanInput(pictures=True, size=(8, 8)))


def opened(weight_bytes: int = 0) -> OpenPlan:
    return OpenPlan(Session([]), CompiledPlan(b"", "x", ("y",), weight_bytes))


class Made:
    """Compiler that calls a function of the test for every plan."""

    def __init__(self, make: Callable[[], OpenPlan]) -> None:
        self._make = make

    def compile(self, _plan: object) -> OpenPlan:
        return self._make()


class Room:
    """Budget with room for any replica."""

    def has_room(self) -> bool:
        return True


def test_a_plan_is_compiled_once_however_many_wait() -> None:
    cache, compiled = PlanStore(10**9), []
    together = threading.Barrier(8)

    def compile_() -> OpenPlan:
        time.sleep(0.05)
        compiled.append(1)
        return opened()

    with ThreadPoolExecutor(8) as pool:

        def ask(_: int) -> OpenPlan:
            together.wait()
            return cache.acquire(plan(1), Made(compile_))

        got = list(pool.map(ask, range(8)))
    assert compiled == [1]
    assert all(item is got[0] for item in got)
    assert plan(1) in cache


def test_a_failure_reaches_everyone_and_is_not_kept() -> None:
    cache = PlanStore(10**9)

    def fail() -> OpenPlan:
        time.sleep(0.02)
        raise ValueError("no")

    def ask(_: int) -> str:
        with pytest.raises(ValueError, match="no"):
            cache.acquire(plan(1), Made(fail))
        return "failed"

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(4))) == ["failed"] * 4
    assert plan(1) not in cache
    assert cache.acquire(plan(1), Made(opened))


def test_the_least_recently_used_leaves_when_the_budget_is_spent() -> None:
    events: list[str] = []
    budget = 2 * opened(100).cost.bytes
    cache = PlanStore(budget, events.append)
    for number in (1, 2):
        cache.acquire(plan(number), Made(lambda: opened(100)))
    cache.acquire(plan(1), Made(opened))
    cache.acquire(plan(3), Made(lambda: opened(100)))
    assert [plan(number) in cache for number in (1, 2, 3)] == [True, False, True]
    assert cache.used_bytes <= budget
    assert events == ["miss", "miss", "hit", "miss", "eviction"]


def test_a_plan_larger_than_the_budget_still_serves() -> None:
    cache = PlanStore(1)
    assert cache.acquire(plan(1), Made(lambda: opened(100)))
    assert plan(1) in cache
    cache.acquire(plan(2), Made(lambda: opened(100)))
    assert len(cache) == 1


def test_a_copy_for_crowds_goes_before_any_plan() -> None:
    contention = Contention(1)
    copies = [SingleThreadedReplica(contention, lambda: cast("Replica", object()), Room()) for _ in range(2)]
    sessions = [OpenPlan(Session([], copy), CompiledPlan(b"", "x", ("y",), 100)) for copy in copies]
    size = session_bytes(sessions[0].compiled)
    cache = PlanStore(4 * size)
    for number, session in enumerate(sessions):
        cache.acquire(plan(number), Made(lambda session=session: session))  # type: ignore[misc]
    assert RoomInStore(cache, 2 * size).has_room()
    with contention.request():
        for copy in copies:
            for _ in range(RUNS_BEFORE_A_COPY):
                copy.get()
    assert cache.used_bytes == 4 * size
    assert not RoomInStore(cache, 1).has_room()
    cache.acquire(plan(2), Made(lambda: opened(100)))
    assert [plan(number) in cache for number in range(3)] == [True, True, True]
    assert cache.used_bytes == 4 * size
    assert [opened.session.has_copy for opened in sessions] == [False, True]


class CountedSession(Session):
    """A session that reports a given number of threads."""

    def __init__(self, threads: int = 0) -> None:
        super().__init__([])
        self._count = threads

    @property
    def threads(self) -> int:
        return self._count


def test_threads_count_in_the_budget() -> None:
    cache = PlanStore(10**9, budget_threads=40)
    for number in range(5):
        cache.acquire(plan(number), Made(lambda: OpenPlan(CountedSession(15), CompiledPlan(b"", "x", ("y",), 0))))
        assert cache.used_threads == 15 * len(cache) <= 40
    assert len(cache) == 2


@pytest.mark.parametrize(
    "failure", [out_of(Resource.THREADS), DeviceMemoryError("none left")], ids=["threads", "memory"]
)
def test_a_plan_that_finds_no_thread_or_memory_is_tried_again_without_others(failure: LayertapError) -> None:
    events: list[str] = []
    cache, tries = PlanStore(10**9, events.append), []

    def short_once() -> OpenPlan:
        tries.append(len(cache))
        if len(tries) == 1:
            raise failure
        return opened()

    for number in range(4):
        cache.acquire(plan(number), Made(opened))
    assert cache.acquire(plan(4), Made(short_once))
    assert tries == [4, 2]
    assert events.count("eviction") == 2
    assert [plan(number) in cache for number in range(5)] == [False, False, True, True, True]


def test_a_shortage_that_lasts_is_raised_as_it_is() -> None:
    cache, tries = PlanStore(10**9), []

    def short() -> OpenPlan:
        tries.append(1)
        raise out_of(Resource.THREADS)

    with pytest.raises(OutOfResourcesError, match="no threads left"):
        cache.acquire(plan(1), Made(short))
    assert len(tries) == 1, "there was nothing to evict"
    cache.acquire(plan(2), Made(opened))
    with pytest.raises(OutOfResourcesError):
        cache.acquire(plan(1), Made(short))
    assert len(tries) == 3


def calls_of(work: Callable[[], object]) -> int:
    """Count the Python calls that ``work`` makes on this thread."""
    count = 0

    def on_event(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(on_event)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def test_a_full_cache_takes_as_many_steps_as_a_small_one() -> None:
    def steps(size: int) -> list[int]:
        cache = PlanStore(size * opened(100).cost.bytes)
        for number in range(size):
            cache.acquire(plan(number), Made(lambda: opened(100)))
        ready = opened(100)
        new = calls_of(lambda: cache.acquire(plan(-1), Made(lambda: ready)))
        return [
            new,
            calls_of(lambda: cache.acquire(plan(-1), Made(lambda: ready))),
            calls_of(lambda: cache.find_sharing(plan(-2))),
            calls_of(lambda: cache.used_bytes),
            calls_of(lambda: plan(-2) in cache),
        ]

    assert steps(500) == steps(20)


def test_totals_hold_while_many_threads_ask() -> None:
    budget = 6 * opened(100).cost.bytes
    cache = PlanStore(budget)
    contention = Contention(1)

    def with_copy() -> OpenPlan:
        copy = SingleThreadedReplica(contention, lambda: cast("Replica", object()), Room())
        return OpenPlan(Session([], copy), CompiledPlan(b"", "x", ("y",), 100))

    def ask(seed: int) -> None:
        random = Random(seed)
        with contention.request():
            for _ in range(300):
                got = cache.acquire(plan(random.randrange(12)), Made(with_copy))
                assert got.session._single_threaded is not None
                for _ in range(random.randrange(RUNS_BEFORE_A_COPY)):
                    got.session._single_threaded.get()
                assert cache.used_bytes <= budget

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(4)))
    plans = cache._table.plans()
    copies = [item for item in plans if cast("OpenPlan", cache._table.peek(item)).session.has_copy]
    assert cache.used_bytes == (len(plans) + len(copies)) * opened(100).cost.bytes
