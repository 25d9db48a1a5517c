"""Detection of contention, and a single-threaded copy of a session for it.

A single run is fastest on all cores. Under contention, runs that share cores wait for each other, and runs of one
thread each give a tenth more throughput (docs/performance.md). The threads of a session are fixed when it is opened, so
a session that runs under contention is opened a second time.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from layertap_server.runtime.replica import Replica

RUNS_BEFORE_A_COPY = 16
"""To open a model takes about as long as so many runs."""


class Contention:
    """The requests that are being worked on."""

    def __init__(self, size: int = 0) -> None:
        """So many are a crowd; 0 for never."""
        self._size = size
        self._requests = 0
        self.opening = threading.Lock()
        """Held by the model that is opened again."""
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """One more, for as long as the context lasts."""
        with self._lock:
            self._requests += 1
        try:
            yield
        finally:
            with self._lock:
                self._requests -= 1

    @property
    def is_here(self) -> bool:
        return 0 < self._size <= self._requests


class SingleThreadedReplica:
    """One model's second session, opened when it pays."""

    def __init__(self, contention: Contention, open_: Callable[[], Replica], may_open: Callable[[], bool]) -> None:
        """``may_open`` tells whether there is memory for it."""
        self._contention = contention
        self._open = open_
        self._may_open = may_open
        self._replica: Replica | None = None
        self.on_open: Callable[[], None] = lambda: None
        """Called each time the copy has been opened."""
        self._runs = 0
        self._lock = threading.Lock()

    def wanted(self) -> Replica | None:
        """The copy, in a crowd; None where there is no contention or no copy yet."""
        if not self._contention.is_here:
            return None
        if self._replica is None and self._is_due():
            self._open_one()
        return self._replica

    def drop(self) -> Replica | None:
        """Drop the copy and return it: it is closed when its runs have ended and nothing refers to it."""
        dropped, self._replica = self._replica, None
        return dropped

    @property
    def is_open(self) -> bool:
        return self._replica is not None

    def _open_one(self) -> None:
        # One at a time, so that each counts in the budget before another is asked for.
        if not self._contention.opening.acquire(blocking=False):
            return
        # Where its model is being replaced, or memory is short, it goes on without one.
        with contextlib.suppress(Exception):
            if self._replica is None and self._may_open():
                self._replica = self._open()
                self.on_open()
        self._contention.opening.release()

    def _is_due(self) -> bool:
        with self._lock:
            self._runs += 1
            return self._runs % RUNS_BEFORE_A_COPY == 0
