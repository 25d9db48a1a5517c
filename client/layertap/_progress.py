"""Show the progress of a long run: one line, rewritten on a terminal, or a new line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable, Sized
from itertools import repeat
from typing import TypeVar

Value = TypeVar("Value")
REFRESH_SECONDS = 0.2
"""Time between updates on a terminal, in seconds."""
PLAIN_SECONDS = 30.0
"""Time between lines where standard error is not a terminal, in seconds."""
BAR_WIDTH = 20
"""Width of the bar, in characters."""
_MINUTE = 60
"""Seconds of a minute, and minutes of an hour."""


def with_progress(
    values: Iterable[Value], total: int | None, *, before: int = 0, also_plain: bool = False
) -> Generator[Value]:
    """Yield the values unchanged and report the count, speed and remaining time on standard error.

    Args:
        values: the values to count.
        total: the number of values including those of earlier runs, if known.
        before: the number of values that earlier runs completed.
        also_plain: whether to write a plain line from time to time if standard error is not a terminal; otherwise
            nothing is written there.
    """
    on_terminal = sys.stderr.isatty()
    if not on_terminal and not also_plain:
        yield from values
        return
    form, pause = ("\r{}\x1b[K", REFRESH_SECONDS) if on_terminal else ("{}\n", PLAIN_SECONDS)
    began = shown = time.monotonic()
    count = 0
    try:
        for value in values:
            count += 1
            now = time.monotonic()
            if now - shown >= pause:
                shown = now
                sys.stderr.write(form.format(progress_line(count, total, now - began, before)))
                sys.stderr.flush()
            yield value
    finally:
        if on_terminal:
            sys.stderr.write(form.format(progress_line(count, total, time.monotonic() - began, before)) + "\n")


async def with_async_progress(values: AsyncIterable[Value], total: int | None) -> AsyncGenerator[Value]:
    """Yield the values of an asynchronous iterable and report progress as `with_progress` does."""
    counted = with_progress(repeat(None), total)
    async for value in values:
        next(counted)
        yield value
    counted.close()


def progress_line(count: int, total: int | None, seconds: float, before: int = 0) -> str:
    """Return a line such as ``[######..............] 1200 of 4000 images, 190 a second, 15 s left``."""
    rate = count / seconds if seconds > 0 else 0.0
    done = before + count
    speed = f"{rate:.0f} a second" if rate >= 1 or not count else f"{seconds / count:.1f} s each"
    if not total:
        return f"{done} images, {speed}"
    filled = min(BAR_WIDTH * done // total, BAR_WIDTH)
    bar = "#" * filled + "." * (BAR_WIDTH - filled)
    left = f", {duration((total - done) / rate)} left" if rate and done < total else ""
    return f"[{bar}] {done} of {total} images, {speed}{left}"


def duration(seconds: float) -> str:
    """Return a duration as text, such as ``40 s``, ``12 min`` or ``3 h 5 min``."""
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / _MINUTE), _MINUTE)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def length_of(values: object) -> int | None:
    """Return the length of ``values``, or None if they have no length."""
    return len(values) if isinstance(values, Sized) else None
