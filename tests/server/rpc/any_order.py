"""An event loop for tests that runs ready callbacks in any order and fails if all tasks sleep."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis import strategies as st

MOST_STEPS = 20_000
"""Number of callbacks after which a test fails because its main task does not end."""


class AnyOrderLoop(asyncio.BaseEventLoop):
    """Event loop that runs one ready callback at a time, in an order chosen by a function.

    The loop has no timers and no files. If no callback is ready before the main task has ended, the main task would
    sleep for ever, and the loop fails.
    """

    def __init__(self, choose: Callable[[int], int], after_each: Callable[[], None]) -> None:
        """Create the loop.

        Args:
            choose: function that returns the index of the next callback, given the number of ready callbacks.
            after_each: function called after each callback.
        """
        super().__init__()
        self._choose = choose
        self._after_each = after_each
        self._steps = 0

    def _run_once(self) -> None:
        """Run one of the ready callbacks."""
        ready: Any = vars(self)["_ready"]
        self._steps += 1
        assert ready, "every task sleeps"
        assert self._steps < MOST_STEPS, "the main task does not end"
        index = self._choose(len(ready)) if len(ready) > 1 else 0
        ready.rotate(-index)
        handle = ready.popleft()
        ready.rotate(index)
        if not handle.cancelled():
            handle._run()
        self._after_each()

    def _write_to_self(self) -> None:
        """Do nothing: with a single thread the loop never needs to be woken."""

    def _process_events(self, _events: object) -> None:
        """Do nothing: the loop watches no files."""


ORDERS = st.tuples(st.lists(st.integers(0, 20), max_size=60), st.integers(0, 2**32))
"""Orders of callbacks: the first choices, which hypothesis can simplify one by one, and a seed for the later ones."""


def play(order: tuple[list[int], int], main: Coroutine[Any, Any, None], after_each: Callable[[], None]) -> None:
    """Run a coroutine to its end with callbacks in the drawn order; ``after_each`` is called after each callback."""
    choices, later = iter(order[0]), random.Random(order[1])
    loop = AnyOrderLoop(lambda count: next(choices, later.randrange(count)) % count, after_each)
    try:
        loop.run_until_complete(main)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(_await_all(left))
        loop.close()


async def _await_all(tasks: set[asyncio.Task[Any]]) -> None:
    """Wait until all tasks have ended, and ignore their errors."""
    await asyncio.gather(*tasks, return_exceptions=True)
