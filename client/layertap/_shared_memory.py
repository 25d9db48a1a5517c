"""Share memory with a server on the same host, so that large results need no transfer."""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import sys
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from layertap._address import parse_address
from layertap.types import Array

_FOLDER = Path("/dev/shm")  # noqa: S108 - the standard folder of Linux
"""Folder of shared memory files on Linux."""
MOST_KEPT = 4
"""Maximum number of free regions kept for later results; the oldest beyond it is released."""


@dataclass(eq=False, slots=True)
class Region:
    """A shared memory region."""

    name: str
    """The server's name for the region."""
    memory: mmap.mmap
    """The mapped memory."""
    is_spoiled: bool = False
    """Whether its response never arrived, so that the server may still write into the region."""


@contextlib.contextmanager
def new_region(byte_size: int) -> Iterator[tuple[str, mmap.mmap]]:
    """Create a shared memory file and yield its name, by which the server opens it, and its mapped memory.

    The file is removed when the context ends; the memory stays valid.

    Raises:
        OSError: there is not enough shared memory.
    """
    path = _FOLDER / f"layertap-{secrets.token_hex(16)}"
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        # Reserve the memory now: on a full /dev/shm the first write would otherwise kill the process (SIGBUS).
        os.posix_fallocate(file, 0, byte_size)
        yield path.name, mmap.mmap(file, byte_size)
    finally:
        os.close(file)
        # Both processes have the file open; without a name it vanishes when they end, even if they crash.
        path.unlink()


class RegionPool:
    """Regions for results; each holds one result at a time and is reused when that result's arrays are gone.

    The pool never calls the server: arrays are released during garbage collection, which must not wait for the
    network. `take_released` returns the regions that the caller must release on the server.
    """

    def __init__(self) -> None:
        """Start with no regions."""
        self._free: list[Region] = []
        self._lent: set[Region] = set()
        self._released: list[str] = []
        # Reentrant: garbage collection may return a region while this thread holds the lock.
        self._lock = threading.RLock()
        self._is_closed = False

    def take(self, byte_size: int) -> Region | None:
        """Remove and return the smallest free region of at least ``byte_size`` bytes, or None."""
        with self._lock:
            fitting = [region for region in self._free if len(region.memory) >= byte_size]
            if not fitting:
                return None
            smallest = min(fitting, key=lambda region: len(region.memory))
            self._free.remove(smallest)
            return smallest

    def lend(self, region: Region) -> Array:
        """Return a region as an array of bytes; the region becomes free when no array refers to it any more."""
        array = np.frombuffer(region.memory, np.uint8)
        with self._lock:
            self._lent.add(region)
        weakref.finalize(array, self._return_region, region)
        return array

    def take_released(self) -> list[str]:
        """Return and forget the names of the regions to release on the server."""
        with self._lock:
            names, self._released = self._released, []
        return names

    def forget(self) -> None:
        """Drop all regions after a restart of the server, which no longer knows them."""
        with self._lock:
            for region in self._lent:
                region.is_spoiled = True
            self._free, self._released = [], []

    def close(self) -> list[str]:
        """Return the names of all regions to release on the server; arrays in use keep their memory."""
        with self._lock:
            self._is_closed = True
            names = [*self.take_released(), *(region.name for region in (*self._free, *self._lent))]
            self._free = []
        return names

    def _return_region(self, region: Region) -> None:
        """Make a region free, or release it if it is spoiled or there are too many; no array refers to it any more."""
        with self._lock:
            self._lent.discard(region)
            if self._is_closed:
                return
            if region.is_spoiled:
                self._released.append(region.name)
                return
            self._free.append(region)
            if len(self._free) > MOST_KEPT:
                self._released.append(self._free.pop(0).name)


def may_share_with(address: str) -> bool:
    """Return whether a server at this address may be on this host, and this host has Linux shared memory."""
    return sys.platform == "linux" and _FOLDER.is_dir() and parse_address(address).is_this_host
