"""Regions of system shared memory that clients of the Open Inference Protocol register by name.

The names are common to all callers, as the protocol defines them, and a caller may register any file that the server
may open. The server reads and writes the files and never maps them: if the caller shrinks a mapped file, the server is
killed with SIGBUS, while a read then returns fewer bytes.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from layertap.errors import BadRegionError, OutOfResourcesError, SharedMemoryDisabledError
from layertap.types import Array
from layertap_server.rpc.shared_regions import FULL_ERRORS, MAX_REGIONS, open_file, write_array
from layertap_server.runtime.shortage import RETRY_AFTER_MS

KEY = re.compile(r"/*((?!layertap-|sem\.)[A-Za-z0-9_][A-Za-z0-9._-]{0,254})")
"""Form of the keys: a file name, with or without leading slashes, but none of a native caller or of a semaphore."""
REGION, SIZE, OFFSET = "shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"
"""Names of the parameters that place an input or output in shared memory."""
LARGEST = 2**62
"""Maximum offset and size in bytes."""


@dataclass(frozen=True, slots=True)
class Location:
    """The place of an input or output in a region."""

    tensor: str
    """Description of the input or output, for error messages."""
    region: str
    offset: int
    byte_size: int


@dataclass(slots=True, eq=False)
class Region:
    """A registered region."""

    name: str
    key: str
    offset: int
    """Start of the region in its file, in bytes."""
    byte_size: int
    file: int
    """File descriptor."""
    users: int = 0
    """Number of threads that read or write the file now."""
    is_forgotten: bool = False
    """Whether the region has been unregistered; its file is closed after the last user."""

    def close_if_done(self) -> None:
        """Close the file if the region is unregistered and has no user."""
        if self.is_forgotten and not self.users:
            os.close(self.file)


class SystemRegions:
    """The registered regions; safe to use from any number of threads."""

    def __init__(self, *, enabled: bool, max_bytes: int = LARGEST) -> None:
        """Start without regions.

        Args:
            enabled: whether the operator permits system shared memory.
            max_bytes: maximum bytes of one input, since inputs are read into memory.
        """
        self.enabled = enabled
        self._max_bytes = max_bytes
        self._regions: dict[str, Region] = {}
        self._lock = threading.Lock()

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Open the file of a region.

        Raises:
            SharedMemoryDisabledError: the operator has not enabled system shared memory.
            BadRegionError: the name is in use, or the file does not exist or is too small. The message is the same for
                all files, so that it reveals nothing about files of others.
            OutOfResourcesError: the server has `MAX_REGIONS` regions, or no file descriptor is left.
        """
        self._check_enabled()
        refusal = BadRegionError(f"the file of region {name!r:.100} cannot be registered", field="key")
        match = KEY.fullmatch(key)
        if not name or match is None or not 0 < byte_size <= LARGEST or offset > LARGEST:
            raise refusal
        with self._lock:
            if name in self._regions:
                message = f"the region {name!r:.100} is registered already; unregister it first"
                raise BadRegionError(message, field="name")
            if len(self._regions) >= MAX_REGIONS:
                message = f"the server keeps {MAX_REGIONS} regions of system shared memory, the maximum"
                raise OutOfResourcesError(message, resource="regions", limit=MAX_REGIONS, retry_after_ms=RETRY_AFTER_MS)
            file = open_file(match[1], offset + byte_size, refusal)
            self._regions[name] = Region(name, key, offset, byte_size, file)

    def unregister(self, name: str) -> None:
        """Remove a region, or all for an empty name; the file is closed after the last use. Ignore unknown names."""
        with self._lock:
            for one in [name] if name else list(self._regions):
                region = self._regions.pop(one, None)
                if region is not None:
                    region.is_forgotten = True
                    region.close_if_done()

    def list(self, name: str = "") -> list[Region]:
        """Return the registered regions, or the one of this name.

        Raises:
            BadRegionError: no region has the name.
        """
        with self._lock:
            regions = [region for region in self._regions.values() if not name or region.name == name]
        if name and not regions:
            raise _unknown(name)
        return regions

    def read(self, location: Location) -> bytes:
        """Return the bytes at a location.

        Raises:
            BadRegionError: the region is not registered, or the location is outside of it or of its file.
        """
        with self._hold(location) as region:
            if location.byte_size > self._max_bytes:
                message = f"{location.tensor}: expected at most {self._max_bytes} bytes, got {location.byte_size}"
                raise BadRegionError(message, field="inputs", limit=self._max_bytes, got=location.byte_size)
            data = bytearray()
            while len(data) < location.byte_size:
                at = region.offset + location.offset + len(data)
                part = os.pread(region.file, location.byte_size - len(data), at)
                if not part:
                    message = f"{location.tensor}: the file of region {location.region!r:.100} has become smaller"
                    raise BadRegionError(message, field="inputs")
                data += part
        return bytes(data)

    def write(self, location: Location, array: Array) -> None:
        """Write an output, little-endian and in C order.

        Raises:
            BadRegionError: the output has more bytes than the location, the region is not registered, the location is
                outside of it, or /dev/shm is full.
        """
        if array.nbytes > location.byte_size:
            message = (
                f"{location.tensor}: expected a {SIZE} of at least {array.nbytes}, the bytes of the output, got "
                f"{location.byte_size}"
            )
            raise BadRegionError(message, field="outputs", expected=array.nbytes, got=location.byte_size)
        with self._hold(location) as region:
            try:
                write_array(region.file, array, region.offset + location.offset)
            except OSError as error:
                if error.errno not in FULL_ERRORS:
                    raise
                raise BadRegionError(f"{location.tensor}: /dev/shm is full", field="outputs") from None

    def check(self, location: Location) -> None:
        """Check a location before anything is computed; raise the errors of `read` for it."""
        with self._hold(location):
            pass

    @contextlib.contextmanager
    def _hold(self, location: Location) -> Iterator[Region]:
        """Keep the file of a location open while the context lasts; raise `BadRegionError` if it is not valid."""
        self._check_enabled()
        with self._lock:
            region = self._regions.get(location.region)
            if region is None:
                raise _unknown(location.region)
            if location.offset + location.byte_size > region.byte_size:
                message = (
                    f"{location.tensor}: bytes {location.offset} to {location.offset + location.byte_size} are outside "
                    f"of region {location.region!r:.100}, which has {region.byte_size} bytes"
                )
                raise BadRegionError(message, field=OFFSET, limit=region.byte_size)
            region.users += 1
        try:
            yield region
        finally:
            with self._lock:
                region.users -= 1
                region.close_if_done()

    def _check_enabled(self) -> None:
        """Raise `SharedMemoryDisabledError` unless the operator permits system shared memory."""
        if not self.enabled:
            raise SharedMemoryDisabledError(
                "system shared memory is disabled on this server; the operator enables it with --system-shared-memory"
            )


def read_location(tensor: str, parameters: Mapping[str, Any]) -> Location | None:
    """Return the place in shared memory that the parameters of an input or output give; None for none.

    Raises:
        BadRegionError: the size is missing, or a parameter has another type or is out of range.
    """
    if REGION not in parameters:
        return None
    region, size, offset = parameters[REGION], parameters.get(SIZE), parameters.get(OFFSET, 0)
    if not isinstance(region, str):
        raise BadRegionError(f"{tensor}: expected the name of a region in {REGION}, got {region!r:.100}", field=REGION)
    for name, value in ((SIZE, size), (OFFSET, offset)):
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST:
            raise BadRegionError(f"{tensor}: expected an integer from 0 in {name}, got {value!r:.100}", field=name)
    return Location(tensor, region, int(offset), int(size or 0))


def _unknown(name: str) -> BadRegionError:
    """Return the error for a region that is not registered."""
    return BadRegionError(f"the region {name!r:.100} is not registered", field="region")
