"""Memory that is free goes back to the system: the C library keeps what sessions gave back, and it is a lot."""

from __future__ import annotations

import ctypes
import threading
import time

QUIET_SECONDS = 1.0
"""Giving back takes a few milliseconds, so that not every small change does it."""


class MemoryReturner:
    """Asks the C library to give free memory back; where it cannot be asked, nothing happens."""

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._lock = threading.Lock()
        self._last = 0.0

    def give_back(self, *, at_once: bool = False) -> None:
        """Gives it back, if the last time is long enough ago or it must be ``at_once``."""
        with self._lock:
            now = time.monotonic()
            if self._trim is None or (not at_once and now - self._last < QUIET_SECONDS):
                return
            self._last = now
        self._trim(0)
