"""Test the choice of delivery, with responses given by the test instead of a server."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from layertap import Features, _calls
from layertap._delivery import LARGE_BYTES, Delivery
from layertap._shared_memory import Region, RegionPool, new_region
from layertap.errors import (
    BadRegionError,
    DeadlineError,
    LayertapError,
    OverloadedError,
    SharedMemoryDisabledError,
    UnavailableError,
)
from layertap.types import EncodedImage, ExtractRequest, FeatureMap
from layertap.v1.shared_memory_service_pb2 import UnregisterRegionRequest

REQUEST = ExtractRequest("model", (EncodedImage(b"cat"),), ("stem",))
SMALL = Features((FeatureMap("stem", np.zeros((1, 8), np.uint8), "stem"),))
LARGE = Features((FeatureMap("stem", np.zeros((1, LARGE_BYTES + 1), np.uint8), "stem"),))


def play(delivery: Delivery, *answers: object) -> tuple[list[str], Features | LayertapError]:
    """Run a delivery with the given responses or errors; return the names of its calls, and its result or error."""
    calls, asked = delivery.extract(REQUEST), []
    try:
        call = next(calls)
        for answer in answers:
            asked.append(call.method.rpartition("/")[2] if isinstance(call, _calls.Call) else "chunks")
            if isinstance(answer, BaseException):
                answer.with_traceback(None)  # the traceback's frames would keep arrays alive
            call = calls.throw(answer) if isinstance(answer, BaseException) else calls.send(answer)
    except StopIteration as end:
        features: Features = end.value
        return asked, features
    except LayertapError as error:
        return asked, error.with_traceback(None)
    raise AssertionError(f"it asks for more: {call}")


def test_a_small_answer_is_inline_again_and_again() -> None:
    """Check that small results are always delivered inline."""
    delivery = Delivery(shares_memory=False)
    for _ in range(3):
        assert play(delivery, SMALL) == (["Extract"], SMALL)


def test_a_large_one_is_inline_once_and_then_in_chunks() -> None:
    """Check that large results are delivered in chunks once their size is known."""
    delivery = Delivery(shares_memory=False)
    assert play(delivery, LARGE) == (["Extract"], LARGE)
    assert play(delivery, LARGE) == (["chunks"], LARGE)
    assert play(delivery, SMALL) == (["chunks"], SMALL)  # smaller than expected; the next delivery is inline
    assert play(delivery, SMALL) == (["Extract"], SMALL)


def test_a_server_that_goes_away_in_the_middle_is_asked_once_more() -> None:
    """Check that an interrupted delivery in chunks is repeated once."""
    delivery, gone = Delivery(shares_memory=False), UnavailableError("gone")
    play(delivery, LARGE)
    assert play(delivery, gone, LARGE) == (["chunks", "chunks"], LARGE)
    assert play(delivery, gone, gone) == (["chunks", "chunks"], gone)
    assert play(delivery, wrong := LayertapError("wrong")) == (["chunks"], wrong)


@pytest.mark.parametrize("refusal", [SharedMemoryDisabledError("no"), BadRegionError("no such file")])
def test_a_server_that_shares_nothing_is_asked_once(refusal: LayertapError) -> None:
    """Check that shared memory is requested only once if the server does not offer it."""
    delivery = Delivery(shares_memory=True)
    play(delivery, LARGE)
    assert play(delivery, refusal, LARGE) == (["RegisterRegion", "chunks"], LARGE)
    assert play(delivery, LARGE) == (["chunks"], LARGE)


def test_one_that_is_busy_is_asked_again() -> None:
    """Check that shared memory is requested again after a temporary error."""
    delivery = Delivery(shares_memory=True)
    play(delivery, LARGE)
    assert play(delivery, OverloadedError("busy"), LARGE) == (["RegisterRegion", "chunks"], LARGE)
    assert play(delivery, "region", LARGE)[0] == ["RegisterRegion", "Extract"]


def test_a_server_that_was_started_anew_is_told_of_another_region() -> None:
    """Check that a new region is registered after a restart of the server."""
    delivery = Delivery(shares_memory=True)
    play(delivery, LARGE)
    forgotten = BadRegionError("started anew")
    assert play(delivery, "one", forgotten, LARGE) == (["RegisterRegion", "Extract", "chunks"], LARGE)
    forgotten.with_traceback(None)
    assert play(delivery, None, "two", LARGE)[0] == ["UnregisterRegion", "RegisterRegion", "Extract"]


def test_a_region_serves_again_once_its_arrays_are_gone() -> None:
    """Check that a region is reused after its arrays are deleted."""
    delivery = Delivery(shares_memory=True)
    play(delivery, LARGE)
    assert play(delivery, "region", LARGE)[0] == ["RegisterRegion", "Extract"]
    assert play(delivery, LARGE)[0] == ["Extract"]
    assert [_region_of(call) for call in delivery.close()] == ["region"]


@pytest.mark.parametrize("error", [DeadlineError("late"), UnavailableError("gone"), KeyboardInterrupt()])
def test_a_region_whose_answer_did_not_come_serves_nobody_else(error: BaseException) -> None:
    """Check that such a region is not reused, since the server may still write into it."""
    delivery = Delivery(shares_memory=True)
    play(delivery, LARGE)
    with contextlib.suppress(KeyboardInterrupt):
        play(delivery, "late", error)
    error.with_traceback(None)
    assert play(delivery, None, "new", LARGE)[0] == ["UnregisterRegion", "RegisterRegion", "Extract"]


def test_what_arrays_still_look_at_is_the_server_s_no_more_when_the_client_closes() -> None:
    """Check that closing releases lent regions on the server while their arrays stay valid."""
    pool = RegionPool()
    with new_region(64) as (_, memory):
        region = Region("lent", memory)
    array = pool.lend(region)
    array[:] = 7
    assert pool.close() == ["lent"]
    assert (array == 7).all()
    del array
    assert pool.take_released() == []


def _region_of(call: _calls.Call[None]) -> str:
    """Return the region that a call releases."""
    return str(UnregisterRegionRequest.FromString(call.request).region)
