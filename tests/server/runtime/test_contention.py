"""Tests of when contention opens a single-threaded replica."""

from __future__ import annotations

from typing import cast

from layertap_server.runtime import Contention
from layertap_server.runtime.contention import RUNS_BEFORE_A_COPY, SingleThreadedReplica
from layertap_server.runtime.replica import Replica


class Room:
    """A memory budget that either has room for one more replica of a session or has none."""

    def __init__(self, *, is_free: bool = True) -> None:
        self._is_free = is_free

    def has_room(self) -> bool:
        return self._is_free


def copy_in(contention: Contention, *, has_room: bool = True) -> SingleThreadedReplica:
    return SingleThreadedReplica(contention, lambda: cast("Replica", object()), Room(is_free=has_room))


def test_it_takes_a_crowd_and_some_runs() -> None:
    contention = Contention(2)
    copy = copy_in(contention)
    with contention.request():
        assert not any(copy.get() for _ in range(3 * RUNS_BEFORE_A_COPY))
        with contention.request():
            assert not any(copy.get() for _ in range(RUNS_BEFORE_A_COPY - 1))
            opened = copy.get()
            assert opened is not None
            assert copy.get() is opened
        assert copy.is_open
        assert copy.get() is None, "alone, a run takes all cores"


def test_without_room_there_is_none() -> None:
    contention = Contention(1)
    copy = copy_in(contention, has_room=False)
    with contention.request():
        assert not any(copy.get() for _ in range(3 * RUNS_BEFORE_A_COPY))


def test_one_that_cannot_be_opened_fails_no_request() -> None:
    def fail() -> Replica:
        raise OSError("the weights are gone")

    contention = Contention(1)
    copy = SingleThreadedReplica(contention, fail, Room())
    with contention.request():
        assert not any(copy.get() for _ in range(3 * RUNS_BEFORE_A_COPY))


def test_one_that_was_dropped_may_come_back() -> None:
    contention = Contention(1)
    copy = copy_in(contention)
    with contention.request():
        assert [copy.get() for _ in range(RUNS_BEFORE_A_COPY)][-1] is not None
        copy.drop()
        assert not copy.is_open
        assert [copy.get() for _ in range(RUNS_BEFORE_A_COPY)][-1] is not None


def test_a_crowd_of_0_never_comes() -> None:
    contention = Contention()
    with contention.request(), contention.request():
        assert not contention.is_active
