"""Files that are there as a whole or not at all, whatever stops the program or the machine."""

from __future__ import annotations

import contextlib
import os
import re
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
