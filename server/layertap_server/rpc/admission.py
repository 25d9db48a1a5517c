"""A first-come-first-served semaphore that counts holders and their bytes.

Whoever gives something back books it for the first waiter before that waiter runs again. So nothing can change between
the check and its use, and a waiter that is cancelled after it was booked hands its place on.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import NamedTuple


class _Waiter(NamedTuple):
    size: int
    booked: asyncio.Future[None]


class Admission:
    """Places for a number of holders; used on one event loop only.

    A holder that is larger than all the bytes is let in when it is alone.
    """

    def __init__(self, most: int, most_bytes: float = math.inf) -> None:
        """``most`` holders at a time, at least one, with at most ``most_bytes`` bytes between them."""
        self.most = max(most, 1)
        self.most_bytes = most_bytes
        self.held = 0
        """Number of holders."""
        self.held_bytes = 0
        """Bytes of all holders."""
        self._waiters: deque[_Waiter] = deque()

    @property
    def waiting(self) -> int:
        """Number of waiters."""
        return len(self._waiters)

    def fits(self, size: int) -> bool:
        """Return whether a holder of this many bytes fits beside the present ones."""
        return self.held < self.most and (not self.held or self.held_bytes + size <= self.most_bytes)

    def try_take(self, size: int = 0) -> bool:
        """Take a place if one is free and nobody waits for it; return whether it was taken."""
        if self._waiters or not self.fits(size):
            return False
        self._book(size)
        return True

    async def take(self, size: int = 0) -> None:
        """Wait for a place, in the order of arrival."""
        if self.try_take(size):
            return
        waiter = _Waiter(size, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            await waiter.booked
        except asyncio.CancelledError:
            self._withdraw(waiter)
            raise

    def give_back(self, size: int = 0) -> None:
        """Return a place and book it for the waiters that it has room for."""
        self.held -= 1
        self.held_bytes -= size
        self._admit_waiters()

    def _book(self, size: int) -> None:
        self.held += 1
        self.held_bytes += size

    def _withdraw(self, waiter: _Waiter) -> None:
        if not waiter.booked.cancelled():
            self.give_back(waiter.size)
        elif waiter in self._waiters:
            self._waiters.remove(waiter)
            self._admit_waiters()  # the next one may be smaller

    def _admit_waiters(self) -> None:
        while self._waiters and (self._waiters[0].booked.cancelled() or self.fits(self._waiters[0].size)):
            waiter = self._waiters.popleft()
            if not waiter.booked.cancelled():
                self._book(waiter.size)
                waiter.booked.set_result(None)
