"""The sessions of recent plans, kept within a budget of bytes; each is compiled once, however many callers wait."""

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

OVERHEAD_BYTES = 2 * 2**20
"""What a session takes beside its weights, roughly."""
WEIGHTS_FACTOR = 1.6
"""What a session's copy of the weights takes, in parts of the weights: rearranged for vectors of 8 or 16, and with the
gaps that plans that come and go leave in the heap (measured over 2,000 of them, see docs/decisions/0004)."""


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """What one head of a plan gave, batch first."""

    array: Array
    quantization: Quantization | None = None


Outputs = tuple[Output, ...]


@dataclass(frozen=True, slots=True)
class OpenPlan:
    """A plan that is ready to run."""

    session: Session
    compiled: CompiledPlan

    def run(self, batch: Array, others: Mapping[str, Array] = MappingProxyType({})) -> dict[str, Array]:
        """Every output by name; ``others`` are values for `CompiledPlan.other_inputs`."""
        names = self.compiled.fetched
        return dict(zip(names, self.session.run({self.compiled.input_name: batch, **others}, names), strict=True))

    def outputs(self, arrays: Mapping[str, Array]) -> Outputs:
        """What each head gave, of all that was run."""
        return tuple(Output(arrays[name], self._quantization_of(name, arrays)) for name in self.compiled.output_names)

    def _quantization_of(self, output: str, arrays: Mapping[str, Array]) -> Quantization | None:
        """How the output's values became bytes, where they did."""
        names = self.compiled.quantization.get(output)
        return Quantization(*(arrays[name] for name in names)) if names else None

    def narrowed(self, heads: Sequence[int]) -> OpenPlan:
        """The same session, asked for these of its heads only, in this order."""
        names = tuple(self.compiled.output_names[head] for head in heads)
        quantization = {name: pair for name, pair in self.compiled.quantization.items() if name in names}
        return OpenPlan(self.session, replace(self.compiled, output_names=names, quantization=quantization))

    @property
    def batch_key(self) -> Hashable:
        """What requests have in common whose images may run together.

        Not the plan: one that a wider plan serves has that one's session and names.
        """
        return self.session, self.compiled.output_names

    @property
    def cost(self) -> Cost:
        """Estimated memory and threads of the plan, without its copy."""
        return Cost(session_bytes(self.compiled), self.session.threads)


def session_bytes(compiled: CompiledPlan) -> int:
    """An estimate: onnxruntime keeps a rearranged copy of the weights for each session."""
    return int(WEIGHTS_FACTOR * compiled.weight_bytes) + len(compiled.model) + OVERHEAD_BYTES


class SessionCache:
    """Sessions by plan, within a budget of memory and threads."""

    def __init__(
        self,
        budget_bytes: int,
        on_event: Callable[[str], None] = lambda _: None,
        budget_threads: int = UNBOUNDED,
    ) -> None:
        """Create an empty cache; ``on_event`` receives each "hit", "miss", "reuse", "shrink" and "eviction"."""
        self._on_event = on_event
        self._lock = threading.Lock()
        self._table: PlanTable[OpenPlan] = PlanTable(Cost(budget_bytes, budget_threads), _parts)
        self._pending: dict[Hashable, Future[OpenPlan]] = {}
        self._gone: set[int] = set()

    def get(self, plan: Hashable, compile_: Callable[[], OpenPlan]) -> OpenPlan:
        """Return the plan's session; where it is new, one caller compiles it and the others wait for that one.

        Raises:
            Whatever ``compile_`` raises; a failure is raised to everyone who waits and is not kept.
        """
        with self._lock:
            opened = self._table.use(plan)
            is_new = opened is None and plan not in self._pending
            future = self._pending.setdefault(plan, Future()) if opened is None else _done(opened)
        self._on_event("miss" if is_new else "hit")
        if is_new:
            self._fill(plan, future, compile_)
        return future.result()

    def sharing(self, plan: Hashable) -> list[tuple[Hashable, OpenPlan]]:
        """Return compiled plans that have a head in common with this one, the newest first; not all of many."""
        with self._lock:
            return self._table.candidates(plan)

    def used(self, plan: Hashable) -> None:
        """Count a use of a plan that served a request which asked for less."""
        with self._lock:
            self._table.use(plan)
        self._on_event("reuse")

    def forget(self, model_key: int) -> None:
        """Drop the plans of a model that was unloaded and keep none of it from now on; runs under way end."""
        with self._lock:
            self._gone.add(model_key)
            gone = [plan for plan in self._table.plans() if _model_key(plan) == model_key]
            dropped = [self._table.remove(plan) for plan in gone]
        del dropped  # sessions are closed here, without the lock

    def relieve(self) -> bool:
        """Drop all copies and the half of the plans that was used least recently; return whether there was any."""
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
        """Return whether so many bytes more are within the budget."""
        with self._lock:
            return self._table.total.bytes + size <= self._table.budget.bytes

    def __len__(self) -> int:
        with self._lock:
            return len(self._table)

    def _fill(self, plan: Hashable, future: Future[OpenPlan], compile_: Callable[[], OpenPlan]) -> None:
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
        """Compile a plan; where the system has no thread, descriptor or memory left, evict others and try once more."""
        try:
            return compile_()
        except (OutOfResourcesError, DeviceMemoryError):
            if not self.relieve():
                raise
        return compile_()

    def _insert(self, plan: Hashable, opened: OpenPlan) -> None:
        cost = opened.cost
        with self._lock:
            self._pending.pop(plan, None)
            if _model_key(plan) in self._gone:  # it was replaced while this was compiled
                return
            self._table.add(plan, opened, cost)
            shrunk = list(self._drop_copies(until=lambda: not self._table.is_over))
            dropped = []
            while self._table.is_over and (victim := self._table.victim(newest=plan)) is not None:
                dropped.append(self._table.remove(victim))
        self._report(shrunk, dropped)

    def _count_copy(self, plan: Hashable) -> None:
        """Count the copy that a session has opened for itself."""
        with self._lock:
            opened = self._table.peek(plan)
            if opened is None or not opened.session.has_copy:
                return
            self._table.add_copy(plan, Cost(session_bytes(opened.compiled)))
            shrunk = list(self._drop_copies(until=lambda: not self._table.is_over))
        self._report(shrunk, [])

    def _drop_copies(self, until: Callable[[], bool]) -> Iterator[object]:
        """Drop copies, the oldest first: they only add speed, where a plan would have to be compiled again."""
        while not until() and (plan := self._table.oldest_copy()) is not None:
            opened = self._table.peek(plan)
            self._table.drop_copy(plan)
            if opened is not None:
                yield opened.session.drop_copy()

    def _report(self, shrunk: list[object], dropped: list[OpenPlan]) -> None:
        """Close the sessions that were dropped and count them. It takes long and must not hold the lock."""
        events = ["shrink"] * len(shrunk) + ["eviction"] * len(dropped)
        shrunk.clear()
        dropped.clear()
        for event in events:
            self._on_event(event)


def _done(opened: OpenPlan) -> Future[OpenPlan]:
    future: Future[OpenPlan] = Future()
    future.set_result(opened)
    return future


def _model_key(plan: Hashable) -> int | None:
    """Return the key of the plan's model; a head on a caller's tensor has none."""
    return getattr(plan, "model_key", None)


def _parts(plan: Hashable) -> Iterator[Hashable]:
    """Yield a key for each head of a plan, which is the same in every plan that computes this head."""
    for head in getattr(plan, "heads", ()):
        yield _model_key(plan), getattr(plan, "input", None), head
