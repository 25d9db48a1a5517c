"""Memory that the client shares with a server on the same host: large answers are there when the call returns."""

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

_FOLDER = Path("/dev/shm")  # noqa: S108 - where shared memory lies on Linux
MOST_KEPT = 4
"""Regions that wait for the next answer; more are given up."""


@dataclass(eq=False, slots=True)
class Region:
    """A region and what the server calls it."""

    name: str
    memory: mmap.mmap
    is_spoiled: bool = False
    """Its answer did not come: the server may still be about to write into it."""


@contextlib.contextmanager
def new_region(byte_size: int) -> Iterator[tuple[str, mmap.mmap]]:
    """Memory and the key by which a server finds it while the context lasts.

    Raises:
        OSError: there is no memory to share.
    """
    path = _FOLDER / f"layertap-{secrets.token_hex(16)}"
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        # Room is taken now: without it a full /dev/shm would kill the process when it is first touched.
        os.posix_fallocate(file, 0, byte_size)
        yield path.name, mmap.mmap(file, byte_size)
    finally:
        os.close(file)
        # Both sides have it open: nothing stays behind, however they end.
        path.unlink()


class RegionPool:
    """Regions for answers, each used by one answer at a time and again when its arrays are gone.

    It never calls the server: arrays go wherever the garbage collector is, which is no place to wait for a network.
    What the server is to forget is told by `given_up`.
    """

    def __init__(self) -> None:
        self._free: list[Region] = []
        self._lent: set[Region] = set()
        self._given_up: list[str] = []
        # Arrays may go, and give a region back, while this thread is inside.
        self._lock = threading.RLock()
        self._is_closed = False

    def take(self, byte_size: int) -> Region | None:
        """A free region of at least this size, if there is one."""
        with self._lock:
            fitting = [region for region in self._free if len(region.memory) >= byte_size]
            if not fitting:
                return None
            smallest = min(fitting, key=lambda region: len(region.memory))
            self._free.remove(smallest)
            return smallest

    def lend(self, region: Region) -> Array:
        """All of it as bytes; it serves again when no array looks at it any more."""
        array = np.frombuffer(region.memory, np.uint8)
        with self._lock:
            self._lent.add(region)
        weakref.finalize(array, self._give_back, region)
        return array

    def given_up(self) -> list[str]:
        """The names of regions that were given up since this was asked."""
        with self._lock:
            names, self._given_up = self._given_up, []
        return names

    def forget(self) -> None:
        """The server knows none of them any more: it was started anew."""
        with self._lock:
            for region in self._lent:
                region.is_spoiled = True
            self._free, self._given_up = [], []

    def close(self) -> list[str]:
        """The names of all regions; arrays that still look at one keep its memory, and the server need not."""
        with self._lock:
            self._is_closed = True
            names = [*self.given_up(), *(region.name for region in (*self._free, *self._lent))]
            self._free = []
        return names

    def _give_back(self, region: Region) -> None:
        """Nobody looks at the region any more."""
        with self._lock:
            self._lent.discard(region)
            if self._is_closed:
                return
            if region.is_spoiled:
                self._given_up.append(region.name)
                return
            self._free.append(region)
            if len(self._free) > MOST_KEPT:
                self._given_up.append(self._free.pop(0).name)


def may_share_with(address: str) -> bool:
    """Return whether a server at this address may be on the same host, and this system shares memory as Linux does."""
    return sys.platform == "linux" and _FOLDER.is_dir() and parse_address(address).is_this_host
