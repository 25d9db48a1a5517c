"""Temporary folders for the weights files of a process's models.

All of them are in one folder per process, which the process locks. If a process is killed, its folder remains and the
next process removes it.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import tempfile
import weakref
from pathlib import Path

import filelock

PREFIX = "layertap-"
"""Prefix of the name of a process's folder."""
LOCK = "lock"
"""Name of the lock file in a process's folder."""
_held: list[filelock.BaseFileLock] = []
"""Lock of this process's folder, held until the process ends."""


class ScratchFolder:
    """A temporary folder that is removed with the last reference to this object, or when the process ends."""

    def __init__(self) -> None:
        """Create the folder."""
        self.path = Path(tempfile.mkdtemp(dir=_home()))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def remove_scratch() -> None:
    """Remove all folders of the process; for a process that is about to end without Python's own cleanup."""
    shutil.rmtree(_home(), ignore_errors=True)


@functools.cache
def _home() -> Path:
    """Create and lock the folder of this process, and remove the folders that killed processes have left."""
    for other in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        _remove_if_left(other)
    home = Path(tempfile.mkdtemp(prefix=PREFIX))
    _held.append(filelock.FileLock(home / LOCK))
    _held[-1].acquire()
    weakref.finalize(ScratchFolder, shutil.rmtree, home, ignore_errors=True)
    return home


def _remove_if_left(home: Path) -> None:
    """Remove the folder of a process that has ended; skip a folder without a lock file, which may be in creation."""
    lock = home / LOCK
    if lock.is_symlink() or not lock.is_file():
        return
    with contextlib.suppress(OSError), filelock.FileLock(lock, timeout=0):  # Timeout is an OSError
        shutil.rmtree(home, ignore_errors=True)
