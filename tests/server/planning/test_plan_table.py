"""Tests of the table of compiled plans; after any sequence of operations its totals equal the sums of its entries."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from layertap_server.planning.plan_table import MOST_CANDIDATES, Cost, PlanTable

BUDGET = Cost(100, 20)
NUMBERS = st.integers(0, 15)


def parts(plan: Hashable) -> Iterator[Hashable]:
    """Return the set bits of a number as its parts, so that plans that share a bit share a part."""
    assert isinstance(plan, int)
    return (bit for bit in range(4) if plan >> bit & 1)


class TableMachine(RuleBasedStateMachine):
    """State machine that compares the table with a dictionary whose costs are summed at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.table: PlanTable[str] = PlanTable(BUDGET, parts)
        self.costs: dict[int, Cost] = {}
        self.copies: dict[int, Cost] = {}

    @rule(plan=NUMBERS, size=st.integers(0, 60), threads=st.integers(0, 15))
    def add(self, plan: int, size: int, threads: int) -> None:
        if plan in self.costs:
            return
        self.costs[plan] = Cost(size, threads)
        self.table.add(plan, str(plan), self.costs[plan])

    @rule(plan=NUMBERS)
    def use(self, plan: int) -> None:
        assert self.table.use(plan) == (str(plan) if plan in self.costs else None)

    @rule(plan=NUMBERS, size=st.integers(0, 60))
    def open_copy(self, plan: int, size: int) -> None:
        if plan in self.costs:
            self.table.add_copy(plan, Cost(size))
            self.copies.setdefault(plan, Cost(size))

    @rule(plan=NUMBERS)
    def close_copy(self, plan: int) -> None:
        self.table.drop_copy(plan)
        self.copies.pop(plan, None)

    @precondition(lambda self: self.costs)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        plan = data.draw(st.sampled_from(sorted(self.costs)))
        assert self.table.remove(plan) == str(plan)
        self.forget(plan)

    @precondition(lambda self: self.costs)
    @rule(data=st.data())
    def evict(self, data: st.DataObject) -> None:
        newest = data.draw(st.sampled_from(sorted(self.costs)))
        while self.table.is_over and (victim := self.table.victim(newest)) is not None:
            assert isinstance(victim, int)
            self.table.remove(victim)
            self.forget(victim)
        assert newest in self.table
        assert not self.table.is_over or len(self.table) == 1

    def forget(self, plan: int) -> None:
        del self.costs[plan]
        self.copies.pop(plan, None)

    @invariant()
    def totals_are_sums(self) -> None:
        assert self.table.total == sum([*self.costs.values(), *self.copies.values()], Cost())
        assert len(self.table) == len(self.costs)
        assert set(self.table.plans()) == set(self.costs)

    @invariant()
    def candidates_share_a_part(self) -> None:
        for plan in range(16):
            found = [other for other, _ in self.table.candidates(plan)]
            wider = {other for other in self.costs if plan and other & plan == plan}
            assert wider <= set(found), "every wider plan is among them"
            assert all(isinstance(other, int) and other & plan for other in found)


TestTable = TableMachine.TestCase


def test_a_caller_of_new_plans_replaces_its_own_and_not_those_that_are_used_again() -> None:
    table: PlanTable[str] = PlanTable(Cost(10, 10))
    for plan in range(5):
        table.add(plan, "used by others", Cost(1))
        table.use(plan)
    for plan in range(100, 200):
        table.add(plan, "new", Cost(1))
        while table.is_over:
            victim = table.victim(newest=plan)
            assert victim is not None
            table.remove(victim)
    assert all(plan in table for plan in range(5))
    assert len(table) == 10


def test_plans_that_were_used_again_leave_room_for_new_ones() -> None:
    table: PlanTable[str] = PlanTable(Cost(10, 10))
    for plan in range(10):
        table.add(plan, "used again", Cost(1))
        table.use(plan)
    table.add(10, "new", Cost(1))
    assert table.victim(newest=10) == 0


def test_a_search_looks_at_few_of_many_plans() -> None:
    table: PlanTable[str] = PlanTable(Cost(10**6, 10**6), lambda plan: (plan % 2,) if isinstance(plan, int) else ())
    for plan in range(500):
        table.add(plan, "", Cost(1))
    found = [plan for plan, _ in table.candidates(1)]
    assert found == list(range(499, 499 - 2 * MOST_CANDIDATES, -2)), "the newest first"
    assert table.candidates("of another kind") == []
