"""Test the reader of a stream's responses with a fake stream."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from layertap._response_reader import AHEAD, ResponseReader
from tests.processes import until


class Stream:
    """A stream that counts how many of its messages were read."""

    def __init__(self, messages: int, error: Exception | None = None) -> None:
        """Create a stream of numbered messages that ends normally or with an error."""
        self.taken = 0
        self.is_cancelled = threading.Event()
        self._messages = self._made(messages, error)

    def _made(self, messages: int, error: Exception | None) -> Iterator[bytes]:
        """Yield the messages."""
        for number in range(messages):
            self.taken += 1
            yield str(number).encode()
        if error:
            raise error

    def __next__(self) -> bytes:
        """Return the next message."""
        if self.is_cancelled.is_set():
            raise ConnectionError("cancelled")
        return next(self._messages)

    def cancel(self) -> None:
        """Make the next read fail."""
        self.is_cancelled.set()


def test_all_of_them_in_order() -> None:
    """Check that all messages are returned in order."""
    assert list(ResponseReader(Stream(100))) == [str(number).encode() for number in range(100)]


def test_nothing_is_taken_far_ahead() -> None:
    """Check that at most `AHEAD` messages are read ahead."""
    stream = Stream(100)
    answers = ResponseReader(stream)
    for number in range(20):
        until(lambda number=number: stream.taken == number + AHEAD)  # type: ignore[misc]
        next(answers)
    answers.cancel()


def test_what_ends_it_is_told_to_whoever_asks_again() -> None:
    """Check that the stream's error is raised on every further call."""
    answers = ResponseReader(Stream(1, ConnectionError("gone")))
    assert next(answers) == b"0"
    for _ in range(3):
        with pytest.raises(ConnectionError, match="gone"):
            next(answers)


def test_one_that_is_cancelled_ends_though_nobody_reads_on() -> None:
    """Check that a cancelled reader's thread ends."""
    before = set(threading.enumerate())
    answers = ResponseReader(Stream(100))
    (mine,) = (thread for thread in set(threading.enumerate()) - before if thread.name == "layertap-answers")
    answers.cancel()
    mine.join(10)
    assert not mine.is_alive()
