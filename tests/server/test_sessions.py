"""The cache of compiled plans."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest

from layertap_server.graph import CompiledPlan
from layertap_server.plan import Plan, PlanInput
from layertap_server.runtime import Crowd, Session
from layertap_server.runtime.crowd import RUNS_BEFORE_A_COPY, CrowdCopy
from layertap_server.runtime.replica import Replica
from layertap_server.sessions import OpenPlan, SessionCache, session_bytes


def plan(number: int) -> Plan:
    return Plan(1, ((f"layer{number}", ()),), PlanInput(pictures=True, size=(8, 8)))


def opened(weight_bytes: int = 0) -> OpenPlan:
    return OpenPlan(Session([]), CompiledPlan(b"", "x", ("y",), weight_bytes))


def test_a_plan_is_compiled_once_however_many_wait() -> None:
    cache, compiled = SessionCache(10**9), []
    together = threading.Barrier(8)

    def compile_() -> OpenPlan:
        time.sleep(0.05)
        compiled.append(1)
        return opened()

    with ThreadPoolExecutor(8) as pool:

        def ask(_: int) -> OpenPlan:
            together.wait()
            return cache.get(plan(1), compile_)

        got = list(pool.map(ask, range(8)))
    assert compiled == [1]
    assert all(item is got[0] for item in got)
    assert plan(1) in cache


def test_a_failure_reaches_everyone_and_is_not_kept() -> None:
    cache = SessionCache(10**9)

    def fail() -> OpenPlan:
        time.sleep(0.02)
        raise ValueError("no")

    def ask(_: int) -> str:
        with pytest.raises(ValueError, match="no"):
            cache.get(plan(1), fail)
        return "failed"

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(4))) == ["failed"] * 4
    assert plan(1) not in cache
    assert cache.get(plan(1), opened)


def test_the_least_recently_used_leaves_when_the_budget_is_spent() -> None:
    events: list[str] = []
    budget = 2 * opened(100).cost_bytes
    cache = SessionCache(budget, events.append)
    for number in (1, 2):
        cache.get(plan(number), lambda: opened(100))
    cache.get(plan(1), opened)
    cache.get(plan(3), lambda: opened(100))
    assert [plan(number) in cache for number in (1, 2, 3)] == [True, False, True]
    assert cache.used_bytes <= budget
    assert events == ["miss", "miss", "hit", "miss", "eviction"]


def test_a_plan_larger_than_the_budget_still_serves() -> None:
    cache = SessionCache(1)
    assert cache.get(plan(1), lambda: opened(100))
    assert plan(1) in cache
    cache.get(plan(2), lambda: opened(100))
    assert len(cache) == 1


def test_a_copy_for_crowds_goes_before_any_plan() -> None:
    crowd = Crowd(1)
    copies = [CrowdCopy(crowd, lambda: cast("Replica", object()), lambda: True) for _ in range(2)]
    sessions = [OpenPlan(Session([], copy), CompiledPlan(b"", "x", ("y",), 100)) for copy in copies]
    size = session_bytes(sessions[0].compiled)
    cache = SessionCache(4 * size)
    for number, session in enumerate(sessions):
        cache.get(plan(number), lambda session=session: session)  # type: ignore[misc]
    assert cache.has_room(2 * size)
    with crowd.request():
        for copy in copies:
            for _ in range(RUNS_BEFORE_A_COPY):
                copy.wanted()
    assert cache.used_bytes == 4 * size
    assert not cache.has_room(1)
    cache.get(plan(2), lambda: opened(100))
    assert [plan(number) in cache for number in range(3)] == [True, True, True]
    assert cache.used_bytes == 4 * size
    assert [opened.session.has_copy for opened in sessions] == [False, True]
