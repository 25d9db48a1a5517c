"""Joins requests for the same plan that wait at the same time, and bounds how many runs are in flight.

Nobody waits for company: whoever finds a free slot runs at once, with all that waits for the same plan then, up to the
model's limit. Only a model that asks for a delay makes the first one wait for others.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import numpy as np

from layertap.errors import CancelledError
from layertap.types import Array
from layertap_server.request import cancellation
from layertap_server.request.cancellation import Cancellation
from layertap_server.request.context import current_request

Arrays = dict[str, Array]
Run = Callable[[Array], Arrays]
"""A batch of images -> the plan's outputs, batch first."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Of one model."""

    images: int
    delay_seconds: float = 0.0
    """How long the first request waits for others."""


@dataclass(eq=False, slots=True)
class _Entry:
    plan: Hashable
    images: Array
    run: Run
    cancellation: Cancellation = field(default_factory=cancellation.current)
    is_taken: bool = False
    arrays: Arrays = field(default_factory=dict)
    error: BaseException | None = None
    ran_with: int = 0
    begun: float = 0.0
    """When its run began."""


@dataclass
class Batcher:
    """Runs batches; any number of threads may ask."""

    slots: int
    """Runs in flight."""
    _waiting: list[_Entry] = field(default_factory=list)
    """The oldest first."""
    _running: int = 0
    _change: threading.Condition = field(default_factory=threading.Condition)

    def run(self, plan: Hashable, images: Array, run: Run, limits: BatchLimits) -> tuple[Arrays, int]:
        """The outputs for these images, and how many images ran together.

        Raises:
            Whatever ``run`` raises for these images alone.
        """
        asked = time.perf_counter()
        entry = _Entry(plan, images, run)
        batch = self._wait_for_turn(entry, limits)
        if batch:
            try:
                _run_together(batch)
            finally:
                with self._change:
                    self._running -= 1
                    self._change.notify_all()
        record = current_request()
        record.add("batch", asked, entry.begun)
        record.add("compute", entry.begun, time.perf_counter())
        if entry.error is not None:
            raise entry.error
        return entry.arrays, entry.ran_with

    @property
    def running(self) -> int:
        """Runs in flight."""
        return self._running

    @property
    def waiting(self) -> int:
        """Parts of requests that wait for a run."""
        return len(self._waiting)

    def _wait_for_turn(self, entry: _Entry, limits: BatchLimits) -> list[_Entry]:
        """The entries that this thread has to run; none where another ran this one."""
        with self._change:
            self._waiting.append(entry)
            self._change.notify_all()  # one that waits for company may have it now
            if limits.delay_seconds:
                self._change.wait_for(lambda: entry.is_taken or self._is_full(entry, limits), limits.delay_seconds)
            self._change.wait_for(lambda: entry.is_taken or (self._running < self.slots and self._waiting[0] is entry))
            if entry.is_taken:
                self._change.wait_for(lambda: entry.ran_with > 0)
                return []
            batch = self._take(entry, limits)
            self._running += 1
            self._change.notify_all()  # the next one is the oldest now
            return batch

    def _is_full(self, entry: _Entry, limits: BatchLimits) -> bool:
        return sum(len(other.images) for other in self._waiting if other.plan == entry.plan) >= limits.images

    def _take(self, entry: _Entry, limits: BatchLimits) -> list[_Entry]:
        room, now = limits.images, time.perf_counter()
        batch = []
        for other in self._waiting:
            if other.cancellation.is_cancelled and other is not entry:
                other.is_taken, other.ran_with, other.begun = True, len(other.images), now
                other.error = CancelledError("the caller is gone; nothing was computed")
                continue
            fits = other.images.shape[1:] == entry.images.shape[1:] and len(other.images) <= room
            if other is entry or (other.plan == entry.plan and fits):
                other.is_taken, other.begun = True, now
                room -= len(other.images)
                batch.append(other)
        self._waiting = [other for other in self._waiting if not other.is_taken]
        return batch


def _run_together(batch: list[_Entry]) -> None:
    """Runs the entries as one; each by itself where that fails, so that a bad one harms no other."""
    if len(batch) > 1:
        total = sum(len(entry.images) for entry in batch)
        try:
            with Cancellation().of_this_thread():  # one caller who goes away does not end the others' run
                arrays = batch[0].run(np.concatenate([entry.images for entry in batch]))
        except Exception:  # noqa: BLE001 - which of them it was shows when each runs alone
            arrays = {}
        if arrays and all(array.shape[:1] == (total,) for array in arrays.values()):
            start = 0
            for entry in batch:
                end = start + len(entry.images)
                entry.arrays = {name: array[start:end] for name, array in arrays.items()}
                entry.ran_with, start = total, end
            return
    for entry in batch:
        try:
            entry.arrays = entry.run(entry.images)
        except BaseException as error:  # noqa: BLE001 - told to the thread whose it is
            entry.error = error
        entry.ran_with = len(entry.images)
