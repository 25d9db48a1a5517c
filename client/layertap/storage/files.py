"""Files that are there as a whole or not at all, whatever stops the program or the machine."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

_LONGEST_STEM = 100


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write; what was written there takes the place of ``path`` at once, and durably, when the block ends."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        sync(partial)
        partial.replace(path)
        sync(path.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """As `replacing`, of a folder: a new one to write into.

    A folder takes another's place in two steps, of which the first moves the old one to ``.NAME.old``: `standing` finds
    it there where only that one was done.
    """
    target = path.resolve()  # of a link what it leads to is replaced
    partial, old = target.with_name(f".{target.name}.partial"), _old(target)
    remove(partial)
    try:
        partial.mkdir()
        yield partial
        for written in (*partial.rglob("*"), partial):
            if not written.is_symlink():
                sync(written)
        if os.path.lexists(target):
            remove(old)
            target.replace(old)
        partial.replace(target)
    except BaseException:
        remove(partial)
        if old.exists() and not target.exists():
            old.replace(target)
        raise
    sync(target.parent)
    remove(old)


def standing(path: Path) -> Path:
    """The folder, or what was there before it where `replacing_folder` was stopped between its two steps."""
    target = path.resolve()
    return _old(target) if _old(target).exists() and not target.exists() else path


def remove(path: Path) -> None:
    """A file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def sync(path: Path) -> None:
    """Waits until the file, or the names in a folder, are on the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def stem_of(name: str) -> str:
    """A file name like the name: ``stage_4_gap`` for ``stage:4 | gap``. Several names may have one."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._-")
    return plain[:_LONGEST_STEM] or "result"
