"""An event loop that may run what is ready in any order, and fails where everything sleeps."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis import strategies as st

MOST_STEPS = 20_000


class AnyOrderLoop(asyncio.BaseEventLoop):
    """Run one ready callback at a time, chosen by ``choose`` from their number.

    It has no clock and no files: where nothing is ready before the main task is done, that task sleeps for ever.
    """

    def __init__(self, choose: Callable[[int], int], after_each: Callable[[], None]) -> None:
        super().__init__()
        self._choose = choose
        self._after_each = after_each
        self._steps = 0

    def _run_once(self) -> None:
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
        """Nothing has to be woken: there is one thread."""

    def _process_events(self, _events: object) -> None:
        """There are none."""


ORDERS = st.tuples(st.lists(st.integers(0, 20), max_size=60), st.integers(0, 2**32))
"""The first choices, which hypothesis can simplify one by one, and the seed of all later ones."""


def play(order: tuple[list[int], int], main: Coroutine[Any, Any, None], after_each: Callable[[], None]) -> None:
    """Run the coroutine to its end in the order that was drawn; ``after_each`` checks each state on the way."""
    choices, later = iter(order[0]), random.Random(order[1])
    loop = AnyOrderLoop(lambda count: next(choices, later.randrange(count)) % count, after_each)
    try:
        loop.run_until_complete(main)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(_ended(left))
        loop.close()


async def _ended(tasks: set[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
