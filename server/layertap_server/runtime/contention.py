"""Detection of contention, and a single-threaded copy of a session for it.

A single run is fastest on all cores. Under contention, runs that share cores wait for each other, and runs of one
thread each give a tenth more throughput (docs/performance.md). The threads of a session are fixed when it is opened, so
a session that runs under contention is opened a second time.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

from layertap_server.runtime.replica import Replica

RUNS_BEFORE_A_COPY = 16
"""Runs under contention before a session is opened a second time; opening takes about as long as this many runs."""


class Contention:
    """Counter of the requests in progress, which detects contention."""

    def __init__(self, size: int = 0) -> None:
        """Create a counter; ``size`` is the number of concurrent requests treated as contention, 0 disables it."""
        self._size = size
        self._requests = 0
        self.opening = threading.Lock()
        """Lock held while a single-threaded replica is opened, so that one opens at a time."""
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Count a request for as long as the context lasts."""
        with self._lock:
            self._requests += 1
        try:
            yield
        finally:
            with self._lock:
                self._requests -= 1

    @property
    def is_active(self) -> bool:
        """Whether there is contention now."""
        return 0 < self._size <= self._requests


class ReplicaBudget(Protocol):
    """Budget of memory for single-threaded replicas."""

    def has_room(self) -> bool:
        """Return whether there is memory for one more replica of the session."""


class SingleThreadedReplica:
    """Second, single-threaded replica of one session, opened under contention."""

    def __init__(self, contention: Contention, open_: Callable[[], Replica], budget: ReplicaBudget) -> None:
        """Open nothing yet.

        Args:
            contention: the counter that detects contention.
            open_: opens the replica.
            budget: budget of memory for the replica.
        """
        self._contention = contention
        self._open = open_
        self._budget = budget
        self._replica: Replica | None = None
        self.on_open: Callable[[], None] = lambda: None
        """Callback for each time that the replica has been opened."""
        self._runs = 0
        self._lock = threading.Lock()

    def get(self) -> Replica | None:
        """Return the replica under contention, opening it if it is due; None without contention or replica."""
        if not self._contention.is_active:
            return None
        if self._replica is None and self._is_due():
            self._open_one()
        return self._replica

    def drop(self) -> Replica | None:
        """Drop the replica and return it; it is closed when its runs have ended and the last reference is gone."""
        dropped, self._replica = self._replica, None
        return dropped

    @property
    def is_open(self) -> bool:
        """Whether the replica is open."""
        return self._replica is not None

    def _open_one(self) -> None:
        """Open the replica if no other is being opened and there is memory for it."""
        # Replicas are opened one at a time, so that each counts in the budget before the next check for memory.
        if not self._contention.opening.acquire(blocking=False):
            return
        # Opening fails if the model is being replaced or memory is short; the session then goes on without a replica.
        with contextlib.suppress(Exception):
            if self._replica is None and self._budget.has_room():
                self._replica = self._open()
                self.on_open()
        self._contention.opening.release()

    def _is_due(self) -> bool:
        """Count a run under contention and return whether enough runs have passed to open the replica."""
        with self._lock:
            self._runs += 1
            return self._runs % RUNS_BEFORE_A_COPY == 0
