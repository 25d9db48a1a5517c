"""Answers that are written into memory which a caller on the same host shares, and do not travel.

A region is a file of the caller's under /dev/shm. It is written to and never mapped: a caller who shrinks the file then
harms himself alone, where a mapping would kill the server with SIGBUS. A region's name is a secret that only its owner
was told, so no caller writes into another's.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from layertap.errors import BadRegionError, SharedMemoryDisabledError
from layertap.types import Array

FOLDER = Path("/dev/shm")  # noqa: S108 - where shared memory lies on Linux
KEY = re.compile(r"layertap-[0-9a-f]{32}")
MOST_REGIONS = 256
ALIGNMENT = 64
"""Where arrays begin: vector instructions like it."""


@dataclass(slots=True)
class _Region:
    file: int
    byte_size: int
    writers: int = 0
    forgotten: bool = False


class Regions:
    """The regions that callers registered; the oldest leave when there are too many."""

    def __init__(self, *, offered: bool) -> None:
        self._offered = offered
        self._regions: dict[str, _Region] = {}
        self._lock = threading.Lock()

    def register(self, key: str, byte_size: int) -> str:
        """Opens the file of this name; returns the region's.

        Raises:
            SharedMemoryDisabledError: the operator does not offer it.
            BadRegionError: no such file, or one that is smaller; the message is the same for each.
        """
        if not self._offered:
            raise SharedMemoryDisabledError("shared memory is not offered; the operator does with --shared-memory")
        file = _opened(key, byte_size)
        name = secrets.token_hex(16)
        with self._lock:
            while len(self._regions) >= MOST_REGIONS:
                self._forget(next(iter(self._regions)))
            self._regions[name] = _Region(file, byte_size)
        return name

    def unregister(self, name: str) -> None:
        """Forgets the region; who writes into it ends first. An unknown name is no error: it is forgotten."""
        with self._lock:
            self._forget(name)

    def write(self, name: str, arrays: Sequence[Array]) -> list[tuple[int, int]] | None:
        """Where each array lies, as offset and size; None where they do not fit, and nothing was written.

        Raises:
            BadRegionError: there is no such region.
        """
        places: list[tuple[int, int]] = []
        end = 0
        for array in arrays:
            offset = -(-end // ALIGNMENT) * ALIGNMENT
            places.append((offset, array.nbytes))
            end = offset + array.nbytes
        with self._written(name) as region:
            if end > region.byte_size:
                return None
            for array, (offset, _) in zip(arrays, places, strict=True):
                _write(region.file, array, offset)
        return places

    @contextlib.contextmanager
    def _written(self, name: str) -> Iterator[_Region]:
        with self._lock:
            region = self._regions.get(name)
            if region is None:
                raise BadRegionError("the region is not registered; register it anew", field="region")
            # The most recently used last.
            self._regions[name] = self._regions.pop(name)
            region.writers += 1
        try:
            yield region
        finally:
            with self._lock:
                region.writers -= 1
                _close_if_done(region)

    def _forget(self, name: str) -> None:
        region = self._regions.pop(name, None)
        if region is not None:
            region.forgotten = True
            _close_if_done(region)


def _close_if_done(region: _Region) -> None:
    if region.forgotten and not region.writers:
        os.close(region.file)


def _opened(key: str, byte_size: int) -> int:
    refusal = BadRegionError("no such region can be registered", field="key")
    if not KEY.fullmatch(key) or byte_size <= 0:
        raise refusal
    try:
        file = os.open(FOLDER / key, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        raise refusal from None
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode) or status.st_size < byte_size:
        os.close(file)
        raise refusal
    return file


def _write(file: int, array: Array, offset: int) -> None:
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data if array.size else memoryview(b"")
    while data:
        written = os.pwrite(file, data, offset)
        data, offset = data[written:], offset + written
