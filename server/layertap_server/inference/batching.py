"""Join waiting requests for the same plan into one batch, and bound the number of concurrent runs.

By default no request waits to be joined: when a slot is free, the oldest request runs at once, together with the
requests for the same plan that are waiting at that moment, up to the model's batch limit. If the model sets a maximum
delay, the first request of a batch waits that long for others.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from layertap.errors import CancelledError
from layertap.types import Array
from layertap_server.request.cancellation import Cancellation
from layertap_server.request.context import RequestContext

Arrays = dict[str, Array]


class Runnable(Protocol):
    """A compiled plan with all its inputs but the images."""

    @property
    def batch_key(self) -> Hashable:
        """Key that is equal for plans whose images may run in one batch."""

    def join(self, others: Sequence[Any]) -> Runnable:
        """Return a plan with the inputs of plans of the same key appended, for the images of all in this order."""

    def run(self, images: Array, cancellation: Cancellation) -> Arrays:
        """Run the plan on a batch of images and return its outputs by name, batch first."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Batch limits of one model."""

    images: int
    """Maximum images in one run."""
    delay_seconds: float = 0.0
    """Maximum time that the first request of a batch waits for others."""


@dataclass(eq=False, slots=True)
class _Entry:
    """One request, or one part of a request, that waits for a run."""

    plan: Runnable
    images: Array
    cancellation: Cancellation
    is_taken: bool = False
    """Whether a thread has put the entry into a batch."""
    arrays: Arrays = field(default_factory=dict)
    error: BaseException | None = None
    ran_with: int = 0
    """Number of images in the run of this entry; 0 until the run has ended."""
    begun: float = 0.0
    """Time at which the run of this entry started, in seconds of ``time.perf_counter``."""


@dataclass
class Batcher:
    """Queue that joins requests into batches and runs them; safe to call from any number of threads."""

    slots: int
    """Maximum number of concurrent runs."""
    _waiting: list[_Entry] = field(default_factory=list)
    """Entries that wait for a run, oldest first."""
    _running: int = 0
    _change: threading.Condition = field(default_factory=threading.Condition)

    def run(self, plan: Runnable, images: Array, limits: BatchLimits, context: RequestContext) -> tuple[Arrays, int]:
        """Run the plan on these images, joined with those of other requests where possible.

        The times of waiting and running are recorded as the stages "batch" and "compute".

        Returns:
            The outputs for these images by name, and the number of images in the run.

        Raises:
            CancelledError: the request was cancelled before its run started.
            Exception: any exception that the plan raises for these images alone.
        """
        asked = time.perf_counter()
        entry = _Entry(plan, images, context.cancellation)
        batch = self._wait_for_turn(entry, limits)
        if batch:
            try:
                _run_together(batch, context.runs)
            finally:
                with self._change:
                    self._running -= 1
                    self._change.notify_all()
        context.add("batch", asked, entry.begun)
        context.add("compute", entry.begun, time.perf_counter())
        if entry.error is not None:
            raise entry.error
        return entry.arrays, entry.ran_with

    @property
    def running(self) -> int:
        """Number of runs in progress."""
        return self._running

    @property
    def waiting(self) -> int:
        """Number of entries that wait for a run."""
        return len(self._waiting)

    def _wait_for_turn(self, entry: _Entry, limits: BatchLimits) -> list[_Entry]:
        """Return the batch that this thread must run; empty if another thread has run this entry."""
        with self._change:
            self._waiting.append(entry)
            self._change.notify_all()  # a request that waits for its batch to fill may have a full batch now
            if limits.delay_seconds:
                self._change.wait_for(lambda: entry.is_taken or self._is_full(entry, limits), limits.delay_seconds)
            self._change.wait_for(lambda: entry.is_taken or (self._running < self.slots and self._waiting[0] is entry))
            if entry.is_taken:
                self._change.wait_for(lambda: entry.ran_with > 0)
                return []
            batch = self._take(entry, limits)
            self._running += 1
            self._change.notify_all()  # another entry is the oldest now and may run
            return batch

    def _is_full(self, entry: _Entry, limits: BatchLimits) -> bool:
        """Return whether the entries that wait for the same plan fill a batch."""
        return (
            sum(len(other.images) for other in self._waiting if other.plan.batch_key == entry.plan.batch_key)
            >= limits.images
        )

    def _take(self, entry: _Entry, limits: BatchLimits) -> list[_Entry]:
        """Remove the entry, others that fit into its batch and cancelled ones from the queue; return the batch."""
        room, now = limits.images, time.perf_counter()
        batch = []
        for other in self._waiting:
            if other.cancellation.is_cancelled and other is not entry:
                other.is_taken, other.ran_with, other.begun = True, len(other.images), now
                other.error = CancelledError("the caller cancelled the request or disconnected; nothing was computed")
                continue
            fits = other.images.shape[1:] == entry.images.shape[1:] and len(other.images) <= room
            if other is entry or (other.plan.batch_key == entry.plan.batch_key and fits):
                other.is_taken, other.begun = True, now
                room -= len(other.images)
                batch.append(other)
        self._waiting = [other for other in self._waiting if not other.is_taken]
        return batch


def _run_together(batch: list[_Entry], runs: list[int]) -> None:
    """Run the entries as one batch; if that fails, run each alone, so that a bad entry fails no other entry.

    The number of images of each run is added to ``runs``.
    """
    if len(batch) > 1 and _run_joined(batch, runs):
        return
    for entry in batch:
        try:
            entry.arrays = entry.plan.run(entry.images, entry.cancellation)
            runs.append(len(entry.images))
        except BaseException as error:  # noqa: BLE001 - raised again on the thread of the entry
            entry.error = error
        entry.ran_with = len(entry.images)


def _run_joined(batch: list[_Entry], runs: list[int]) -> bool:
    """Run the entries as one batch; return whether that gave every entry its outputs."""
    total = sum(len(entry.images) for entry in batch)
    try:
        # With a cancellation of its own: cancelling one of the requests must not end the run of the others.
        plan = batch[0].plan.join([entry.plan for entry in batch[1:]])
        arrays = plan.run(np.concatenate([entry.images for entry in batch]), Cancellation())
    except Exception:  # noqa: BLE001 - the single runs that follow show which entry caused it
        return False
    runs.append(total)
    if not arrays or not all(array.shape[:1] == (total,) for array in arrays.values()):
        return False
    start = 0
    for entry in batch:
        end = start + len(entry.images)
        entry.arrays = {name: array[start:end] for name, array in arrays.items()}
        entry.ran_with, start = total, end
    return True
