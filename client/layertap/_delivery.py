"""Choose how features are delivered: inline, in chunks, or through shared memory. No I/O.

A delivery is a generator: it yields calls, receives their responses or errors, and returns the features. Both clients
run the same generators.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

from layertap import _calls
from layertap._features import Features
from layertap._rows import count_rows
from layertap._shared_memory import Region, RegionPool, new_region
from layertap.errors import BadRegionError, LayertapError, SharedMemoryDisabledError, UnavailableError
from layertap.types import (
    ApplyRequest,
    ExtractRequest,
    FeatureMap,
    RegisterRegionRequest,
    Tap,
    UnregisterRegionRequest,
)
from layertap.wire import rpcs

LARGE_BYTES = 2**20
"""Size in bytes of a response above which it is delivered in chunks or through shared memory."""
MOST_KINDS = 1000
"""Maximum number of kinds of requests whose response size is remembered."""
ROOM_FOR_ALIGNMENT = 2**16
"""Bytes added to a shared memory region, since the server aligns each array in it."""

Result = TypeVar("Result")
DeliveryCalls: TypeAlias = "Generator[_calls.Call[Any] | _calls.Exchange[Any], Any, Result]"
"""A delivery that yields calls and returns a result."""


class Delivery:
    """The deliveries of one client; safe for use by any number of threads."""

    def __init__(self, *, shares_memory: bool) -> None:
        """Start without knowledge of response sizes.

        Args:
            shares_memory: whether to try shared memory with the server.
        """
        self._large = _LargeResponses()
        self._regions = RegionPool()
        self._shares_memory = shares_memory

    def extract(self, request: ExtractRequest) -> DeliveryCalls[Features]:
        """Extract features and deliver them in the way that suits the expected size of the response."""
        if not self._large.is_large(request):
            features: Features = yield _calls.extract(request)
        elif region := (yield from self._region(self._large.bytes_of(request))):
            features = yield from self._through(region, request)
        else:
            features = yield from _in_chunks(request)
        self._large.learn(request, features)
        return features

    def close(self) -> list[_calls.Call[None]]:
        """Close the pool of regions; return the calls that release them on the server."""
        return [_calls.call_of(rpcs.UNREGISTER_REGION, UnregisterRegionRequest(name)) for name in self._regions.close()]

    def _region(self, byte_size: int) -> DeliveryCalls[Region | None]:
        """Return a region of at least ``byte_size`` bytes, or None if the server offers none or has none free."""
        if not self._shares_memory:
            return None
        for name in self._regions.take_released():
            with contextlib.suppress(LayertapError):
                yield _calls.call_of(rpcs.UNREGISTER_REGION, UnregisterRegionRequest(name))
        if region := self._regions.take(byte_size):
            return region
        try:
            with new_region(byte_size) as (key, memory):
                name = yield _calls.call_of(rpcs.REGISTER_REGION, RegisterRegionRequest(key, byte_size))
        except (SharedMemoryDisabledError, BadRegionError):  # not offered, or another host: do not ask again
            self._shares_memory = False
            return None
        except (LayertapError, OSError):
            return None
        return Region(name, memory)

    def _through(self, region: Region, request: ExtractRequest) -> DeliveryCalls[Features]:
        """Extract features into a region; in chunks if the server no longer knows the region."""
        memory = self._regions.lend(region)
        try:
            features: Features = yield _calls.extract(replace(request, region=region.name), memory)
        except BadRegionError:  # the server was restarted
            self._regions.forget()
        except BaseException:
            region.is_spoiled = True
            raise
        else:
            return features
        return (yield from _in_chunks(request))


def apply_blocks(request: ApplyRequest) -> DeliveryCalls[FeatureMap]:
    """Apply a head to an array; request the result of a large array in chunks, since it is usually large too."""
    if request.array.nbytes > LARGE_BYTES:
        result: FeatureMap = yield _calls.apply_blocks_in_chunks(request)
    else:
        result = yield _calls.call_of(rpcs.APPLY_BLOCKS, request)
    return result


def _in_chunks(request: ExtractRequest) -> DeliveryCalls[Features]:
    """Extract features in chunks; repeat the request once if the server stops in the middle.

    gRPC itself retries only before the first chunk.
    """
    with contextlib.suppress(UnavailableError):
        features: Features = yield _calls.extract_in_chunks(request)
        return features
    features = yield _calls.extract_in_chunks(request)  # outside the handler, so that errors are not chained
    return features


class _LargeResponses:
    """The kinds of requests with large responses, learned from the first response of each kind."""

    def __init__(self) -> None:
        self._bytes_per_image: dict[tuple[str, str, tuple[Tap | str, ...]], float] = {}

    def is_large(self, request: ExtractRequest) -> bool:
        """Return whether the response is expected to exceed `LARGE_BYTES`; False for an unknown kind of request."""
        return self._bytes_per_image.get(_kind(request), 0) * count_rows(request) > LARGE_BYTES

    def bytes_of(self, request: ExtractRequest) -> int:
        """Return the expected size of the response in bytes, alignment included."""
        return int(self._bytes_per_image[_kind(request)] * count_rows(request)) + ROOM_FOR_ALIGNMENT

    def learn(self, request: ExtractRequest, features: Features) -> None:
        """Remember the size per image of a large response."""
        size = sum(array.nbytes for array in features.values()) / max(count_rows(request), 1)
        if size * count_rows(request) > LARGE_BYTES or _kind(request) in self._bytes_per_image:
            if len(self._bytes_per_image) >= MOST_KINDS:
                self._bytes_per_image.clear()
            self._bytes_per_image[_kind(request)] = size


def _kind(request: ExtractRequest) -> tuple[str, str, tuple[Tap | str, ...]]:
    """Return the model, version and taps, which determine the size per image."""
    return request.model, request.version, request.taps
