"""Trim the heap: return memory that closed sessions have freed, and that the C library keeps, to the system."""

from __future__ import annotations

import ctypes
import threading
import time

QUIET_SECONDS = 1.0
"""Minimum seconds between two trims, each of which takes a few milliseconds."""


class HeapTrimmer:
    """Trims the heap by the C library's ``malloc_trim``; does nothing if the library lacks it."""

    def __init__(self) -> None:
        """Look up ``malloc_trim``."""
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._lock = threading.Lock()
        self._last = 0.0

    def trim(self, *, at_once: bool = False) -> None:
        """Trim the heap, unless it was trimmed less than `QUIET_SECONDS` ago and ``at_once`` is false."""
        with self._lock:
            now = time.monotonic()
            if self._trim is None or (not at_once and now - self._last < QUIET_SECONDS):
                return
            self._last = now
        self._trim(0)
