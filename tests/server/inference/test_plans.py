"""Tests of acquiring plans: compiled once, narrowed from a wider one, or compiled apart."""

from __future__ import annotations

import pytest

from layertap_server.inference.plans import Plans
from layertap_server.models.loader import LoadedModel
from layertap_server.planning.plan import Plan, PlanInput
from layertap_server.planning.plan_store import PlanStore
from layertap_server.runtime import Runtime

INPUT = PlanInput(pictures=True, size=(8, 8))


@pytest.fixture
def plans(store: PlanStore) -> Plans:
    return Plans(Runtime(threads=1), store)


def plan_of(model: LoadedModel, *taps: str) -> Plan:
    return model.planner.resolve(taps, INPUT).plan


def test_a_plan_is_compiled_once(plans: Plans, store: PlanStore, model: LoadedModel) -> None:
    plan = plan_of(model, "act | gap")
    assert not plans.is_warm(model, plan)
    first = plans.acquire(model, plan)
    assert plans.is_warm(model, plan)
    assert plans.acquire(model, plan) is first
    assert len(store) == 1


def test_a_wider_plan_of_similar_cost_is_narrowed(plans: Plans, store: PlanStore, model: LoadedModel) -> None:
    wide = plans.acquire(model, plan_of(model, "conv | gap -> a", "conv | gmp -> b"))
    narrow = plan_of(model, "conv | gmp")
    assert plans.is_warm(model, narrow)
    opened = plans.acquire(model, narrow)
    assert opened.session is wide.session
    assert opened.compiled.output_names == wide.compiled.output_names[1:]
    assert len(store) == 1


def test_a_much_dearer_plan_is_not_used_for_a_cheap_one(plans: Plans, store: PlanStore, model: LoadedModel) -> None:
    wide = plans.acquire(model, plan_of(model, "conv | gap -> a", "joined | gap -> b"))
    opened = plans.acquire(model, plan_of(model, "conv | gap"))
    assert opened.session is not wide.session
    assert len(store) == 2
