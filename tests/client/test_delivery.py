"""The way an answer travels, step by step, with the answers put in by hand."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from layertap import _calls
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
from layertap.types import EncodedImage, ExtractRequest, FeatureMap, Features
from layertap.v1.shared_memory_service_pb2 import UnregisterRegionRequest

REQUEST = ExtractRequest("model", (EncodedImage(b"cat"),), ("stem",))
SMALL = Features((FeatureMap("stem", np.zeros((1, 8), np.uint8), "stem"),))
LARGE = Features((FeatureMap("stem", np.zeros((1, LARGE_BYTES + 1), np.uint8), "stem"),))


def play(routes: Delivery, *answers: object) -> tuple[list[str], Features | LayertapError]:
    """What a route asks for when it gets these answers, by method, and what comes out."""
    steps, asked = routes.extract(REQUEST), []
    try:
        step = next(steps)
        for answer in answers:
            asked.append(step.method.rpartition("/")[2] if isinstance(step, _calls.Call) else "chunks")
            if isinstance(answer, BaseException):
                answer.with_traceback(None)  # what it passed through before would keep arrays alive
            step = steps.throw(answer) if isinstance(answer, BaseException) else steps.send(answer)
    except StopIteration as end:
        features: Features = end.value
        return asked, features
    except LayertapError as error:
        return asked, error.with_traceback(None)
    raise AssertionError(f"it asks for more: {step}")


def test_a_small_answer_is_inline_again_and_again() -> None:
    routes = Delivery(shares_memory=False)
    for _ in range(3):
        assert play(routes, SMALL) == (["Extract"], SMALL)


def test_a_large_one_is_inline_once_and_then_in_chunks() -> None:
    routes = Delivery(shares_memory=False)
    assert play(routes, LARGE) == (["Extract"], LARGE)
    assert play(routes, LARGE) == (["chunks"], LARGE)
    assert play(routes, SMALL) == (["chunks"], SMALL)  # it has shrunk, which the next one knows
    assert play(routes, SMALL) == (["Extract"], SMALL)


def test_a_server_that_goes_away_in_the_middle_is_asked_once_more() -> None:
    routes, gone = Delivery(shares_memory=False), UnavailableError("gone")
    play(routes, LARGE)
    assert play(routes, gone, LARGE) == (["chunks", "chunks"], LARGE)
    assert play(routes, gone, gone) == (["chunks", "chunks"], gone)
    assert play(routes, wrong := LayertapError("wrong")) == (["chunks"], wrong)


@pytest.mark.parametrize("refusal", [SharedMemoryDisabledError("no"), BadRegionError("no such file")])
def test_a_server_that_shares_nothing_is_asked_once(refusal: LayertapError) -> None:
    routes = Delivery(shares_memory=True)
    play(routes, LARGE)
    assert play(routes, refusal, LARGE) == (["RegisterRegion", "chunks"], LARGE)
    assert play(routes, LARGE) == (["chunks"], LARGE)


def test_one_that_is_busy_is_asked_again() -> None:
    routes = Delivery(shares_memory=True)
    play(routes, LARGE)
    assert play(routes, OverloadedError("busy"), LARGE) == (["RegisterRegion", "chunks"], LARGE)
    assert play(routes, "region", LARGE)[0] == ["RegisterRegion", "Extract"]


def test_a_server_that_was_started_anew_is_told_of_another_region() -> None:
    routes = Delivery(shares_memory=True)
    play(routes, LARGE)
    forgotten = BadRegionError("started anew")
    assert play(routes, "one", forgotten, LARGE) == (["RegisterRegion", "Extract", "chunks"], LARGE)
    forgotten.with_traceback(None)
    assert play(routes, None, "two", LARGE)[0] == ["UnregisterRegion", "RegisterRegion", "Extract"]


def test_a_region_serves_again_once_its_arrays_are_gone() -> None:
    routes = Delivery(shares_memory=True)
    play(routes, LARGE)
    assert play(routes, "region", LARGE)[0] == ["RegisterRegion", "Extract"]
    assert play(routes, LARGE)[0] == ["Extract"]
    assert [_region_of(call) for call in routes.close()] == ["region"]


@pytest.mark.parametrize("error", [DeadlineError("late"), UnavailableError("gone"), KeyboardInterrupt()])
def test_a_region_whose_answer_did_not_come_serves_nobody_else(error: BaseException) -> None:
    """The server may still be about to write into it."""
    routes = Delivery(shares_memory=True)
    play(routes, LARGE)
    with contextlib.suppress(KeyboardInterrupt):
        play(routes, "late", error)
    error.with_traceback(None)
    assert play(routes, None, "new", LARGE)[0] == ["UnregisterRegion", "RegisterRegion", "Extract"]


def test_what_arrays_still_look_at_is_the_server_s_no_more_when_the_client_closes() -> None:
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
    return str(UnregisterRegionRequest.FromString(call.request).region)
