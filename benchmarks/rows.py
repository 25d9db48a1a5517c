"""A benchmark's processes, and the rows of its table."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.processes import Remote


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    scenario: str
    """Name of the scenario."""
    ours: str
    """Layertap's figure."""
    twin: str
    """The twin's figure."""
    ratio: float
    """Ratio that the goal is about."""
    goal: str
    """Goal; empty if there is none."""
    reached: bool
    """Whether the goal is reached."""


@dataclass
class Bench:
    """The processes of a benchmark and their inputs."""

    callers: Remote
    """Client process."""
    sharing: Remote
    """Client process that receives results through shared memory."""
    twin: Remote
    """Process of the twin."""
    address: str
    """Address of the server."""
    photo: bytes
    """A small photograph as JPEG."""
    large: bytes
    """A large photograph as JPEG."""
    activations: list[str]
    """Names of the layers right after an activation."""
    model: str
    """Path of the twin's model."""
    quick: bool
    """Whether to run a tenth of the rounds."""

    def rounds(self, count: int) -> int:
        """Return the number of rounds: ``count``, or a tenth of it in a quick run."""
        return max(count // 10, 3) if self.quick else count

    def time_in_turns(self, ours: Callable[[], float], twin: Callable[[], float], count: int) -> tuple[float, float]:
        """Return the median seconds of both functions, called alternately, after three warm-up rounds."""
        times: tuple[list[float], list[float]] = ([], [])
        for number in range(self.rounds(count) + 3):
            for side, measure in zip(times, (ours, twin), strict=True):
                seconds = measure()
                if number >= 3:
                    side.append(seconds)
        return statistics.median(times[0]), statistics.median(times[1])


def milliseconds(seconds: float) -> str:
    """Return seconds as text in milliseconds."""
    return f"{seconds * 1000:.2f} ms"


def latency_row(name: str, ours: float, twin: float, most: float) -> Row:
    """Return a row whose goal is a latency of at most ``most`` times the twin's."""
    return Row(name, milliseconds(ours), milliseconds(twin), ours / twin, f"≤ {most:g} ×", ours <= most * twin)


def rate_row(name: str, count: int, ours: float, twin: float, least: float) -> Row:
    """Return a row whose goal is a rate of at least ``least`` times the twin's."""
    rates = [f"{count / seconds:.0f}/s" for seconds in (ours, twin)]
    return Row(name, rates[0], rates[1], twin / ours, f"≥ {least:g} ×", twin >= least * ours)
