"""``make overload``: ten times as many requests as the server can answer, for a minute.

What it can answer is measured first, with as many callers as there is room for. Then requests arrive at ten times that
rate, whatever becomes of the ones before, from an event loop in a process of its own. Prints how long admitted and
refused requests took, what memory the server held, and how soon it answered as before.
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
"""A request: large enough that the callers themselves do not need the cores."""
WAITING = 14
ROOM = WAITING + 2
FACTOR = 10


@dataclass
class Outcome:
    """Seconds of every call."""

    admitted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)


class Crowd:
    """Callers of one event loop."""

    def __init__(self, address: str, photo: bytes) -> None:
        self._address = address
        self._images = [photo] * IMAGES

    def press(self, callers: int, seconds: float) -> Outcome:
        """So many callers, each asking again as soon as it is answered."""
        return asyncio.run(self._press(callers, seconds))

    async def _press(self, callers: int, seconds: float) -> Outcome:
        outcome, end = Outcome(), time.perf_counter() + seconds
        async with AsyncClient(self._address, timeout_seconds=120) as client:
            await asyncio.gather(*(self._ask(client, outcome, end) for _ in range(callers)))
        return outcome

    def storm(self, rate: float, seconds: float) -> Outcome:
        """So many requests a second, each asked once."""
        return asyncio.run(self._storm(rate, seconds))

    async def _storm(self, rate: float, seconds: float) -> Outcome:
        outcome, began = Outcome(), time.perf_counter()
        async with AsyncClient(self._address, timeout_seconds=120) as client, asyncio.TaskGroup() as requests:
            for number in range(round(rate * seconds)):
                await asyncio.sleep(max(began + number / rate - time.perf_counter(), 0))
                requests.create_task(self._once(client, outcome))
        return outcome

    async def _ask(self, client: AsyncClient, outcome: Outcome, end: float) -> None:
        while time.perf_counter() < end:
            await self._once(client, outcome)

    async def _once(self, client: AsyncClient, outcome: Outcome) -> None:
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
    return sorted(seconds)[int(0.99 * len(seconds))]


def line(title: str, value: str, goal: str, *, reached: bool) -> str:
    return f"{title:<48}{value:>12}   {goal:<24}{'reached' if reached else 'MISSED'}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="make overload", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    photo, _ = photos()
    with server(f"--max-waiting={WAITING}") as (address, pid):
        crowd = Remote(Crowd, address, photo)
        crowd.press(ROOM, 3)
        at_capacity: Outcome = crowd.press(ROOM, arguments.seconds / 3)
        rate = FACTOR * len(at_capacity.admitted) / (arguments.seconds / 3)
        alone = statistics.median(crowd.press(1, 3).admitted)
        before = resident_bytes(pid)
        over: Outcome = crowd.storm(rate, arguments.seconds)
        grown = (resident_bytes(pid) - before) / 2**20
        time.sleep(1)
        again = statistics.median(crowd.press(1, 3).admitted)
        crowd.close()
    ratio = p99(over.admitted) / p99(at_capacity.admitted)
    refused = p99(over.refused) * 1000
    print(f"room for {ROOM} requests of {IMAGES} images, {rate:.0f} requests a second for {arguments.seconds:g} s:")
    print(f"{len(over.admitted)} answered, {len(over.refused)} refused\n")
    print(line("p99 of the admitted, beside that at capacity", f"{ratio:.2f} ×", "≤ 2 ×", reached=ratio <= 2))
    print(line("p99 of a refusal", f"{refused:.1f} ms", "≤ 20 ms", reached=refused <= 20))
    print(line("growth of resident memory", f"{grown:.0f} MB", "≤ 64 MB", reached=grown <= 64))
    slower = again / alone
    print(line("one caller a second later, beside before", f"{slower:.2f} ×", "≤ 1.2 ×", reached=slower <= 1.2))


if __name__ == "__main__":
    main()
