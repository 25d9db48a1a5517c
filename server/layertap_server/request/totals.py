"""Totals of the requests to one model, as the metrics and the statistics of Triton Inference Server define them."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from layertap_server.request.context import RequestContext

REASONS = ("REJECTED", "CANCELED", "BACKEND", "OTHER")
"""Triton's values of the label ``reason``."""
REASON_OF_STATUS = {
    "RESOURCE_EXHAUSTED": "REJECTED",
    "UNAVAILABLE": "REJECTED",
    "DEADLINE_EXCEEDED": "REJECTED",
    "CANCELLED": "CANCELED",
    "INTERNAL": "BACKEND",
    "FAILED_PRECONDITION": "BACKEND",
}
"""Triton's reason for each gRPC status; OTHER for the statuses that are not listed."""
DURATIONS = {
    "queue": ("admission", "queue", "batch"),
    "compute_input": ("decode", "plan"),
    "compute_infer": ("compute",),
    "compute_output": ("encode",),
}
"""Stages of Layertap whose durations add up to each of Triton's durations."""


@dataclass(slots=True)
class Totals:
    """Totals of one version of one model."""

    success: int = 0
    """Number of successful requests."""
    images: int = 0
    """Number of images computed."""
    runs: int = 0
    """Number of runs of the model."""
    request_us: float = 0.0
    """Duration of successful requests, in microseconds."""
    failed_us: float = 0.0
    """Duration of failed requests, in microseconds."""
    last_ms: int = 0
    """End of the last successful request, in milliseconds since 1970; 0 before the first."""
    failures: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    """Number of failed requests by reason."""
    durations_us: dict[str, float] = field(default_factory=lambda: dict.fromkeys(DURATIONS, 0.0))
    """Durations by Triton's names, in microseconds."""
    batches: Counter[int] = field(default_factory=Counter)
    """Number of runs by their number of images."""

    def add(self, record: RequestContext) -> None:
        """Add a successful request."""
        self.success += 1
        self.runs += len(record.runs)
        self.batches.update(record.runs)
        self.images += record.images if record.batch_size else 0  # a cached response is no inference
        self.request_us += record.seconds * 1e6
        self.last_ms = time.time_ns() // 10**6
        seconds = record.seconds_by_stage()
        for name, stages in DURATIONS.items():
            self.durations_us[name] += sum(seconds[stage] for stage in stages) * 1e6

    def add_failure(self, record: RequestContext) -> None:
        """Add a failed request."""
        self.failures[REASON_OF_STATUS.get(record.status, "OTHER")] += 1
        self.failed_us += record.seconds * 1e6


class TotalsByModel:
    """Totals of each version of each model, by name and version; counted on the event loop."""

    def __init__(self) -> None:
        """Start without totals."""
        self.of: defaultdict[tuple[str, str], Totals] = defaultdict(Totals)

    def count_ended(self, record: RequestContext) -> None:
        """Count an ended request for features of a model or an ended stream item; each is an inference to Triton."""
        if record.quick or record.is_stream or not record.version:
            return
        totals = self.of[record.model, record.version]
        if record.status != "OK":
            totals.add_failure(record)
        elif record.images:
            totals.add(record)
