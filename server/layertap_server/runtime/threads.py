"""Makes sure that the system will start a session's threads, before onnxruntime starts them.

onnxruntime 1.31 waits for ever where the system refuses one of a session's threads and has started another: its
destructor waits for threads that never were. So the threads are tried first.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from layertap_server.runtime.shortage import Resource, out_of

SPARE = 8
"""Threads that must be left beside those of the session, for what other requests start meanwhile."""
GONE_SECONDS = 1.0
"""Longest wait for the system to forget the threads that were tried."""


class ThreadReserve:
    """Threads that sessions which are being opened will start."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reserved = 0

    @contextlib.contextmanager
    def holding(self, count: int) -> Iterator[None]:
        """Reserve this number of threads for as long as the context lasts.

        Raises:
            OutOfResourcesError: the system does not start so many.
        """
        if count <= 0:
            yield
            return
        with self._lock:
            _try(count + self._reserved + SPARE)
            self._reserved += count
        try:
            yield
        finally:
            with self._lock:
                self._reserved -= count


def _try(count: int) -> None:
    """Start this number of threads at once and end them."""
    end = threading.Event()
    threads: list[threading.Thread] = []
    try:
        for _ in range(count):
            thread = threading.Thread(target=end.wait, name="trial", daemon=True)
            thread.start()
            threads.append(thread)
    except (RuntimeError, MemoryError) as error:
        raise out_of(Resource.THREADS) from error
    finally:
        end.set()
        _wait_until_gone(threads)


def _wait_until_gone(threads: list[threading.Thread]) -> None:
    """Wait until the system counts the threads no more, which is a little after they have ended for Python."""
    latest = time.monotonic() + GONE_SECONDS
    for thread in threads:
        thread.join()
        while Path(f"/proc/self/task/{thread.native_id}").exists() and time.monotonic() < latest:
            time.sleep(0.0001)
