"""Provide a folder for Zarr that accepts no writes once it is closed.

Zarr writes several files concurrently. If one of the writes fails, or Ctrl-C arrives, the call ends at once while the
other writes continue in Zarr's threads. They could put files into a folder that is being deleted, or replace newer rows
by older ones.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from zarr.abc.buffer import Buffer
from zarr.storage import LocalStore


class ZarrFolder(LocalStore):
    """A local Zarr store; as a context manager it closes on exit."""

    def __init__(self, root: Path | str, *, read_only: bool = False) -> None:
        """Create a store for the folder ``root``."""
        super().__init__(root, read_only=read_only)
        self._changed = threading.Condition()
        self._writes = 0
        self._is_closed = False

    async def set(self, key: str, value: Buffer) -> None:
        """Write a value."""
        with self._write():
            await super().set(key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write a value unless the key exists."""
        with self._write():
            await super().set_if_not_exists(key, value)

    async def delete(self, key: str) -> None:
        """Delete a value."""
        with self._write():
            await super().delete(key)

    def close(self) -> None:
        """Refuse new writes, and wait for those in progress."""
        with self._changed:
            self._is_closed = True
            self._changed.wait_for(lambda: not self._writes)
        super().close()

    @contextlib.contextmanager
    def _write(self) -> Iterator[None]:
        """Count a write in progress; raise ValueError if the store is closed."""
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
