"""List and kill the child processes of a process on Linux."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection
from pathlib import Path

from tests.processes import until


def children(pid: int) -> list[int]:
    """Return the running child processes of a process."""
    found: list[int] = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, listing.read_text().split())
    return [child for child in found if runs(child)]


def runs(pid: int) -> bool:
    """Return whether the process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds that the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def kill_when_busy(parent: int, seconds: float, known: Collection[int] = ()) -> int:
    """Kill the first child, not in ``known``, that has used this many CPU seconds; return its process id."""
    found: list[int] = []

    def is_busy() -> bool:
        """Return whether such a child exists."""
        with contextlib.suppress(OSError):
            found[:] = [child for child in children(parent) if child not in known and cpu_seconds(child) >= seconds]
        return bool(found)

    until(is_busy, seconds=120)
    os.kill(found[0], signal.SIGKILL)
    return found[0]
