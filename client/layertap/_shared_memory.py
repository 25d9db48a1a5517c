"""Memory that the client shares with a server on the same host: large answers are there when the call returns."""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from layertap.types import Array

_FOLDER = Path("/dev/shm")  # noqa: S108 - where shared memory lies on Linux
MOST_KEPT = 4
"""Regions that wait for the next answer; more are given back."""


@dataclass(frozen=True, slots=True)
class Region:
    """A region and what the server calls it."""

    name: str
    memory: mmap.mmap

    def lend(self, give_back: Callable[[Region], None]) -> Array:
        """All of it as bytes; ``give_back`` is called when no array looks at it any more."""
        array = np.frombuffer(self.memory, np.uint8)
        weakref.finalize(array, give_back, self)
        return array


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
    """Regions for answers, each used by one answer at a time and again when its arrays are gone."""

    def __init__(self, unregister: Callable[[str], None]) -> None:
        """``unregister`` tells the server that a region, by its name, is not used any more."""
        self._unregister = unregister
        self._free: list[Region] = []
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

    def give_back(self, region: Region) -> None:
        """Nobody looks at the region any more."""
        with self._lock:
            self._free.append(region)
            spare = self._free.pop(0) if len(self._free) > MOST_KEPT or self._is_closed else None
        if spare is not None:
            self._drop(spare)

    def close(self) -> None:
        """Gives back what is free; what arrays still look at follows when they are gone."""
        with self._lock:
            self._is_closed = True
            spare, self._free = self._free, []
        for region in spare:
            self._drop(region)

    def _drop(self, region: Region) -> None:
        with contextlib.suppress(Exception):  # the server may be gone, and the region with it
            self._unregister(region.name)
        with contextlib.suppress(BufferError):
            region.memory.close()


def may_share_with(address: str) -> bool:
    """Whether a server at this address may be on the same host."""
    host = address.removeprefix("dns:///").removeprefix("ipv4:").rpartition(":")[0].strip("[]")
    is_here = address.startswith("unix:") or host in {"localhost", "::1"} or host.startswith("127.")
    return is_here and sys.platform == "linux" and _FOLDER.is_dir()
