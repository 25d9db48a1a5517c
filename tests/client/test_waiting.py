"""Test waiting for a server."""

from __future__ import annotations

import pytest

from layertap import Client
from layertap._waiting import Wait
from layertap.errors import DeadlineError, UnauthenticatedError, UnavailableError


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_what_nobody_can_wait(seconds: float) -> None:
    """Check that invalid waiting times are rejected."""
    with pytest.raises(ValueError, match="from 0 on"):
        Client("localhost:1", wait_seconds=seconds)


def test_there_are_pauses_until_the_end() -> None:
    """Check the deadlines of attempts and the pauses between them."""
    wait = Wait(60)
    assert 0 < wait.attempt_seconds <= 60
    assert 0 < wait.pause_after(UnavailableError("refused")) < 60


def test_the_end_says_how_long_and_why() -> None:
    """Check the final error."""
    with pytest.raises(UnauthenticatedError, match="waited 0 seconds for a server that is ready: no token") as caught:
        Wait(0).pause_after(UnauthenticatedError("no token", method="x"))
    assert caught.value.metadata["method"] == "x"


def test_a_last_attempt_that_was_cut_off_does_not_hide_the_reason() -> None:
    """Check that the final error is the last one that explains the cause."""
    wait = Wait(60)
    wait.pause_after(UnavailableError("refused"))
    wait._end = 0
    with pytest.raises(UnavailableError, match="refused"):
        wait.pause_after(DeadlineError("too late"))
