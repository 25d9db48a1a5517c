"""One line that tells how a long run goes: rewritten on a terminal, now and then a new one where it is piped."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable, Sized
from itertools import repeat
from typing import TypeVar

Value = TypeVar("Value")
REFRESH_SECONDS = 0.2
PLAIN_SECONDS = 30.0
BAR_WIDTH = 20
_MINUTE = 60


def with_progress(
    values: Iterable[Value], total: int | None, *, before: int = 0, also_plain: bool = False
) -> Generator[Value]:
    """The values; on standard error, how many came, how fast, and how long the rest will take.

    Args:
        values: what is counted.
        total: how many there will be, with those of earlier runs.
        before: how many earlier runs did.
        also_plain: where it is no terminal, a plain line from time to time; otherwise nothing there.
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
    """As `with_progress`."""
    counted = with_progress(repeat(None), total)
    async for value in values:
        next(counted)
        yield value
    counted.close()


def progress_line(count: int, total: int | None, seconds: float, before: int = 0) -> str:
    """``[######..............] 1200 of 4000 images, 190 a second, 15 s left``"""
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
    """``40 s``, ``12 min``, ``3 h 5 min``"""
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / _MINUTE), _MINUTE)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def length_of(values: object) -> int | None:
    return len(values) if isinstance(values, Sized) else None
