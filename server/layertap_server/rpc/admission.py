"""A first-come-first-served semaphore that limits the number of holders and their total bytes.

A released place is booked for the first waiter at once, before that waiter's task runs again. Therefore no other task
can take the place in between, and a waiter that is cancelled after it was booked releases the place to the next one.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import NamedTuple


class _Waiter(NamedTuple):
    """A task that waits in the queue until it may run."""

    size: int
    """Bytes that the task will hold."""
    booked: asyncio.Future[None]
    """Future that is resolved when a place is booked for the task, and cancelled with the task."""


class Admission:
    """A semaphore over a number of places and of bytes, for use on one event loop.

    A holder larger than the byte limit is admitted when there is no other holder.
    """

    def __init__(self, most: int, most_bytes: float = math.inf) -> None:
        """Allow ``most`` holders at a time (at least one) with at most ``most_bytes`` bytes in total."""
        self.most = max(most, 1)
        self.most_bytes = most_bytes
        self.held = 0
        """Current number of holders."""
        self.held_bytes = 0
        """Total bytes of the current holders."""
        self._waiters: deque[_Waiter] = deque()

    @property
    def waiting(self) -> int:
        """Number of tasks that wait for a place."""
        return len(self._waiters)

    def fits(self, size: int) -> bool:
        """Return whether a holder of ``size`` bytes fits within the limits now."""
        return self.held < self.most and (not self.held or self.held_bytes + size <= self.most_bytes)

    def try_take(self, size: int = 0) -> bool:
        """Take a place if one is free and no task waits; return whether the place was taken."""
        if self._waiters or not self.fits(size):
            return False
        self._book(size)
        return True

    async def take(self, size: int = 0) -> None:
        """Wait for a place of ``size`` bytes; places are given in the order of arrival."""
        if self.try_take(size):
            return
        waiter = _Waiter(size, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            await waiter.booked
        except asyncio.CancelledError:
            self._withdraw(waiter)
            raise

    def release(self, size: int = 0) -> None:
        """Release a place of ``size`` bytes and book the free capacity for the first waiters that fit."""
        self.held -= 1
        self.held_bytes -= size
        self._admit_waiters()

    def _book(self, size: int) -> None:
        """Count one more holder of ``size`` bytes."""
        self.held += 1
        self.held_bytes += size

    def _withdraw(self, waiter: _Waiter) -> None:
        """Remove a cancelled waiter; if a place was already booked for it, release that place."""
        if not waiter.booked.cancelled():
            self.release(waiter.size)
        elif waiter in self._waiters:
            self._waiters.remove(waiter)
            self._admit_waiters()  # the next waiter may be smaller and fit

    def _admit_waiters(self) -> None:
        """Book places for waiters in order, until the first one that does not fit."""
        while self._waiters and (self._waiters[0].booked.cancelled() or self.fits(self._waiters[0].size)):
            waiter = self._waiters.popleft()
            if not waiter.booked.cancelled():
                self._book(waiter.size)
                waiter.booked.set_result(None)
