"""Waiting for a server that starts at the same time as its client. No I/O."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from layertap.errors import DeadlineError, LayertapError

LONGEST_ATTEMPT_SECONDS = 5.0
SHORTEST_ATTEMPT_SECONDS = 1.0
"""In less gRPC does not find out why there is no connection."""
PAUSE_SECONDS = 0.2


def check_wait(seconds: float) -> None:
    """Raise `ValueError` for a number of seconds that nobody can wait."""
    if not (seconds >= 0 and math.isfinite(seconds)):
        raise ValueError(f"expected wait_seconds as a number of seconds from 0 on, got {seconds}")


@dataclass(slots=True)
class Wait:
    """Attempts to reach a server until it is ready or the time is over."""

    seconds: float
    _end: float = field(init=False)
    _told: LayertapError | None = None
    """The last error that said more than that an attempt took too long."""

    def __post_init__(self) -> None:
        self._end = time.monotonic() + self.seconds

    @property
    def attempt_seconds(self) -> float:
        """Deadline of the next attempt."""
        return min(max(self._end - time.monotonic(), SHORTEST_ATTEMPT_SECONDS), LONGEST_ATTEMPT_SECONDS)

    def pause_after(self, error: LayertapError) -> float:
        """Return the seconds to wait before the next attempt.

        Raises:
            LayertapError: the time is over; it is that of the attempts, and says how long was waited.
        """
        if self._told is None or not isinstance(error, DeadlineError):
            self._told = error
        left = self._end - time.monotonic()
        if left <= 0:
            message = f"waited {self.seconds:g} seconds for a server that is ready: {self._told.message}"
            raise type(self._told)(message, **self._told.metadata) from None
        return min(left, PAUSE_SECONDS)
