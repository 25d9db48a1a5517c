"""How many cores this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
NO_QUOTA = 2**31 - 1


def available_cores(cgroup: Path = CGROUP) -> int:
    """Those that it may run on, or what its container's quota is worth, whichever is less."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, math.ceil(_quota(cgroup))))


def _quota(cgroup: Path) -> float:
    """Cores' worth of time, of either version of control groups; `NO_QUOTA` where there is no limit."""
    try:
        if (cgroup / "cpu.max").exists():
            quota, period = (cgroup / "cpu.max").read_text().split()
        else:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        cores = int(quota) / int(period)
    except (OSError, ValueError):  # none of them is there, or it says "max"
        return NO_QUOTA
    return cores if cores > 0 else NO_QUOTA
