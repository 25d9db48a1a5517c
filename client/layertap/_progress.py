"""One line on a terminal that tells how a long run goes."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterable, AsyncIterator, Generator, Iterable, Sized
from itertools import repeat
from typing import TypeVar

Value = TypeVar("Value")
REFRESH_SECONDS = 0.2


def with_progress(values: Iterable[Value], total: int | None) -> Generator[Value]:
    """The values; on a terminal, how many came, how fast, and how long the rest will take."""
    if not sys.stderr.isatty():
        yield from values
        return
    began = shown = time.monotonic()
    count = 0
    for value in values:
        count += 1
        now = time.monotonic()
        if now - shown >= REFRESH_SECONDS:
            shown = now
            sys.stderr.write(f"\r{progress_line(count, total, now - began)}\x1b[K")
            sys.stderr.flush()
        yield value
    sys.stderr.write(f"\r{progress_line(count, total, time.monotonic() - began)}\x1b[K\n")


async def with_async_progress(values: AsyncIterable[Value], total: int | None) -> AsyncIterator[Value]:
    """As `with_progress`."""
    counted = with_progress(repeat(None), total)
    async for value in values:
        next(counted)
        yield value
    counted.close()


def progress_line(count: int, total: int | None, seconds: float) -> str:
    """``1200 of 2000 images, 190 a second, 4 s left``"""
    rate = count / seconds if seconds > 0 else 0.0
    line = f"{count} images" if total is None else f"{count} of {total} images"
    left = f", {(total - count) / rate:.0f} s left" if total and rate and count < total else ""
    return f"{line}, {rate:.0f} a second{left}"


def length_of(values: object) -> int | None:
    return len(values) if isinstance(values, Sized) else None
