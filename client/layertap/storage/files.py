"""Replace files and folders atomically and durably, even if the program or the machine stops."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

_MAX_STEM_LENGTH = 100
"""Maximum length of a file's stem in characters."""


@contextlib.contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; when the block ends, rename it to ``path`` atomically and durably."""
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
def replace_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder to write to; when the block ends, rename it to ``path`` durably.

    Replacing a folder takes two renames: the old folder is first moved to ``.NAME.old``. After an interruption between
    the two, `locate_folder` finds the old folder there.
    """
    target = path.resolve()  # replaces the target of a link, not the link
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


def locate_folder(path: Path) -> Path:
    """Return the folder, or its old version if `replace_folder` was interrupted between its two renames."""
    target = path.resolve()
    return _old(target) if _old(target).exists() and not target.exists() else path


def remove(path: Path) -> None:
    """Delete a file or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _old(target: Path) -> Path:
    """Return the temporary name of the old version of a folder."""
    return target.with_name(f".{target.name}.old")


def sync(path: Path) -> None:
    """Wait until a file's data, or a folder's entries, are on the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def stem_of(name: str) -> str:
    """Return a file name stem for a result: ``stage_4_gap`` for ``stage:4 | gap``. Names may share a stem."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._-")
    return plain[:_MAX_STEM_LENGTH] or "result"
