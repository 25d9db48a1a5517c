"""Folders for what a process writes down and nobody needs after it: the weights files of its models.

They lie in one folder of the process, which holds a lock on it. Whoever was killed left his; the next one removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import shutil
import tempfile
import weakref
from pathlib import Path

PREFIX = "layertap-"
LOCK = "lock"


class ScratchFolder:
    """A folder that is removed when nobody refers to this object any more, or when the process ends."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(dir=_home()))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def remove_scratch() -> None:
    """Removes all of the process's folders, where it is about to end without Python's own clearing up."""
    shutil.rmtree(_home(), ignore_errors=True)


@functools.cache
def _home() -> Path:
    for other in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        _remove_if_left(other)
    home = Path(tempfile.mkdtemp(prefix=PREFIX))
    file = os.open(home / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(file, fcntl.LOCK_EX)  # held until the process ends
    weakref.finalize(ScratchFolder, shutil.rmtree, home, ignore_errors=True)
    return home


def _remove_if_left(home: Path) -> None:
    """Only where its lock can be had: those without one are not ours, or not finished."""
    with contextlib.suppress(OSError):
        file = os.open(home / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(home, ignore_errors=True)
        finally:
            os.close(file)
