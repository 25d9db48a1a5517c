"""Delivery of results through shared memory, for callers on the same host.

A region is a file that the caller created under /dev/shm. The server writes to the file and never maps it: if the
caller shrinks a mapped file, the server is killed with SIGBUS, while a write only extends the file. The name of a
region is a random secret that only its owner receives, so that no caller can write into another caller's region.
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

FOLDER = Path("/dev/shm")  # noqa: S108 - the folder of POSIX shared memory on Linux
"""Folder of the files of regions."""
KEY = re.compile(r"layertap-[0-9a-f]{32}")
"""Form of the file names that callers may register."""
MAX_REGIONS = 256
"""Maximum number of regions of all callers; each holds a file descriptor."""
MAX_REGIONS_PER_CALLER = 64
"""Maximum number of regions of one connection; another one replaces the connection's least recently used."""
IDLE_SECONDS = 300.0
"""Seconds without use after which a region is removed when `MAX_REGIONS` is reached."""
FULL_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.ENOMEM}
"""Error numbers of a write when /dev/shm or the container's memory is full."""
ALIGNMENT = 64
"""Alignment of the arrays in a region, in bytes, for vector instructions."""


@dataclass(slots=True)
class _Region:
    """An open region."""

    file: int
    """File descriptor."""
    byte_size: int
    """Registered size in bytes."""
    caller: str
    """gRPC peer of the connection that registered the region."""
    used: float = field(default_factory=time.monotonic)
    """Time of the last use, on the monotonic clock."""
    writers: int = 0
    """Number of threads that write into the region now."""
    is_forgotten: bool = False
    """Whether the region has been removed; its file is closed after the last writer."""


class Regions:
    """The registered regions of all callers.

    A caller who registers too many regions loses its own least recently used one, never another caller's.
    """

    def __init__(self, *, enabled: bool) -> None:
        """Start without regions; ``enabled`` is whether the operator permits shared memory."""
        self._enabled = enabled
        self._regions: dict[str, _Region] = {}
        self._lock = threading.Lock()

    def register(self, key: str, byte_size: int, caller: str = "") -> str:
        """Open the file of this name for a caller and return the region's name.

        Raises:
            SharedMemoryDisabledError: the operator has not enabled shared memory.
            BadRegionError: the file does not exist or is smaller than ``byte_size``. The message is the same for both,
                so that it reveals nothing about files of others.
            OutOfResourcesError: the server has `MAX_REGIONS` regions, or no file descriptor is left.
        """
        if not self._enabled:
            raise SharedMemoryDisabledError(
                "shared memory is disabled on this server; the operator enables it with --shared-memory"
            )
        file = _open(key, byte_size)
        name = secrets.token_hex(16)
        with self._lock:
            self._make_room(file, caller)
            self._regions[name] = _Region(file, byte_size, caller)
        return name

    def _make_room(self, file: int, caller: str) -> None:
        """Remove regions so that one more fits; if none can be removed, close ``file`` and raise the error."""
        own = [name for name, region in self._regions.items() if region.caller == caller]
        idle_since = time.monotonic() - IDLE_SECONDS
        if len(own) >= MAX_REGIONS_PER_CALLER:
            self._forget(own[0])
        elif len(self._regions) >= MAX_REGIONS:
            for name in [name for name, region in self._regions.items() if region.used < idle_since]:
                self._forget(name)
        if len(self._regions) >= MAX_REGIONS:
            os.close(file)
            raise _too_many_error()

    def unregister(self, name: str) -> None:
        """Remove a region; its file is closed after the last write in progress. Unknown names are ignored."""
        with self._lock:
            self._forget(name)

    def write(self, name: str, arrays: Sequence[Array]) -> list[tuple[int, int]] | None:
        """Write arrays one after another into a region.

        Returns:
            Offset and size of each array in bytes, or None if the arrays do not fit into the region or /dev/shm is
            full. (A sparse file can be larger than the free memory.)

        Raises:
            BadRegionError: the region is not registered.
        """
        places: list[tuple[int, int]] = []
        end = 0
        for array in arrays:
            offset = -(-end // ALIGNMENT) * ALIGNMENT
            places.append((offset, array.nbytes))
            end = offset + array.nbytes
        with self._hold(name) as region:
            if end > region.byte_size:
                return None
            try:
                for array, (offset, _) in zip(arrays, places, strict=True):
                    write_array(region.file, array, offset)
            except OSError as error:
                if error.errno not in FULL_ERRORS:
                    raise
                return None
        return places

    @contextlib.contextmanager
    def _hold(self, name: str) -> Iterator[_Region]:
        """Keep a region's file open while the context lasts, and mark the region as used."""
        with self._lock:
            region = self._regions.get(name)
            if region is None:
                raise BadRegionError("the region is not registered; register it again", field="region")
            # Reinsert it, so that the regions stay ordered from the least to the most recently used.
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
        """Remove a region; the lock must be held."""
        region = self._regions.pop(name, None)
        if region is not None:
            region.is_forgotten = True
            _close_if_done(region)


def _too_many_error() -> OutOfResourcesError:
    """Return the error for a region beyond `MAX_REGIONS`."""
    message = (
        f"the server keeps {MAX_REGIONS} regions of shared memory, the maximum; unregister regions that are not used, "
        "or retry later"
    )
    return OutOfResourcesError(message, resource="regions", limit=MAX_REGIONS, retry_after_ms=RETRY_AFTER_MS)


def _close_if_done(region: _Region) -> None:
    """Close the file of a removed region that has no writer."""
    if region.is_forgotten and not region.writers:
        os.close(region.file)


def _open(key: str, byte_size: int) -> int:
    """Open a caller's file of at least ``byte_size`` bytes and return its descriptor."""
    refusal = BadRegionError("the file cannot be registered as a region", field="key")
    if not KEY.fullmatch(key) or byte_size <= 0:
        raise refusal
    return open_file(key, byte_size, refusal)


def open_file(name: str, byte_size: int, refusal: BadRegionError) -> int:
    """Open a file of `FOLDER` that has at least ``byte_size`` bytes and return its descriptor.

    Raises:
        BadRegionError: ``refusal``, if the file does not exist, is no regular file, or is too small.
        OutOfResourcesError: no file descriptor is left.
    """
    try:
        file = os.open(FOLDER / name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise shortage_in(error) or refusal from None
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode) or status.st_size < byte_size:
        os.close(file)
        raise refusal
    return file


def write_array(file: int, array: Array, offset: int) -> None:
    """Write an array's bytes in C order to the file at ``offset``."""
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data if array.size else memoryview(b"")
    while data:
        written = os.pwrite(file, data, offset)
        data, offset = data[written:], offset + written
