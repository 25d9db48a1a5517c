"""The way an answer travels: inline, in chunks, or through shared memory. No I/O.

A route is a generator: it yields what to send, is given the answer or the error, and returns the features. Both clients
drive the same one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

from layertap import _calls
from layertap._shared_memory import Region, RegionPool, new_region
from layertap.errors import BadRegionError, LayertapError, SharedMemoryDisabledError, UnavailableError
from layertap.types import ApplyRequest, ExtractRequest, FeatureMap, Features, Tap

LARGE_BYTES = 2**20
"""From here on an answer travels in chunks."""
MOST_KINDS = 1000
ROOM_FOR_ALIGNMENT = 2**16

Result = TypeVar("Result")
Steps: TypeAlias = "Generator[_calls.Call[Any] | _calls.Exchange[Any], Any, Result]"


class Routes:
    """Of one client; any number of threads may ask."""

    def __init__(self, *, shares_memory: bool) -> None:
        """``shares_memory``: whether to try it with the server."""
        self._large = _LargeAnswers()
        self._regions = RegionPool()
        self._shares_memory = shares_memory

    def extract(self, request: ExtractRequest) -> Steps[Features]:
        if not self._large.is_large(request):
            features: Features = yield _calls.extract(request)
        elif region := (yield from self._region(self._large.bytes_of(request))):
            features = yield from self._through(region, request)
        else:
            features = yield from _in_chunks(request)
        self._large.learn(request, features)
        return features

    def close(self) -> list[_calls.Call[None]]:
        """What there is to tell the server."""
        return [_calls.unregister_region(name) for name in self._regions.close()]

    def _region(self, byte_size: int) -> Steps[Region | None]:
        """One of at least this size; None where the server shares none, or has none to spare now."""
        if not self._shares_memory:
            return None
        for name in self._regions.given_up():
            with contextlib.suppress(LayertapError):
                yield _calls.unregister_region(name)
        if region := self._regions.take(byte_size):
            return region
        try:
            with new_region(byte_size) as (key, memory):
                name = yield _calls.register_region(key, byte_size)
        except (SharedMemoryDisabledError, BadRegionError):  # it offers none, or lives elsewhere: it is not asked again
            self._shares_memory = False
            return None
        except (LayertapError, OSError):
            return None
        return Region(name, memory)

    def _through(self, region: Region, request: ExtractRequest) -> Steps[Features]:
        memory = self._regions.lend(region)
        try:
            features: Features = yield _calls.extract(replace(request, region=region.name), memory)
        except BadRegionError:  # the server was started anew
            self._regions.forget()
        except BaseException:
            region.is_spoiled = True
            raise
        else:
            return features
        return (yield from _in_chunks(request))


def apply_blocks(request: ApplyRequest) -> Steps[FeatureMap]:
    """Asks for a large array's result in chunks: it is large too, as a rule."""
    large = request.array.nbytes > LARGE_BYTES
    result: FeatureMap = yield (_calls.apply_blocks_in_chunks if large else _calls.apply_blocks)(request)
    return result


def _in_chunks(request: ExtractRequest) -> Steps[Features]:
    """Asks again where the server went away in the middle: gRPC itself does that only before the first chunk."""
    with contextlib.suppress(UnavailableError):
        features: Features = yield _calls.extract_in_chunks(request)
        return features
    features = yield _calls.extract_in_chunks(request)  # outside of the handler: one exception, not two
    return features


class _LargeAnswers:
    """Which requests have large answers, learned from their first: those travel another way from then on."""

    def __init__(self) -> None:
        self._bytes_per_image: dict[tuple[str, str, tuple[Tap | str, ...]], float] = {}

    def is_large(self, request: ExtractRequest) -> bool:
        return self._bytes_per_image.get(_kind(request), 0) * len(request.images) > LARGE_BYTES

    def bytes_of(self, request: ExtractRequest) -> int:
        """How much room the answer needs, alignment included."""
        return int(self._bytes_per_image[_kind(request)] * len(request.images)) + ROOM_FOR_ALIGNMENT

    def learn(self, request: ExtractRequest, features: Features) -> None:
        size = sum(array.nbytes for array in features.values()) / max(len(request.images), 1)
        if size * len(request.images) > LARGE_BYTES or _kind(request) in self._bytes_per_image:
            if len(self._bytes_per_image) >= MOST_KINDS:
                self._bytes_per_image.clear()
            self._bytes_per_image[_kind(request)] = size


def _kind(request: ExtractRequest) -> tuple[str, str, tuple[Tap | str, ...]]:
    return request.model, request.version, request.taps
