"""Answers that are written into memory which a caller on the same host shares, and do not travel.

A region is a file of the caller's under /dev/shm. It is written to and never mapped: a caller who shrinks the file then
harms himself alone, where a mapping would kill the server with SIGBUS. A region's name is a secret that only its owner
was told, so no caller writes into another's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from layertap.errors import BadRegionError, OutOfResourcesError, SharedMemoryDisabledError
from layertap.types import Array
from layertap_server.runtime.shortage import RETRY_AFTER_MS, shortage_in

FOLDER = Path("/dev/shm")  # noqa: S108 - where shared memory lies on Linux
KEY = re.compile(r"layertap-[0-9a-f]{32}")
MOST_REGIONS = 256
"""Regions of all callers, each with a file descriptor."""
MOST_OF_A_CALLER = 64
"""Regions of one connection: of more, its oldest leave."""
IDLE_SECONDS = 300.0
"""Where there are `MOST_REGIONS`, regions that were not used for so long leave: their callers are likely gone."""
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.ENOMEM}
"""What a write fails with where /dev/shm or the container's memory is full."""
ALIGNMENT = 64
"""Where arrays begin: vector instructions like it."""


@dataclass(slots=True)
class _Region:
    file: int
    byte_size: int
    caller: str
    used: float = field(default_factory=time.monotonic)
    writers: int = 0
    forgotten: bool = False


class Regions:
    """The regions that callers registered. A caller with too many loses his own oldest, never another caller's."""

    def __init__(self, *, offered: bool) -> None:
        self._offered = offered
        self._regions: dict[str, _Region] = {}
        self._lock = threading.Lock()

    def register(self, key: str, byte_size: int, caller: str = "") -> str:
        """Open the file of this name for a caller and return the region's name.

        Raises:
            SharedMemoryDisabledError: the operator does not offer it.
            BadRegionError: no such file, or one that is smaller; the message is the same for each.
            OutOfResourcesError: there are as many regions as the server keeps, or no file descriptor is left.
        """
        if not self._offered:
            raise SharedMemoryDisabledError("shared memory is not offered; the operator does with --shared-memory")
        file = _opened(key, byte_size)
        name = secrets.token_hex(16)
        with self._lock:
            self._make_room(file, caller)
            self._regions[name] = _Region(file, byte_size, caller)
        return name

    def _make_room(self, file: int, caller: str) -> None:
        own = [name for name, region in self._regions.items() if region.caller == caller]
        idle_since = time.monotonic() - IDLE_SECONDS
        if len(own) >= MOST_OF_A_CALLER:
            self._forget(own[0])
        elif len(self._regions) >= MOST_REGIONS:
            for name in [name for name, region in self._regions.items() if region.used < idle_since]:
                self._forget(name)
        if len(self._regions) >= MOST_REGIONS:
            os.close(file)
            raise _too_many()

    def unregister(self, name: str) -> None:
        """Forgets the region; who writes into it ends first. An unknown name is no error: it is forgotten."""
        with self._lock:
            self._forget(name)

    def write(self, name: str, arrays: Sequence[Array]) -> list[tuple[int, int]] | None:
        """Write the arrays and return the offset and size of each; None where they do not fit.

        They do not fit either where /dev/shm is full: a file may be larger than what there is room for.

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
            try:
                for array, (offset, _) in zip(arrays, places, strict=True):
                    _write(region.file, array, offset)
            except OSError as error:
                if error.errno not in NO_ROOM:
                    raise
                return None
        return places

    @contextlib.contextmanager
    def _written(self, name: str) -> Iterator[_Region]:
        with self._lock:
            region = self._regions.get(name)
            if region is None:
                raise BadRegionError("the region is not registered; register it anew", field="region")
            # The most recently used last.
            self._regions[name] = self._regions.pop(name)
            region.used = time.monotonic()
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


def _too_many() -> OutOfResourcesError:
    message = (
        f"the server keeps {MOST_REGIONS} regions of shared memory, the most that it takes; unregister those that are "
        "not used, or retry later"
    )
    return OutOfResourcesError(message, resource="regions", limit=MOST_REGIONS, retry_after_ms=RETRY_AFTER_MS)


def _close_if_done(region: _Region) -> None:
    if region.forgotten and not region.writers:
        os.close(region.file)


def _opened(key: str, byte_size: int) -> int:
    refusal = BadRegionError("no such region can be registered", field="key")
    if not KEY.fullmatch(key) or byte_size <= 0:
        raise refusal
    try:
        file = os.open(FOLDER / key, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise shortage_in(error) or refusal from None
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
