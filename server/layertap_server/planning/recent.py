"""Cache of a fixed number of recent values."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

LONGEST_KEY = 16_384
"""Maximum characters of a cached key; with the number of values, it bounds the memory of the cache."""

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """Cache that evicts the oldest value first; safe to use from any number of threads."""

    def __init__(self, limit: int) -> None:
        """Create an empty cache of at most ``limit`` values."""
        self._limit = limit
        self._lock = threading.Lock()
        self._values: dict[str, Value] = {}

    def get(self, key: str) -> Value | None:
        """Return the value of a key; None if there is none."""
        return self._values.get(key)

    def put(self, key: str, value: Value) -> Value:
        """Cache a value, unless its key is very long, and return it."""
        if len(key) <= LONGEST_KEY:
            with self._lock:
                while len(self._values) >= self._limit:
                    del self._values[next(iter(self._values))]
                self._values[key] = value
        return value
