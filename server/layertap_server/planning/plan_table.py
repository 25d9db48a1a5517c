"""Compiled plans in order of use, with running totals of what they take. It is not locked; `SessionCache` locks it.

Plans that were used once and plans that were used again are kept apart, as in a segmented LRU cache: a caller who
brings new taps with every request replaces plans like his own, and not the plans that others use all the time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

MOST_CANDIDATES = 64
"""Plans that one search for a wider plan looks at."""
SHARE_OF_USED_AGAIN = 0.8
"""Fraction of the budget that plans which were used again may fill before the oldest of them is evicted."""

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Cost:
    """Memory and threads of plans."""

    bytes: int = 0
    threads: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.bytes + other.bytes, self.threads + other.threads)

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.bytes - other.bytes, self.threads - other.threads)

    def exceeds(self, budget: Cost, share: float = 1.0) -> bool:
        """Whether it takes more than this share of either part of the budget."""
        return self.bytes > share * budget.bytes or self.threads > share * budget.threads


@dataclass(slots=True)
class _Entry(Generic[Value]):
    value: Value
    cost: Cost
    parts: Collection[Hashable]


class _Segment(OrderedDict[Hashable, _Entry[Value]]):
    """Entries, the least recently used first, and the sum of their costs."""

    def __init__(self) -> None:
        super().__init__()
        self.total = Cost()

    def add(self, plan: Hashable, entry: _Entry[Value]) -> None:
        self[plan] = entry
        self.total += entry.cost

    def remove(self, plan: Hashable) -> _Entry[Value]:
        entry = self.pop(plan)
        self.total -= entry.cost
        return entry


class PlanTable(Generic[Value]):
    """Plans to values. Every operation takes the same time, whatever the number of plans."""

    def __init__(self, budget: Cost, parts_of: Callable[[Hashable], Iterable[Hashable]] = lambda _: ()) -> None:
        """Create an empty table.

        Args:
            budget: what all plans together may take.
            parts_of: the keys under which `candidates` finds a plan, such as its heads.
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
        """Cost of all plans and of their copies."""
        return self._once.total + self._again.total + self._copies_total

    @property
    def is_over(self) -> bool:
        """Whether the plans take more than the budget."""
        return self.total.exceeds(self.budget)

    def __len__(self) -> int:
        return len(self._once) + len(self._again)

    def __contains__(self, plan: object) -> bool:
        return plan in self._once or plan in self._again

    def plans(self) -> list[Hashable]:
        """Return all plans; the time grows with their number."""
        return [*self._once, *self._again]

    def peek(self, plan: Hashable) -> Value | None:
        """Return the plan's value without counting it as a use; None where there is none."""
        entry = self._once.get(plan) or self._again.get(plan)
        return entry.value if entry else None

    def use(self, plan: Hashable) -> Value | None:
        """Return the plan's value and make it the most recently used; None where there is none."""
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
        """Remove a plan with its copy and return its value."""
        self.drop_copy(plan)
        entry = (self._once if plan in self._once else self._again).remove(plan)
        for part in entry.parts:
            plans = self._by_part[part]
            plans.pop(plan, None)
            if not plans:
                del self._by_part[part]
        return entry.value

    def add_copy(self, plan: Hashable, cost: Cost) -> None:
        """Count the copy of a plan of the table; a second call for the same plan changes nothing."""
        if plan not in self._copies:
            self._copies[plan] = cost
            self._copies_total += cost

    def drop_copy(self, plan: Hashable) -> None:
        """Stop counting the plan's copy, if it has one."""
        self._copies_total -= self._copies.pop(plan, Cost())

    def oldest_copy(self) -> Hashable | None:
        """Return the plan whose copy was opened first; None where no plan has a copy."""
        return next(iter(self._copies), None)

    def victim(self, newest: Hashable = None) -> Hashable | None:
        """Return the plan to evict next, which is never ``newest``; None where there is no other."""
        is_full = self._again.total.exceeds(self.budget, SHARE_OF_USED_AGAIN)
        segments = (self._again, self._once) if is_full else (self._once, self._again)
        candidates = (plan for segment in segments for plan in islice(segment, 2) if plan != newest)
        return next(candidates, None)

    def candidates(self, plan: Hashable) -> list[tuple[Hashable, Value]]:
        """Return plans that share the rarest part of this one, the newest first, at most `MOST_CANDIDATES`."""
        sharing = [self._by_part.get(part, OrderedDict()) for part in self._parts_of(plan)]
        rarest = min(sharing, key=len, default=OrderedDict())
        return [(other, self._entry(other).value) for other in islice(reversed(rarest), MOST_CANDIDATES)]

    def _entry(self, plan: Hashable) -> _Entry[Value]:
        return self._once.get(plan) or self._again[plan]
