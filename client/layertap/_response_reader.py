"""Read the responses of a stream on a thread of their own.

Ctrl-C raises `KeyboardInterrupt` in the main thread at any point. If it does so while gRPC waits for a message, gRPC
leaves a lock held, and the next thread that closes the channel waits for that lock forever. The main thread therefore
waits on a `queue.SimpleQueue`, which an exception cannot corrupt.

When a program ends, Python stops daemon threads at any point, possibly while they hold the same lock. gRPC's call
object acquires the lock once more when the interpreter destroys it, and would wait forever. The reader therefore drops
the call object as soon as the stream ends, and an exit handler ends all open streams.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any, Self

import grpc

from layertap._rpc_errors import error_of

AHEAD = 4
"""Number of messages, of at most 1 MiB each, read before the caller asks for them; the server holds back the rest."""
LAST_SECONDS = 1.0
"""Maximum time, in seconds, that a program waits for each of its streams when it ends."""


class ResponseReader(Iterator[bytes]):
    """An iterator over the messages of a stream.

    Raises:
        LayertapError: the stream breaks.
    """

    def __init__(self, stream: Any, address: str = "the server") -> None:
        """Start reading a stream.

        Args:
            stream: gRPC's call object; the caller must not keep a reference to it.
            address: the server's address, for error messages.
        """
        self._address = address
        self._stream: Any = stream
        self._arrived: SimpleQueue[bytes | Exception] = SimpleQueue()
        self._room: SimpleQueue[None] = SimpleQueue()
        for _ in range(AHEAD):
            self._room.put(None)
        self._thread = threading.Thread(target=self._take, name="layertap-answers", daemon=True)
        _open.add(self)
        self._thread.start()

    def __iter__(self) -> Self:
        """Return the iterator itself."""
        return self

    def __next__(self) -> bytes:
        """Return the next message; raise `StopIteration` or the stream's error at its end."""
        message = self._arrived.get()
        if isinstance(message, bytes):
            self._room.put(None)
            return message
        self._arrived.put(message)  # keep the end in the queue for further calls
        raise message

    def cancel(self) -> None:
        """Cancel the stream if it is still open."""
        if stream := self._stream:
            stream.cancel()
        self._room.put(None)  # wakes the reading thread, which then finds the stream ended

    def wait(self, seconds: float) -> None:
        """Wait up to ``seconds`` for the stream to end."""
        self._thread.join(seconds)

    def _take(self) -> None:
        """Read messages into the queue, at most `AHEAD` of them, until the stream ends."""
        try:
            while True:
                self._room.get()
                self._arrived.put(next(self._stream))
        except StopIteration:
            end: Exception = StopIteration()  # a new exception: the caught one refers to the stream
        except grpc.RpcError as error:  # this error is the call object itself
            end = error_of(error, self._address)
            error.__traceback__ = None
        except Exception as error:  # noqa: BLE001 - raised again by __next__
            end = error.with_traceback(None)
        self._stream = None
        self._arrived.put(end)
        _open.discard(self)


_open: set[ResponseReader] = set()
"""Readers whose streams are still open."""


@atexit.register
def _end_all() -> None:
    """End all open streams when the program ends."""
    streams = tuple(_open)
    for reader in streams:
        reader.cancel()
    for reader in streams:
        reader.wait(LAST_SECONDS)
