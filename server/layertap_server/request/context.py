"""What is known of one request as it goes: who asked, which part of it took how long, and how it ended.

Whoever works on a request writes into the record of his thread; metrics, the log and traces read it once the request
has ended. It holds no image, no tensor and no tap.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from layertap.errors import LayertapError

STAGES = ("admission", "queue", "decode", "plan", "batch", "compute", "encode")
"""In the order in which a request goes through them: checks at the door, waiting for a worker, reading the message and
its images, resolving taps and opening the plan, waiting for a run, the run, writing the answer."""
CANCELLED = "CANCELLED"

_current: ContextVar[RequestContext | None] = ContextVar("request_record", default=None)


class StageTime(NamedTuple):
    """One stretch of a stage, in seconds of ``time.perf_counter``."""

    stage: str
    start: float
    end: float


@dataclass(eq=False, slots=True)
class RequestContext:
    """One request, or one item of a stream."""

    service: str = ""
    method: str = ""
    request_id: str = ""
    peer: str = ""
    """The caller's address without its port."""
    connection: str = ""
    """The caller's address with its port: one connection of one process."""
    trace_headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """``traceparent`` and ``tracestate``, as they came."""
    quick: bool = False
    """A listing, or a change of models: it goes through no stage."""
    is_stream: bool = False
    parent: RequestContext | None = None
    """The stream that an item is of."""
    began: float = field(default_factory=time.perf_counter)
    began_ns: int = field(default_factory=time.time_ns)
    """The same instant, since 1970."""
    ended: float = 0.0
    status: str = CANCELLED
    """Of gRPC, by name; until the request comes to an end of its own, nobody waits for it."""
    failure: LayertapError | None = None
    model: str = ""
    """Only one that the repository has: nothing that a caller made up."""
    version: str = ""
    images: int = 0
    """Whose features were extracted."""
    batch_size: int = 0
    """How many images ran together, this request's and others'; 0 where nothing ran."""
    runs: list[int] = field(default_factory=list)
    """The images of each run that this request's thread did."""
    bytes_in: int = 0
    bytes_out: int = 0
    bytes_shared: int = 0
    """Written into the caller's shared memory."""
    items: int = 0
    failed_items: int = 0
    items_bytes_in: int = 0
    items_bytes_out: int = 0
    stages: list[StageTime] = field(default_factory=list)

    @contextlib.contextmanager
    def of_this_thread(self) -> Iterator[None]:
        """What runs inside is this request's."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What runs inside is a stretch of this stage, also where it fails."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, start, time.perf_counter())

    def add(self, stage: str, start: float, end: float) -> None:
        self.stages.append(StageTime(stage, start, end))

    def item(self, bytes_in: int) -> RequestContext:
        """The record of one item of this stream."""
        return RequestContext(
            self.service, self.method, self.request_id, parent=self, bytes_in=bytes_in, model=self.model
        )

    def succeed(self) -> None:
        self.status = "OK"

    def fail(self, failure: LayertapError) -> None:
        self.status, self.failure = failure.status, failure

    def end(self) -> None:
        """From now on nothing changes; an item is added to its stream."""
        self.ended = time.perf_counter()
        stream = self.parent
        if stream is not None:
            stream.items += 1
            stream.failed_items += self.failure is not None
            stream.images += self.images
            stream.items_bytes_in += self.bytes_in
            stream.items_bytes_out += self.bytes_out

    @property
    def seconds(self) -> float:
        """From arrival to end."""
        return self.ended - self.began

    def seconds_by_stage(self) -> dict[str, float]:
        """How long each stage took in all, of those that the request came to."""
        seconds: dict[str, float] = defaultdict(float)
        for name, start, end in self.stages:
            seconds[name] += end - start
        return seconds


def current_request() -> RequestContext:
    """The one of the request that this thread works on; one of its own where it works on none."""
    return _current.get() or RequestContext()
