"""A folder for Zarr, to which nothing is written any more once it is closed.

Zarr writes several files at once. Where one of them fails, or Ctrl-C comes, the call ends at once and its other writes
go on in Zarr's threads: they would put files into a folder that is being removed, or older rows into the place of
newer ones.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from zarr.abc.buffer import Buffer
from zarr.storage import LocalStore


class ZarrFolder(LocalStore):
    """A context manager, as every store of Zarr."""

    def __init__(self, root: Path | str, *, read_only: bool = False) -> None:
        super().__init__(root, read_only=read_only)
        self._changed = threading.Condition()
        self._writes = 0
        self._is_closed = False

    async def set(self, key: str, value: Buffer) -> None:
        with self._write():
            await super().set(key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        with self._write():
            await super().set_if_not_exists(key, value)

    async def delete(self, key: str) -> None:
        with self._write():
            await super().delete(key)

    def close(self) -> None:
        """Refuses new writes, and waits for those that have begun."""
        with self._changed:
            self._is_closed = True
            self._changed.wait_for(lambda: not self._writes)
        super().close()

    @contextlib.contextmanager
    def _write(self) -> Iterator[None]:
        with self._changed:
            if self._is_closed:
                raise ValueError(f"{self.root} is closed")
            self._writes += 1
        try:
            yield
        finally:
            with self._changed:
                self._writes -= 1
                self._changed.notify_all()
