"""The sessions of recent plans, kept within a budget of bytes; each is compiled once, however many callers wait."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from types import MappingProxyType

from layertap.types import Array, Quantization
from layertap_server.graph import CompiledPlan
from layertap_server.runtime import Session

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
    def cost_bytes(self) -> int:
        """An estimate of what it takes."""
        return session_bytes(self.compiled) * (2 if self.session.has_copy else 1)


def session_bytes(compiled: CompiledPlan) -> int:
    """An estimate: onnxruntime keeps a rearranged copy of the weights for each session."""
    return int(WEIGHTS_FACTOR * compiled.weight_bytes) + len(compiled.model) + OVERHEAD_BYTES


class SessionCache:
    """Plans to sessions, the least recently used leaving first."""

    def __init__(self, budget_bytes: int, on_event: Callable[[str], None] = lambda _: None) -> None:
        """``on_event`` hears of each "hit", "miss", "reuse", "shrink" and "eviction"."""
        self._budget_bytes = budget_bytes
        self._on_event = on_event
        self._lock = threading.Lock()
        self._open: OrderedDict[Hashable, Future[OpenPlan]] = OrderedDict()
        self._gone: set[int] = set()

    def get(self, plan: Hashable, compile_: Callable[[], OpenPlan]) -> OpenPlan:
        """The plan's session; where it is new, one caller compiles it and the others wait for that one.

        Raises:
            Whatever ``compile_`` raises; a failure is told to everyone who waits and is not kept.
        """
        with self._lock:
            future = self._open.get(plan)
            mine = future is None
            if future is None:
                future = self._open[plan] = Future()
            self._open.move_to_end(plan)
        self._on_event("miss" if mine else "hit")
        if mine:
            self._fill(plan, future, compile_)
        return future.result()

    def ready(self, fits: Callable[[Hashable], bool]) -> list[tuple[Hashable, OpenPlan]]:
        """The compiled plans that fit, the most recently used last."""
        with self._lock:
            return [(plan, future.result()) for plan, future in self._open.items() if fits(plan) and future.done()]

    def used(self, plan: Hashable) -> None:
        """Tells that a plan served a request that asked for less."""
        with self._lock:
            if plan in self._open:
                self._open.move_to_end(plan)
        self._on_event("reuse")

    def forget(self, model_key: int) -> None:
        """Drops the plans of a model that is gone, and keeps none of it from now on; runs under way end."""
        with self._lock:
            self._gone.add(model_key)
            for plan in [plan for plan in self._open if _model_key(plan) == model_key]:
                del self._open[plan]

    def __contains__(self, plan: Hashable) -> bool:
        """Whether the plan is compiled."""
        with self._lock:
            future = self._open.get(plan)
        return future is not None and future.done()

    @property
    def used_bytes(self) -> int:
        """What the compiled plans are reckoned to take."""
        with self._lock:
            return self._used()

    def has_room(self, size: int) -> bool:
        """Whether so many bytes more are within the budget."""
        return self.used_bytes + size <= self._budget_bytes

    def __len__(self) -> int:
        with self._lock:
            return len(self._open)

    def _fill(self, plan: Hashable, future: Future[OpenPlan], compile_: Callable[[], OpenPlan]) -> None:
        try:
            future.set_result(compile_())
        except BaseException as error:
            with self._lock:
                self._open.pop(plan, None)
            future.set_exception(error)
            raise
        self._evict(plan)
        with self._lock:
            if _model_key(plan) in self._gone:  # it was replaced while this was compiled
                self._open.pop(plan, None)

    def _evict(self, newest: Hashable) -> None:
        with self._lock:
            self._drop_copies()
            for plan in list(self._open):
                if self._used() <= self._budget_bytes:
                    return
                if plan != newest and self._open[plan].done():
                    del self._open[plan]
                    self._on_event("eviction")

    def _drop_copies(self) -> None:
        """What only makes crowds faster goes before what somebody would have to compile again."""
        for future in self._open.values():
            if self._used() <= self._budget_bytes:
                return
            if future.done() and future.result().session.has_copy:
                future.result().session.drop_copy()
                self._on_event("shrink")

    def _used(self) -> int:
        return sum(future.result().cost_bytes for future in self._open.values() if future.done())


def _model_key(plan: Hashable) -> int | None:
    """The model that a plan is of; a head on a caller's tensor has none."""
    return getattr(plan, "model_key", None)
