"""Folders for what a process writes down and nobody needs after it: the weights files of its models.

They lie in one folder of the process, which holds a lock on it. Whoever was killed left his; the next one removes it.
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
LOCK = "lock"
_held: list[filelock.BaseFileLock] = []
"""The lock of this process's folder, until it ends."""


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
    _held.append(filelock.FileLock(home / LOCK))
    _held[-1].acquire()
    weakref.finalize(ScratchFolder, shutil.rmtree, home, ignore_errors=True)
    return home


def _remove_if_left(home: Path) -> None:
    """Remove the folder of a process that is gone; one without a lock's file is not ours, or not finished."""
    lock = home / LOCK
    if lock.is_symlink() or not lock.is_file():
        return
    with contextlib.suppress(OSError), filelock.FileLock(lock, timeout=0):  # Timeout is an OSError
        shutil.rmtree(home, ignore_errors=True)
