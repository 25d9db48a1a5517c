"""Cancellation of work whose caller has cancelled the request or disconnected."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from layertap.errors import CancelledError


class Cancellation:
    """Cancellation state of one job; any thread may cancel the job at any time."""

    def __init__(self) -> None:
        """Create the state of a job that is not cancelled."""
        self._lock = threading.Lock()
        self._stop: Callable[[], None] | None = None
        self.is_cancelled = False

    def cancel(self) -> None:
        """Cancel the job: stop the operation in progress, and stop later operations as they start."""
        with self._lock:
            self.is_cancelled = True
            if self._stop is not None:
                self._stop()

    def check(self) -> None:
        """Raise `CancelledError` if the job is cancelled."""
        if self.is_cancelled:
            raise CancelledError("the caller cancelled the request or disconnected; the work was stopped")

    @contextlib.contextmanager
    def stopping(self, stop: Callable[[], None]) -> Iterator[None]:
        """Call ``stop`` if the job is cancelled within the context, or was cancelled before."""
        with self._lock:
            self._stop = stop
            if self.is_cancelled:
                stop()
        try:
            yield
        finally:
            with self._lock:
                self._stop = None
