"""A stream's answers, which a thread of their own takes from gRPC.

Ctrl-C raises in the main thread, wherever that is. In the middle of gRPC's waiting it leaves a lock taken, and whoever
closes the channel afterwards waits for it forever. So the main thread waits at a `SimpleQueue`, which stays whole.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any, Self

AHEAD = 4
"""Messages, of at most 1 MiB, that are taken before they are asked for; the rest waits at the server."""


class Answers(Iterator[bytes]):
    """The messages, one by one; raises what gRPC raises where the stream breaks."""

    def __init__(self, stream: Any) -> None:
        """``stream`` is the call as gRPC gives it; nobody else reads it."""
        self._stream = stream
        self._arrived: SimpleQueue[bytes | Exception] = SimpleQueue()
        self._room: SimpleQueue[None] = SimpleQueue()
        for _ in range(AHEAD):
            self._room.put(None)
        threading.Thread(target=self._take, name="layertap-answers", daemon=True).start()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        message = self._arrived.get()
        if isinstance(message, bytes):
            self._room.put(None)
            return message
        self._arrived.put(message)  # the end stays there for whoever asks again
        raise message

    def cancel(self) -> None:
        """Ends the stream, if it has not ended."""
        self._stream.cancel()
        self._room.put(None)  # whoever waits for it finds the stream ended

    def _take(self) -> None:
        try:
            while True:
                self._room.get()
                self._arrived.put(next(self._stream))
        except Exception as end:  # noqa: BLE001 - raised where the messages are read; StopIteration is the good end
            self._arrived.put(end)
