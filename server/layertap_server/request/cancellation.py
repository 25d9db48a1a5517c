"""Work whose caller is gone: it is told to stop, wherever in its thread it is."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from layertap.errors import CancelledError

_current: ContextVar[Cancellation | None] = ContextVar("cancellation", default=None)


class Cancellation:
    """One job's; another thread may cancel it at any time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stop: Callable[[], None] | None = None
        self.is_cancelled = False

    def cancel(self) -> None:
        """Stops what can be stopped now, and what begins later at once."""
        with self._lock:
            self.is_cancelled = True
            if self._stop is not None:
                self._stop()

    def check(self) -> None:
        """Raises `CancelledError` when the job is cancelled."""
        if self.is_cancelled:
            raise CancelledError("the caller is gone; what was asked was given up")

    @contextlib.contextmanager
    def of_this_thread(self) -> Iterator[None]:
        """What runs inside is this job's."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    @contextlib.contextmanager
    def stopping(self, stop: Callable[[], None]) -> Iterator[None]:
        """``stop`` is called when the job is cancelled inside."""
        with self._lock:
            self._stop = stop
            if self.is_cancelled:
                stop()
        try:
            yield
        finally:
            with self._lock:
                self._stop = None


def current() -> Cancellation:
    """The one of the job that this thread works on; one of its own where it works on none."""
    return _current.get() or Cancellation()
