"""Send ten times as many requests as the server can handle, for a minute (``make overload``).

The server's capacity is measured first, with as many callers as its queue admits. Then requests arrive at ten times
that rate from an event loop in a separate process, without waiting for earlier requests. Prints the latency of admitted
and refused requests, the server's memory, and its latency afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from dataclasses import dataclass, field

from benchmarks.__main__ import photos
from benchmarks.callers import MODEL
from benchmarks.processes import Remote, resident_bytes, server
from layertap import AsyncClient
from layertap.errors import OverloadedError
from layertap.types import Array

TAPS = ["pooled | flatten -> v"]
IMAGES = 4
"""Images per request, enough for the server to need the cores more than the callers do."""
MAX_WAITING = 14
"""Queue limit of the server."""
CAPACITY = MAX_WAITING + 2
"""Number of requests that the server admits at the same time."""
FACTOR = 10
"""Offered rate as a multiple of the capacity."""


@dataclass
class Outcome:
    """Latency of every call in seconds."""

    admitted: list[float] = field(default_factory=list)
    """Latencies of admitted requests."""
    refused: list[float] = field(default_factory=list)
    """Latencies of refused requests."""


class LoadGenerator:
    """Callers on one event loop."""

    def __init__(self, address: str, photo: bytes) -> None:
        """Store the address and the request's images."""
        self._address = address
        self._images = [photo] * IMAGES

    def press(self, callers: int, seconds: float) -> Outcome:
        """Run ``callers`` callers, each of which sends its next request after the previous response."""
        return asyncio.run(self._press(callers, seconds))

    async def _press(self, callers: int, seconds: float) -> Outcome:
        """Run the callers."""
        outcome, end = Outcome(), time.perf_counter() + seconds
        async with AsyncClient(self._address, timeout_seconds=120) as client:
            await asyncio.gather(*(self._ask(client, outcome, end) for _ in range(callers)))
        return outcome

    def storm(self, rate: float, seconds: float) -> Outcome:
        """Send ``rate`` requests per second, each once."""
        return asyncio.run(self._storm(rate, seconds))

    async def _storm(self, rate: float, seconds: float) -> Outcome:
        """Send the requests."""
        outcome, began = Outcome(), time.perf_counter()
        async with AsyncClient(self._address, timeout_seconds=120) as client, asyncio.TaskGroup() as requests:
            for number in range(round(rate * seconds)):
                await asyncio.sleep(max(began + number / rate - time.perf_counter(), 0))
                requests.create_task(self._once(client, outcome))
        return outcome

    async def _ask(self, client: AsyncClient, outcome: Outcome, end: float) -> None:
        """Send requests one after another until ``end``."""
        while time.perf_counter() < end:
            await self._once(client, outcome)

    async def _once(self, client: AsyncClient, outcome: Outcome) -> None:
        """Send one request and record its latency."""
        began = time.perf_counter()
        try:
            features = await client.extract(self._images, model=MODEL, taps=TAPS)
        except OverloadedError:
            outcome.refused.append(time.perf_counter() - began)
        else:
            vector: Array = features["v"]
            assert len(vector) == IMAGES
            outcome.admitted.append(time.perf_counter() - began)


def p99(seconds: list[float]) -> float:
    """Return the 99th percentile."""
    return sorted(seconds)[int(0.99 * len(seconds))]


def line(title: str, value: str, goal: str, *, reached: bool) -> str:
    """Return a result as text."""
    return f"{title:<48}{value:>12}   {goal:<24}{'reached' if reached else 'MISSED'}"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="make overload", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    photo, _ = photos()
    with server(f"--max-waiting={MAX_WAITING}") as (address, pid):
        load = Remote(LoadGenerator, address, photo)
        load.press(CAPACITY, 3)
        at_capacity: Outcome = load.press(CAPACITY, arguments.seconds / 3)
        rate = FACTOR * len(at_capacity.admitted) / (arguments.seconds / 3)
        alone = statistics.median(load.press(1, 3).admitted)
        before = resident_bytes(pid)
        over: Outcome = load.storm(rate, arguments.seconds)
        grown = (resident_bytes(pid) - before) / 2**20
        time.sleep(1)
        again = statistics.median(load.press(1, 3).admitted)
        load.close()
    ratio = p99(over.admitted) / p99(at_capacity.admitted)
    refused = p99(over.refused) * 1000
    print(f"capacity of {CAPACITY} requests with {IMAGES} images, {rate:.0f} requests/s for {arguments.seconds:g} s:")
    print(f"{len(over.admitted)} admitted, {len(over.refused)} refused\n")
    print(line("p99 of admitted requests, relative to capacity", f"{ratio:.2f} ×", "≤ 2 ×", reached=ratio <= 2))
    print(line("p99 of refused requests", f"{refused:.1f} ms", "≤ 20 ms", reached=refused <= 20))
    print(line("growth of resident memory", f"{grown:.0f} MB", "≤ 64 MB", reached=grown <= 64))
    slowdown = again / alone
    print(
        line(
            "one caller one second later, relative to before",
            f"{slowdown:.2f} ×",
            "≤ 1.2 ×",
            reached=slowdown <= 1.2,
        )
    )


if __name__ == "__main__":
    main()
