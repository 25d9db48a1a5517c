"""When a model is opened a second time, for runs of one thread."""

from __future__ import annotations

from typing import cast

from layertap_server.runtime import Crowd
from layertap_server.runtime.crowd import RUNS_BEFORE_A_COPY, CrowdCopy
from layertap_server.runtime.replica import Replica


def copy_in(crowd: Crowd, *, has_room: bool = True) -> CrowdCopy:
    return CrowdCopy(crowd, lambda: cast("Replica", object()), lambda: has_room)


def test_it_takes_a_crowd_and_some_runs() -> None:
    crowd = Crowd(2)
    copy = copy_in(crowd)
    with crowd.request():
        assert not any(copy.wanted() for _ in range(3 * RUNS_BEFORE_A_COPY))
        with crowd.request():
            assert not any(copy.wanted() for _ in range(RUNS_BEFORE_A_COPY - 1))
            opened = copy.wanted()
            assert opened is not None
            assert copy.wanted() is opened
        assert copy.is_open
        assert copy.wanted() is None, "alone, a run takes all cores"


def test_without_room_there_is_none() -> None:
    crowd = Crowd(1)
    copy = copy_in(crowd, has_room=False)
    with crowd.request():
        assert not any(copy.wanted() for _ in range(3 * RUNS_BEFORE_A_COPY))


def test_one_that_cannot_be_opened_fails_no_request() -> None:
    def fail() -> Replica:
        raise OSError("the weights are gone")

    crowd = Crowd(1)
    copy = CrowdCopy(crowd, fail, lambda: True)
    with crowd.request():
        assert not any(copy.wanted() for _ in range(3 * RUNS_BEFORE_A_COPY))


def test_one_that_was_dropped_may_come_back() -> None:
    crowd = Crowd(1)
    copy = copy_in(crowd)
    with crowd.request():
        assert [copy.wanted() for _ in range(RUNS_BEFORE_A_COPY)][-1] is not None
        copy.drop()
        assert not copy.is_open
        assert [copy.wanted() for _ in range(RUNS_BEFORE_A_COPY)][-1] is not None


def test_a_crowd_of_0_never_comes() -> None:
    crowd = Crowd()
    with crowd.request(), crowd.request():
        assert not crowd.is_here
