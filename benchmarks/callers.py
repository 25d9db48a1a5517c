"""Send requests to the server from a separate process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from layertap import Client

MODEL = "efficientnet_lite0"
Taps = Sequence[str]
"""Tap expressions of one request."""


class Callers:
    """One client that several threads share."""

    def __init__(self, address: str, shared_memory: bool = False) -> None:
        """Connect to the server."""
        self._client = Client(address, timeout_seconds=120, shared_memory=shared_memory)

    def one(self, image: bytes, taps: Taps) -> float:
        """Return the seconds of one call."""
        began = time.perf_counter()
        self._client.extract(image, model=MODEL, taps=taps)
        return time.perf_counter() - began

    def attribute(self, image: bytes, method: str, layer: str) -> float:
        """Return the seconds of one call for the maps of a method, in the layer's size."""
        began = time.perf_counter()
        self._client.attribute(image, model=MODEL, method=method, layer=layer, size="layer")
        return time.perf_counter() - began

    def many(self, images: Sequence[bytes], tap_sets: Sequence[Taps], callers: int, count: int) -> float:
        """Return the seconds of ``count`` calls by ``callers`` threads; the tap sets take turns."""
        began = time.perf_counter()
        self._latencies(images, tap_sets, callers, count)
        return time.perf_counter() - began

    def latencies(self, images: Sequence[bytes], taps: Taps, callers: int, count: int) -> list[float]:
        """Return the seconds of each call."""
        return self._latencies(images, [taps], callers, count)

    def bulk(self, images: Sequence[bytes], taps: Taps, count: int) -> float:
        """Return the seconds of ``count`` images through `Client.extract_many`."""
        began = time.perf_counter()
        source = (images[number % len(images)] for number in range(count))
        items = list(self._client.extract_many(source, model=MODEL, taps=taps))
        assert len(items) == count
        assert not any(item.error for item in items)
        return time.perf_counter() - began

    def slow_reader(self, image: bytes, taps: Taps, seconds: float) -> int:
        """Read a stream of large results, one every half second, and return the number of results."""
        taken = 0
        end = time.monotonic() + seconds
        for _ in self._client.extract_many(iter(lambda: image, b""), model=MODEL, taps=taps):
            taken += 1
            time.sleep(0.5)
            if time.monotonic() > end:
                break
        return taken

    def tap_sets(self, image: bytes, tap_sets: Sequence[Taps], callers: int) -> None:
        """Send one request for each tap set."""
        self._latencies([image], tap_sets, callers, len(tap_sets))

    def timing(self, image: bytes, taps: Taps) -> tuple[float, float]:
        """Return the milliseconds of one call: in total, and the server's computation."""
        began = time.perf_counter()
        features = self._client.extract(image, model=MODEL, taps=taps)
        return (time.perf_counter() - began) * 1000, features.timing.compute_ms

    def _latencies(self, images: Sequence[bytes], tap_sets: Sequence[Taps], callers: int, count: int) -> list[float]:
        """Return the seconds of each call by several threads."""

        def ask(number: int) -> float:
            """Return the seconds of one call."""
            return self.one(images[number % len(images)], tap_sets[number % len(tap_sets)])

        with ThreadPoolExecutor(callers) as pool:
            return list(pool.map(ask, range(count)))
