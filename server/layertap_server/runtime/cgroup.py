"""How much of the machine this process may use, which in a container is less than all of it."""

from __future__ import annotations

import math
import os
from pathlib import Path

CONTROL_GROUP = Path("/sys/fs/cgroup")
"""Where Linux tells what a container may take, in the second version of control groups or in the first."""

MANY_THREADS = 2**15
"""Threads that a process may have where nothing tells its limit: Linux's default of process ids."""


def available_cores(group: Path = CONTROL_GROUP) -> int:
    """Those that it may run on, or what its container's quota is worth, whichever is less."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _words(group / "cpu.max") or [
        *_words(group / "cpu" / "cpu.cfs_quota_us"),
        *_words(group / "cpu" / "cpu.cfs_period_us"),
    ]
    if len(quota) == 2 and all(word.isdigit() for word in quota):  # noqa: PLR2004 - else there is none, "max" or -1
        allowed = min(allowed, math.ceil(int(quota[0]) / int(quota[1])))
    return max(allowed, 1)


def available_memory_bytes(group: Path = CONTROL_GROUP) -> int:
    """Its container's limit, or all that the machine has."""
    limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    words = _words(group / "memory.max") or _words(group / "memory" / "memory.limit_in_bytes")
    return min(limit, int(words[0])) if words and words[0].isdigit() else limit  # else it is "max"


def available_threads(group: Path = CONTROL_GROUP) -> int:
    """Return how many threads the process may have: the least of its user's, its container's and the machine's."""
    limits = [
        *_words(Path("/proc/sys/kernel/threads-max")),
        *(_words(group / "pids.max") or _words(group / "pids/pids.max")),
    ]
    counts = [int(word) for word in limits if word.isdigit()]  # else it is "max"
    return min([*counts, *_user_limit()], default=MANY_THREADS)


def _user_limit() -> list[int]:
    """Return the limit of processes and threads of this user, if there is one."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return []
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    return [] if soft == resource.RLIM_INFINITY else [soft]


def _words(file: Path) -> list[str]:
    """Of a file of the control group; none where there is no such file."""
    try:
        return file.read_text().split()
    except OSError:
        return []
