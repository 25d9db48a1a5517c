"""A stream's answers, which a thread of their own takes from gRPC.

Ctrl-C raises in the main thread, wherever that is. In the middle of gRPC's waiting it leaves a lock taken, and whoever
closes the channel afterwards waits for it forever. So the main thread waits at a `SimpleQueue`, which stays whole.

A program that ends stops such threads wherever they are, also where they hold that lock; gRPC's object for the call
takes it once more when Python clears that away at its very end, and never gets it. So the object is given up as soon as
the stream has ended, and a program that ends, after Ctrl-C say, first ends its streams.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any, Self

import grpc

from layertap._calls import error_of

AHEAD = 4
"""Messages, of at most 1 MiB, that are taken before they are asked for; the rest waits at the server."""
LAST_SECONDS = 1.0
"""How long a program that ends waits for its streams."""


class Answers(Iterator[bytes]):
    """The messages, one by one.

    Raises:
        LayertapError: the stream breaks.
    """

    def __init__(self, stream: Any, address: str = "the server") -> None:
        """``stream`` is the call to ``address`` as gRPC gives it; nobody else keeps it."""
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
        if stream := self._stream:
            stream.cancel()
        self._room.put(None)  # whoever waits for it finds the stream ended

    def wait(self, seconds: float) -> None:
        """Until it has ended, at most so long."""
        self._thread.join(seconds)

    def _take(self) -> None:
        try:
            while True:
                self._room.get()
                self._arrived.put(next(self._stream))
        except StopIteration:
            end: Exception = StopIteration()  # a new one: where an exception was raised it knows the stream
        except grpc.RpcError as error:  # the stream itself
            end = error_of(error, self._address)
            error.__traceback__ = None
        except Exception as error:  # noqa: BLE001 - raised where the messages are read
            end = error.with_traceback(None)
        self._stream = None
        self._arrived.put(end)
        _open.discard(self)


_open: set[Answers] = set()
"""Those of streams that have not ended."""


@atexit.register
def _end_all() -> None:
    streams = tuple(_open)
    for answers in streams:
        answers.cancel()
    for answers in streams:
        answers.wait(LAST_SECONDS)
