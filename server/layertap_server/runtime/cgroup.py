"""Detect the limits of CPU, memory and threads of this process (cgroup v1 and v2)."""

from __future__ import annotations

import math
import os
from pathlib import Path

CONTROL_GROUP = Path("/sys/fs/cgroup")
"""Folder of Linux's control groups, which hold the limits of a container."""

MANY_THREADS = 2**15
"""Thread limit assumed if the system reports none: Linux's default number of process ids."""


def available_cores(group: Path = CONTROL_GROUP) -> int:
    """Return the smaller of the number of cores that the process may run on and the container's CPU quota in cores."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _words(group / "cpu.max") or [
        *_words(group / "cpu" / "cpu.cfs_quota_us"),
        *_words(group / "cpu" / "cpu.cfs_period_us"),
    ]
    if len(quota) == 2 and all(word.isdigit() for word in quota):  # noqa: PLR2004 - no quota is "max" or -1
        allowed = min(allowed, math.ceil(int(quota[0]) / int(quota[1])))
    return max(allowed, 1)


def available_memory_bytes(group: Path = CONTROL_GROUP) -> int:
    """Return the memory limit of the container in bytes, or the machine's memory if that is less or no limit is set."""
    limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    words = _words(group / "memory.max") or _words(group / "memory" / "memory.limit_in_bytes")
    return min(limit, int(words[0])) if words and words[0].isdigit() else limit  # no limit is "max"


def available_threads(group: Path = CONTROL_GROUP) -> int:
    """Return the thread limit of the process: the least of the limits of its user, its container and the machine."""
    limits = [
        *_words(Path("/proc/sys/kernel/threads-max")),
        *(_words(group / "pids.max") or _words(group / "pids/pids.max")),
    ]
    counts = [int(word) for word in limits if word.isdigit()]  # no limit is "max"
    return min([*counts, *_user_limit()], default=MANY_THREADS)


def _user_limit() -> list[int]:
    """Return the limit of processes and threads of this user; empty if there is none."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return []
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    return [] if soft == resource.RLIM_INFINITY else [soft]


def _words(file: Path) -> list[str]:
    """Return the words of a file of the control group; empty if it cannot be read."""
    try:
        return file.read_text().split()
    except OSError:
        return []
