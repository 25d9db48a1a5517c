"""The cache of compiled plans."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest

from layertap_server.graph import CompiledPlan
from layertap_server.plan import Plan
from layertap_server.runtime import Session
from layertap_server.sessions import OVERHEAD_BYTES, OpenPlan, SessionCache


def plan(number: int, model: int = 1) -> Plan:
    return Plan(model, ((f"layer{number}", ()),), None)


def opened(weight_bytes: int = 0) -> OpenPlan:
    return OpenPlan(cast("Session", None), CompiledPlan(b"", "x", ("y",), weight_bytes))


def test_a_plan_is_compiled_once_however_many_wait() -> None:
    cache, compiled = SessionCache(10**9), []
    started = threading.Event()

    def compile_() -> OpenPlan:
        started.set()
        time.sleep(0.05)
        compiled.append(1)
        return opened()

    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda _: cache.get(plan(1), compile_), range(8)))
    assert started.is_set()
    assert compiled == [1]
    assert all(item is got[0] for item in got)
    assert cache.holds(plan(1))


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
    assert not cache.holds(plan(1))
    assert cache.get(plan(1), opened)


def test_the_least_recently_used_leaves_when_the_budget_is_spent() -> None:
    events: list[str] = []
    cache = SessionCache(2 * (OVERHEAD_BYTES + 100), events.append)
    for number in (1, 2):
        cache.get(plan(number), lambda: opened(100))
    cache.get(plan(1), opened)
    cache.get(plan(3), lambda: opened(100))
    assert [cache.holds(plan(number)) for number in (1, 2, 3)] == [True, False, True]
    assert cache.used_bytes <= 2 * (OVERHEAD_BYTES + 100)
    assert events == ["miss", "miss", "hit", "miss", "eviction"]


def test_a_plan_larger_than_the_budget_still_serves() -> None:
    cache = SessionCache(1)
    assert cache.get(plan(1), lambda: opened(100))
    assert cache.holds(plan(1))
    cache.get(plan(2), lambda: opened(100))
    assert len(cache) == 1


def test_a_model_s_plans_go_with_it() -> None:
    cache = SessionCache(10**9)
    for number, model in ((1, 1), (2, 1), (3, 2)):
        cache.get(plan(number, model), opened)
    cache.drop(1)
    assert len(cache) == 1
    assert cache.holds(plan(3, 2))
