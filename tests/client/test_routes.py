"""The way an answer travels, step by step, with the answers put in by hand."""

from __future__ import annotations

import numpy as np
import pytest

from layertap import _calls
from layertap._routes import LARGE_BYTES, Routes
from layertap.errors import BadRegionError, LayertapError, SharedMemoryDisabledError, UnavailableError
from layertap.types import EncodedImage, ExtractRequest, FeatureMap, Features

REQUEST = ExtractRequest("model", (EncodedImage(b"cat"),), ("stem",))
SMALL = Features((FeatureMap("stem", np.zeros((1, 8), np.uint8), "stem"),))
LARGE = Features((FeatureMap("stem", np.zeros((1, LARGE_BYTES + 1), np.uint8), "stem"),))


def play(routes: Routes, *answers: object) -> tuple[list[str], Features | LayertapError]:
    """What a route asks for when it gets these answers, by method, and what comes out."""
    steps, asked = routes.extract(REQUEST), []
    try:
        step = next(steps)
        for answer in answers:
            asked.append(step.method.rpartition("/")[2] if isinstance(step, _calls.Call) else "chunks")
            step = steps.throw(answer) if isinstance(answer, BaseException) else steps.send(answer)
    except StopIteration as end:
        features: Features = end.value
        return asked, features
    except LayertapError as error:
        return asked, error
    raise AssertionError(f"it asks for more: {step}")


def test_a_small_answer_is_inline_again_and_again() -> None:
    routes = Routes(None)
    for _ in range(3):
        assert play(routes, SMALL) == (["Extract"], SMALL)


def test_a_large_one_is_inline_once_and_then_in_chunks() -> None:
    routes = Routes(None)
    assert play(routes, LARGE) == (["Extract"], LARGE)
    assert play(routes, LARGE) == (["chunks"], LARGE)
    assert play(routes, SMALL) == (["chunks"], SMALL)  # it has shrunk, which the next one knows
    assert play(routes, SMALL) == (["Extract"], SMALL)


def test_a_server_that_goes_away_in_the_middle_is_asked_once_more() -> None:
    routes, gone = Routes(None), UnavailableError("gone")
    play(routes, LARGE)
    assert play(routes, gone, LARGE) == (["chunks", "chunks"], LARGE)
    assert play(routes, gone, gone) == (["chunks", "chunks"], gone)
    assert play(routes, wrong := LayertapError("wrong")) == (["chunks"], wrong)


@pytest.mark.parametrize("refusal", [SharedMemoryDisabledError("no"), UnavailableError("no")])
def test_a_server_that_shares_nothing_is_asked_once(refusal: LayertapError) -> None:
    routes = Routes(lambda _: None)
    play(routes, LARGE)
    assert play(routes, refusal, LARGE) == (["RegisterRegion", "chunks"], LARGE)
    assert play(routes, LARGE) == (["chunks"], LARGE)


def test_a_region_that_the_server_has_forgotten_is_given_up() -> None:
    routes = Routes(lambda _: None)
    play(routes, LARGE)
    forgotten = BadRegionError("started anew")
    assert play(routes, "region", forgotten, LARGE) == (["RegisterRegion", "Extract", "chunks"], LARGE)
    assert play(routes, LARGE) == (["chunks"], LARGE)


def test_a_region_serves_again_once_its_arrays_are_gone() -> None:
    dropped: list[str] = []
    routes = Routes(dropped.append)
    play(routes, LARGE)
    assert play(routes, "region", LARGE)[0] == ["RegisterRegion", "Extract"]
    assert play(routes, LARGE)[0] == ["Extract"]
    routes.close()
    assert dropped == ["region"]
