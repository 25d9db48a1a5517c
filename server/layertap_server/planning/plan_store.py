"""Cache of the sessions of recent plans, within a budget of memory and threads.

Concurrent requests for a plan that is not cached share one compilation.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

from layertap.errors import DeviceMemoryError, OutOfResourcesError
from layertap.types import Array, Quantization
from layertap_server.graph import CompiledPlan
from layertap_server.planning.plan_table import Cost, PlanTable
from layertap_server.runtime import Session

UNBOUNDED = 2**62
"""Thread budget that is never reached."""

OVERHEAD_BYTES = 2 * 2**20
"""Estimated bytes of a session without its weights."""
WEIGHTS_FACTOR = 1.6
"""Estimated memory of a session's copy of the weights, as a multiple of their size.

onnxruntime pads the weights to vectors of 8 or 16, and short-lived plans fragment the heap. Measured over 2,000 plans;
see docs/decisions/0004.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """Output of one head of a plan."""

    array: Array
    """Values, batch first."""
    quantization: Quantization | None = None
    """Scale and zero point of quantized values; None if the values are not quantized."""


Outputs = tuple[Output, ...]


@dataclass(frozen=True, slots=True)
class OpenPlan:
    """A compiled plan with its session."""

    session: Session
    compiled: CompiledPlan

    def run(self, batch: Array, others: Mapping[str, Array] = MappingProxyType({})) -> dict[str, Array]:
        """Run the plan on a batch and return every output by name.

        Args:
            batch: the images.
            others: values for ``CompiledPlan.other_inputs``, by name.
        """
        names = self.compiled.fetched
        return dict(zip(names, self.session.run({self.compiled.input_name: batch, **others}, names), strict=True))

    def outputs(self, arrays: Mapping[str, Array]) -> Outputs:
        """Return the output of each head, in the order of the plan, from the arrays that `run` returned."""
        return tuple(Output(arrays[name], self._quantization_of(name, arrays)) for name in self.compiled.output_names)

    def _quantization_of(self, output: str, arrays: Mapping[str, Array]) -> Quantization | None:
        """Return the scale and zero point of an output; None if it is not quantized."""
        names = self.compiled.quantization.get(output)
        return Quantization(*(arrays[name] for name in names)) if names else None

    def narrow(self, heads: Sequence[int]) -> OpenPlan:
        """Return a plan on the same session that computes only the heads with these indices, in this order."""
        names = tuple(self.compiled.output_names[head] for head in heads)
        quantization = {name: pair for name, pair in self.compiled.quantization.items() if name in names}
        return OpenPlan(self.session, replace(self.compiled, output_names=names, quantization=quantization))

    @property
    def batch_key(self) -> Hashable:
        """Key shared by all requests whose images may run in one batch.

        This is the session with its outputs and not the plan: a request that reuses a wider plan runs on the session of
        that plan.
        """
        return self.session, self.compiled.output_names

    @property
    def cost(self) -> Cost:
        """Estimated memory and threads of the plan, without its single-threaded replica."""
        return Cost(session_bytes(self.compiled), self.session.threads)


def session_bytes(compiled: CompiledPlan) -> int:
    """Estimate the bytes of a session; onnxruntime keeps a rearranged copy of the weights for each one."""
    return int(WEIGHTS_FACTOR * compiled.weight_bytes) + len(compiled.model) + OVERHEAD_BYTES


class SessionCache:
    """Sessions by plan, within a budget of memory and threads; safe to use from any number of threads."""

    def __init__(
        self,
        budget_bytes: int,
        on_event: Callable[[str], None] = lambda _: None,
        budget_threads: int = UNBOUNDED,
    ) -> None:
        """Create an empty cache.

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

    def get(self, plan: Hashable, compile_: Callable[[], OpenPlan]) -> OpenPlan:
        """Return the session for a plan, compiling the plan if needed.

        One caller compiles a new plan while the other callers wait for the result.

        Raises:
            Exception: any exception of ``compile_``, raised to all callers that wait; it is not cached.
        """
        with self._lock:
            opened = self._table.use(plan)
            is_new = opened is None and plan not in self._pending
            future = self._pending.setdefault(plan, Future()) if opened is None else _completed(opened)
        self._on_event("miss" if is_new else "hit")
        if is_new:
            self._fill(plan, future, compile_)
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

    def has_room(self, size: int) -> bool:
        """Return whether ``size`` more bytes fit into the budget."""
        with self._lock:
            return self._table.total.bytes + size <= self._table.budget.bytes

    def __len__(self) -> int:
        """Return the number of compiled plans."""
        with self._lock:
            return len(self._table)

    def _fill(self, plan: Hashable, future: Future[OpenPlan], compile_: Callable[[], OpenPlan]) -> None:
        """Compile a plan, add it to the table and complete the future on which other callers wait."""
        try:
            opened = self._compile(compile_)
        except BaseException as error:
            with self._lock:
                self._pending.pop(plan, None)
            future.set_exception(error)
            raise
        opened.session.when_copied(partial(self._count_copy, plan))
        self._insert(plan, opened)
        future.set_result(opened)

    def _compile(self, compile_: Callable[[], OpenPlan]) -> OpenPlan:
        """Compile a plan; if the system runs out of threads, descriptors or memory, evict plans and retry once."""
        try:
            return compile_()
        except (OutOfResourcesError, DeviceMemoryError):
            if not self.relieve():
                raise
        return compile_()

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
