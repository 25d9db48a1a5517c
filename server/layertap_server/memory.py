"""Memory that is free goes back to the system: the C library keeps what sessions gave back, and it is a lot."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from pathlib import Path

QUIET_SECONDS = 1.0
"""Giving back takes a few milliseconds, so that not every small change does it."""

CONTROL_GROUP_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where Linux tells how much memory a container may take, in the second and the first version of control groups."""


def memory_limit_bytes() -> int:
    """The memory that this process may take: its container's, or all that the machine has."""
    limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for file in map(Path, CONTROL_GROUP_FILES):
        text = file.read_text().strip() if file.is_file() else ""
        if text.isdigit():  # else it is "max"
            limit = min(limit, int(text))
    return limit


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
