"""Table of compiled plans in order of use, with running totals of their cost.

The table is not thread-safe; ``PlanStore`` locks it. It is a segmented LRU cache: plans that were used once and
plans that were used again are kept in separate segments. A caller who sends new taps with every request therefore
evicts other plans of single use, and not the plans that are in constant use.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

MOST_CANDIDATES = 64
"""Maximum number of plans that one search for a wider plan examines."""
SHARE_OF_USED_AGAIN = 0.8
"""Fraction of the budget above which plans that were used again are evicted before plans that were used once."""

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Cost:
    """Memory and threads of one or more plans."""

    bytes: int = 0
    threads: int = 0

    def __add__(self, other: Cost) -> Cost:
        """Return the sum of two costs."""
        return Cost(self.bytes + other.bytes, self.threads + other.threads)

    def __sub__(self, other: Cost) -> Cost:
        """Return the difference of two costs."""
        return Cost(self.bytes - other.bytes, self.threads - other.threads)

    def exceeds(self, budget: Cost, share: float = 1.0) -> bool:
        """Return whether the memory or the threads exceed this share of the budget."""
        return self.bytes > share * budget.bytes or self.threads > share * budget.threads


@dataclass(slots=True)
class _Entry(Generic[Value]):
    """A plan's value, its cost and the keys of its heads."""

    value: Value
    cost: Cost
    parts: Collection[Hashable]


class _Segment(OrderedDict[Hashable, _Entry[Value]]):
    """Entries, least recently used first, and the sum of their costs."""

    def __init__(self) -> None:
        super().__init__()
        self.total = Cost()

    def add(self, plan: Hashable, entry: _Entry[Value]) -> None:
        """Append an entry as the most recently used."""
        self[plan] = entry
        self.total += entry.cost

    def remove(self, plan: Hashable) -> _Entry[Value]:
        """Remove and return the entry of a plan."""
        entry = self.pop(plan)
        self.total -= entry.cost
        return entry


class PlanTable(Generic[Value]):
    """Mapping from plans to values. Each operation but `plans` takes constant time, whatever the number of plans."""

    def __init__(self, budget: Cost, parts_of: Callable[[Hashable], Iterable[Hashable]] = lambda _: ()) -> None:
        """Create an empty table.

        Args:
            budget: maximum cost of all plans together.
            parts_of: function from a plan to the keys under which `candidates` finds it, such as its heads.
        """
        self.budget = budget
        self._parts_of = parts_of
        self._once: _Segment[Value] = _Segment()
        self._again: _Segment[Value] = _Segment()
        self._by_part: dict[Hashable, OrderedDict[Hashable, None]] = {}
        self._copies: OrderedDict[Hashable, Cost] = OrderedDict()
        self._copies_total = Cost()

    @property
    def total(self) -> Cost:
        """Cost of all plans and of their single-threaded replicas."""
        return self._once.total + self._again.total + self._copies_total

    @property
    def is_over(self) -> bool:
        """Whether the total cost exceeds the budget."""
        return self.total.exceeds(self.budget)

    def __len__(self) -> int:
        """Return the number of plans."""
        return len(self._once) + len(self._again)

    def __contains__(self, plan: object) -> bool:
        """Return whether the table has the plan."""
        return plan in self._once or plan in self._again

    def plans(self) -> list[Hashable]:
        """Return all plans in time proportional to their number."""
        return [*self._once, *self._again]

    def peek(self, plan: Hashable) -> Value | None:
        """Return the plan's value without counting a use; None if the table lacks the plan."""
        entry = self._once.get(plan) or self._again.get(plan)
        return entry.value if entry else None

    def use(self, plan: Hashable) -> Value | None:
        """Return the plan's value and make it the most recently used; None if the table lacks the plan."""
        if plan in self._once:
            self._again.add(plan, self._once.remove(plan))
        elif plan not in self._again:
            return None
        self._again.move_to_end(plan)
        return self._again[plan].value

    def add(self, plan: Hashable, value: Value, cost: Cost) -> None:
        """Add a plan that is not in the table."""
        entry = _Entry(value, cost, tuple(self._parts_of(plan)))
        self._once.add(plan, entry)
        for part in entry.parts:
            self._by_part.setdefault(part, OrderedDict())[plan] = None

    def remove(self, plan: Hashable) -> Value:
        """Remove a plan with its replica and return the plan's value."""
        self.drop_copy(plan)
        entry = (self._once if plan in self._once else self._again).remove(plan)
        for part in entry.parts:
            plans = self._by_part[part]
            plans.pop(plan, None)
            if not plans:
                del self._by_part[part]
        return entry.value

    def add_copy(self, plan: Hashable, cost: Cost) -> None:
        """Add the cost of a plan's single-threaded replica, unless it is already counted."""
        if plan not in self._copies:
            self._copies[plan] = cost
            self._copies_total += cost

    def drop_copy(self, plan: Hashable) -> None:
        """Subtract the cost of the plan's replica, if it has one."""
        self._copies_total -= self._copies.pop(plan, Cost())

    def oldest_copy(self) -> Hashable | None:
        """Return the plan with the oldest replica; None if no plan has one."""
        return next(iter(self._copies), None)

    def victim(self, newest: Hashable = None) -> Hashable | None:
        """Return the plan to evict next, never ``newest``; None if there is no other plan."""
        is_full = self._again.total.exceeds(self.budget, SHARE_OF_USED_AGAIN)
        segments = (self._again, self._once) if is_full else (self._once, self._again)
        candidates = (plan for segment in segments for plan in islice(segment, 2) if plan != newest)
        return next(candidates, None)

    def candidates(self, plan: Hashable) -> list[tuple[Hashable, Value]]:
        """Return plans that share the rarest part of this plan, newest first, at most `MOST_CANDIDATES`."""
        sharing = [self._by_part.get(part, OrderedDict()) for part in self._parts_of(plan)]
        rarest = min(sharing, key=len, default=OrderedDict())
        return [(other, self._entry(other).value) for other in islice(reversed(rarest), MOST_CANDIDATES)]

    def _entry(self, plan: Hashable) -> _Entry[Value]:
        return self._once.get(plan) or self._again[plan]
