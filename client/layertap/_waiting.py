"""Wait for a server that starts at the same time as its client. No I/O."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from layertap.errors import DeadlineError, LayertapError

LONGEST_ATTEMPT_SECONDS = 5.0
"""Maximum deadline of one attempt, in seconds."""
SHORTEST_ATTEMPT_SECONDS = 1.0
"""Minimum deadline of one attempt, in seconds; in less time gRPC does not learn why it cannot connect."""
PAUSE_SECONDS = 0.2
"""Pause between attempts, in seconds."""


def check_wait(seconds: float) -> None:
    """Raise `ValueError` if the number of seconds is negative or not finite."""
    if not (seconds >= 0 and math.isfinite(seconds)):
        raise ValueError(f"expected wait_seconds as a finite number of seconds from 0 on, got {seconds}")


@dataclass(slots=True)
class Wait:
    """Repeated attempts to reach a server until it is ready or the time has passed."""

    seconds: float
    """Maximum time to wait, in seconds."""
    _end: float = field(init=False)
    _told: LayertapError | None = None
    """The last error that said more than that an attempt took too long."""

    def __post_init__(self) -> None:
        """Start the clock."""
        self._end = time.monotonic() + self.seconds

    @property
    def attempt_seconds(self) -> float:
        """Deadline of the next attempt, in seconds."""
        return min(max(self._end - time.monotonic(), SHORTEST_ATTEMPT_SECONDS), LONGEST_ATTEMPT_SECONDS)

    def pause_after(self, error: LayertapError) -> float:
        """Return the seconds to wait before the next attempt.

        Raises:
            LayertapError: the time has passed; the error is that of the attempts, with the time waited in its message.
        """
        if self._told is None or not isinstance(error, DeadlineError):
            self._told = error
        left = self._end - time.monotonic()
        if left <= 0:
            message = f"waited {self.seconds:g} seconds for a server that is ready: {self._told.message}"
            raise type(self._told)(message, **self._told.metadata) from None
        return min(left, PAUSE_SECONDS)
