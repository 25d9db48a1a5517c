"""Check that the system can start a session's threads before onnxruntime starts them.

onnxruntime 1.31 deadlocks if the system starts some of a session's threads and refuses another: its destructor waits
for threads that were never started. Therefore the same number of threads is started and ended first.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from layertap_server.runtime.shortage import Resource, out_of

SPARE = 8
"""Number of threads that must remain available for other requests, in addition to those of the session."""
GONE_SECONDS = 1.0
"""Maximum seconds to wait until the system no longer counts the ended threads."""


class ThreadReserve:
    """Number of threads reserved for sessions that are being opened."""

    def __init__(self) -> None:
        """Reserve nothing yet."""
        self._lock = threading.Lock()
        self._reserved = 0

    @contextlib.contextmanager
    def hold(self, count: int) -> Iterator[None]:
        """Reserve ``count`` threads for as long as the context lasts.

        Raises:
            OutOfResourcesError: the system refuses to start that many threads.
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
    """Start ``count`` threads that run at the same time, and end them.

    Raises:
        OutOfResourcesError: the system refuses to start one of them.
    """
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
    """Wait until the system no longer counts the threads, which is shortly after Python has joined them."""
    latest = time.monotonic() + GONE_SECONDS
    for thread in threads:
        thread.join()
        while Path(f"/proc/self/task/{thread.native_id}").exists() and time.monotonic() < latest:
            time.sleep(0.0001)
