"""Store of compiled plans and their sessions, within a budget of memory and threads.

Concurrent requests for a plan that is not in the store share one compilation.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from layertap.errors import DeviceMemoryError, OutOfResourcesError
from layertap_server.planning.open_plan import OpenPlan, session_bytes
from layertap_server.planning.plan_table import Cost, PlanTable

UNBOUNDED = 2**62
"""Thread budget that is never reached."""


@dataclass(frozen=True, slots=True)
class RoomInStore:
    """Budget for the single-threaded replica of one session: the room that is left in the plan store."""

    store: PlanStore
    bytes: int
    """Estimated bytes of the replica."""

    def has_room(self) -> bool:
        """Return whether the replica fits into the budget of the store."""
        return self.store.fits(self.bytes)


class Compiler(Protocol):
    """Compiler of the plans of one model, or of heads on a caller's tensor."""

    def compile(self, plan: Any) -> OpenPlan:
        """Compile a plan and open a session for it."""


class PlanStore:
    """Compiled plans within a budget of memory and threads; safe to use from any number of threads."""

    def __init__(
        self,
        budget_bytes: int,
        on_event: Callable[[str], None] = lambda _: None,
        budget_threads: int = UNBOUNDED,
    ) -> None:
        """Create an empty store.

        Args:
            budget_bytes: maximum estimated bytes of all sessions.
            on_event: called with "hit", "miss", "reuse", "shrink" or "eviction" for each such event.
            budget_threads: maximum number of threads of all sessions.
        """
        self._on_event = on_event
        self._lock = threading.Lock()
        self._table: PlanTable[OpenPlan] = PlanTable(Cost(budget_bytes, budget_threads), _parts)
        self._pending: dict[Hashable, Future[OpenPlan]] = {}
        self._gone: set[int] = set()

    def acquire(self, plan: Hashable, compiler: Compiler) -> OpenPlan:
        """Return the compiled plan, compiling it if needed.

        One caller compiles a new plan while the other callers wait for the result.

        Raises:
            Exception: any exception of the compiler, raised to all callers that wait; it is not kept.
        """
        with self._lock:
            opened = self._table.use(plan)
            is_new = opened is None and plan not in self._pending
            future = self._pending.setdefault(plan, Future()) if opened is None else _completed(opened)
        self._on_event("miss" if is_new else "hit")
        if is_new:
            self._fill(plan, future, compiler)
        return future.result()

    def find_sharing(self, plan: Hashable) -> list[tuple[Hashable, OpenPlan]]:
        """Return compiled plans that share a head with this plan, newest first, up to a maximum number."""
        with self._lock:
            return self._table.candidates(plan)

    def count_reuse(self, plan: Hashable) -> None:
        """Count a use of a wider plan by a request for some of its heads."""
        with self._lock:
            self._table.use(plan)
        self._on_event("reuse")

    def forget(self, model_key: int) -> None:
        """Drop all plans of an unloaded model and stop caching new ones; runs in progress finish."""
        with self._lock:
            self._gone.add(model_key)
            gone = [plan for plan in self._table.plans() if _model_key(plan) == model_key]
            dropped = [self._table.remove(plan) for plan in gone]
        del dropped  # closes the sessions outside the lock

    def relieve(self) -> bool:
        """Free memory: drop all single-threaded replicas and the least recently used half of the plans.

        Returns:
            Whether anything was dropped.
        """
        with self._lock:
            half = -(-len(self._table) // 2)
            shrunk = list(self._drop_copies(until=lambda: False))
            dropped = [self._table.remove(plan) for _ in range(half) if (plan := self._table.victim()) is not None]
        is_relief = bool(shrunk or dropped)
        self._report(shrunk, dropped)
        return is_relief

    def __contains__(self, plan: Hashable) -> bool:
        """Return whether the plan is compiled."""
        with self._lock:
            return plan in self._table

    @property
    def used_bytes(self) -> int:
        """Estimated memory of the compiled plans."""
        with self._lock:
            return self._table.total.bytes

    @property
    def used_threads(self) -> int:
        """Threads of the compiled plans."""
        with self._lock:
            return self._table.total.threads

    def fits(self, size: int) -> bool:
        """Return whether ``size`` more bytes fit into the budget."""
        with self._lock:
            return self._table.total.bytes + size <= self._table.budget.bytes

    def __len__(self) -> int:
        """Return the number of compiled plans."""
        with self._lock:
            return len(self._table)

    def _fill(self, plan: Hashable, future: Future[OpenPlan], compiler: Compiler) -> None:
        """Compile a plan, add it to the table and complete the future on which other callers wait."""
        try:
            opened = self._compile(plan, compiler)
        except BaseException as error:
            with self._lock:
                self._pending.pop(plan, None)
            future.set_exception(error)
            raise
        opened.session.when_copied(partial(self._count_copy, plan))
        self._insert(plan, opened)
        future.set_result(opened)

    def _compile(self, plan: Hashable, compiler: Compiler) -> OpenPlan:
        """Compile a plan; if the system runs out of threads, descriptors or memory, evict plans and retry once."""
        try:
            return compiler.compile(plan)
        except (OutOfResourcesError, DeviceMemoryError):
            if not self.relieve():
                raise
        return compiler.compile(plan)

    def _insert(self, plan: Hashable, opened: OpenPlan) -> None:
        """Add a compiled plan, then drop replicas and evict plans until the budget holds."""
        cost = opened.cost
        with self._lock:
            self._pending.pop(plan, None)
            if _model_key(plan) in self._gone:  # the model was unloaded or replaced during the compilation
                return
            self._table.add(plan, opened, cost)
            shrunk = list(self._drop_copies(until=lambda: not self._table.is_over))
            dropped = []
            while self._table.is_over and (victim := self._table.victim(newest=plan)) is not None:
                dropped.append(self._table.remove(victim))
        self._report(shrunk, dropped)

    def _count_copy(self, plan: Hashable) -> None:
        """Add the cost of the single-threaded replica that a session has opened, and keep within the budget."""
        with self._lock:
            opened = self._table.peek(plan)
            if opened is None or not opened.session.has_copy:
                return
            self._table.add_copy(plan, Cost(session_bytes(opened.compiled)))
            shrunk = list(self._drop_copies(until=lambda: not self._table.is_over))
        self._report(shrunk, [])

    def _drop_copies(self, until: Callable[[], bool]) -> Iterator[object]:
        """Drop single-threaded replicas, oldest first, until ``until`` returns true; yield each dropped replica.

        Replicas are dropped before plans, since they only add speed, whereas an evicted plan must be compiled again.
        """
        while not until() and (plan := self._table.oldest_copy()) is not None:
            opened = self._table.peek(plan)
            self._table.drop_copy(plan)
            if opened is not None:
                yield opened.session.drop_copy()

    def _report(self, shrunk: list[object], dropped: list[OpenPlan]) -> None:
        """Close dropped sessions and report them as events; call it without the lock, since closing takes long."""
        events = ["shrink"] * len(shrunk) + ["eviction"] * len(dropped)
        shrunk.clear()
        dropped.clear()
        for event in events:
            self._on_event(event)


def _completed(opened: OpenPlan) -> Future[OpenPlan]:
    """Return a future that has this result."""
    future: Future[OpenPlan] = Future()
    future.set_result(opened)
    return future


def _model_key(plan: Hashable) -> int | None:
    """Return the key of the plan's model; None for a head on a caller's tensor, which has no model."""
    return getattr(plan, "model_key", None)


def _parts(plan: Hashable) -> Iterator[Hashable]:
    """Yield a key for each head of a plan; plans that compute the same head on the same input share its key."""
    for head in getattr(plan, "heads", ()):
        yield _model_key(plan), getattr(plan, "input", None), head
