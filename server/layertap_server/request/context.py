"""Request context: the caller, cancellation, the time of each stage and the outcome of one request.

Every stage of a request takes the context as an argument and writes into it. Metrics, the request log and traces read
the context after the request has ended. It holds no images, tensors or taps.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from layertap.errors import LayertapError
from layertap_server.request.cancellation import Cancellation

STAGES = ("admission", "queue", "decode", "plan", "batch", "compute", "encode")
"""Stages of a request, in order.

They are: admission checks, waiting for a worker, decoding the message and its images, resolving taps and opening the
plan, waiting for a run, the run, and encoding the response.
"""
CANCELLED = "CANCELLED"
"""Name of gRPC's status for a request that ended because its caller cancelled it or disconnected."""


class StageTime(NamedTuple):
    """One interval of a stage, in seconds of ``time.perf_counter``."""

    stage: str
    start: float
    end: float


@dataclass(eq=False, slots=True)
class RequestContext:
    """Context of one request, or of one item of a stream."""

    service: str = ""
    method: str = ""
    request_id: str = ""
    peer: str = ""
    """Caller's address without the port."""
    connection: str = ""
    """Caller's address with the port, which identifies one connection."""
    trace_headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Headers ``traceparent`` and ``tracestate`` as received."""
    quick: bool = False
    """Whether the request is a listing or a change of models, which has no stages."""
    is_stream: bool = False
    """Whether the request is a stream of items."""
    cancellation: Cancellation = field(default_factory=Cancellation)
    """Cancellation state: cancelled when the caller cancels the request or disconnects."""
    deadline: float = math.inf
    """Time by which the caller expects the response, in seconds of ``time.perf_counter``."""
    parent: RequestContext | None = None
    """Context of the stream to which an item belongs; None for a request."""
    began: float = field(default_factory=time.perf_counter)
    """Start of the request, in seconds of ``time.perf_counter``."""
    began_ns: int = field(default_factory=time.time_ns)
    """Start of the request, in nanoseconds since 1970."""
    ended: float = 0.0
    """End of the request, in seconds of ``time.perf_counter``; 0 before the end."""
    status: str = CANCELLED
    """Name of the gRPC status; CANCELLED unless the request succeeds or fails on its own."""
    failure: LayertapError | None = None
    """Error that ended the request; None if it succeeded or was cancelled."""
    model: str = ""
    """Name of a model of the repository; never an unknown name that a caller sent."""
    version: str = ""
    images: int = 0
    """Number of images whose features were extracted."""
    batch_size: int = 0
    """Number of images in the run, including those of other requests; 0 if nothing was run."""
    runs: list[int] = field(default_factory=list)
    """Number of images of each run that the request's own thread executed."""
    bytes_in: int = 0
    bytes_out: int = 0
    bytes_shared: int = 0
    """Bytes written to the caller's shared memory."""
    items: int = 0
    """Number of items of a stream that have ended."""
    failed_items: int = 0
    """Number of items of a stream that have failed."""
    items_bytes_in: int = 0
    """Bytes received in all items of a stream."""
    items_bytes_out: int = 0
    """Bytes sent for all items of a stream."""
    stages: list[StageTime] = field(default_factory=list)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the ``with`` block to a stage, even if the block raises."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, start, time.perf_counter())

    def add(self, stage: str, start: float, end: float) -> None:
        """Add an interval to a stage, in seconds of ``time.perf_counter``."""
        self.stages.append(StageTime(stage, start, end))

    def item(self, bytes_in: int) -> RequestContext:
        """Return the context for one item of this stream."""
        return RequestContext(
            self.service, self.method, self.request_id, parent=self, bytes_in=bytes_in, model=self.model
        )

    def succeed(self) -> None:
        """Set the status to OK."""
        self.status = "OK"

    def fail(self, failure: LayertapError) -> None:
        """Store the error and its status."""
        self.status, self.failure = failure.status, failure

    def end(self) -> None:
        """Record the end of the request, and add an item to the counts of its stream."""
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
        """Duration from the start to the end of the request, in seconds."""
        return self.ended - self.began

    @property
    def queue_ms(self) -> float:
        """Milliseconds that the request waited for a worker."""
        return 1000 * sum(end - start for name, start, end in self.stages if name == "queue")

    def seconds_by_stage(self) -> dict[str, float]:
        """Return the total seconds of each stage that the request reached."""
        seconds: dict[str, float] = defaultdict(float)
        for name, start, end in self.stages:
            seconds[name] += end - start
        return seconds
