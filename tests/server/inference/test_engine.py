"""Tests of the engine on a small model: the stages in order, with their refusals, and without a server."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from layertap.errors import (
    CancelledError,
    InvalidRequestError,
    ResponseTooLargeError,
    TooExpensiveError,
    UnknownLayerError,
)
from layertap.types import ExtractRequest, InspectRequest, PixelImage, PreviewRequest
from layertap_server.inference.engine import Engine
from layertap_server.models.loader import LoadedModel
from layertap_server.request.context import RequestContext
from layertap_server.request.limits import Limits

IMAGES = tuple(PixelImage(np.full((8, 8, 3), value, np.uint8)) for value in (10, 20, 30, 40, 50))


def request(*taps: str, images: tuple[PixelImage, ...] = IMAGES) -> ExtractRequest:
    return ExtractRequest("branching", images, taps)


def test_results_are_named_and_equal_to_those_of_each_image_alone(engine: Engine, model: LoadedModel) -> None:
    context = RequestContext()
    response = engine.extract(model, request("act | gap -> a", "joined -> b"), context)
    assert [feature.name for feature in response.maps] == ["a", "b"]
    alone = [engine.extract(model, request("act | gap -> a", images=(image,)), RequestContext()) for image in IMAGES]
    np.testing.assert_array_equal(response.maps[0].array, np.concatenate([one.maps[0].array for one in alone]))
    assert context.runs == [4, 1], "max_batch is 4"
    stages = [stage for stage, _, _ in context.stages]
    assert stages == ["plan", "decode", "plan", "batch", "compute", "batch", "compute"]


def test_a_repeated_request_is_answered_from_the_cache(engine: Engine, model: LoadedModel) -> None:
    first = engine.extract(model, request("act"), RequestContext())
    context = RequestContext()
    again = engine.extract(model, request("act"), context)
    np.testing.assert_array_equal(again.maps[0].array, first.maps[0].array)
    assert (context.runs, again.batch_size) == ([], 0)


def test_the_queueing_time_of_the_context_is_reported(engine: Engine, model: LoadedModel) -> None:
    context = RequestContext()
    context.add("queue", 1.0, 1.25)
    timing = engine.extract(model, request("act"), context).timing
    assert timing.queue_ms == 250
    assert timing.total_ms == pytest.approx(250 + timing.decode_ms + timing.compute_ms)


@pytest.mark.parametrize(
    ("limits", "error"),
    [(Limits(operations=1), TooExpensiveError), (Limits(response_bytes=1), ResponseTooLargeError)],
)
def test_a_request_over_a_limit_is_refused_before_anything_is_decoded(
    limits: Limits, error: type[Exception], engine: Engine, model: LoadedModel
) -> None:
    context = RequestContext()
    with pytest.raises(error):
        dataclasses.replace(engine, limits=limits).extract(model, request("act"), context)
    assert [stage for stage, _, _ in context.stages] == ["plan"]


def test_a_cancelled_request_stops(engine: Engine, model: LoadedModel) -> None:
    context = RequestContext()
    context.cancellation.cancel()
    with pytest.raises(CancelledError):
        engine.extract(model, request("act"), context)


def test_a_preview_agrees_with_the_request(engine: Engine, model: LoadedModel) -> None:
    preview = engine.preview(
        model, PreviewRequest(model="branching", taps=("act | gap",), image_count=5), RequestContext()
    )
    (feature,) = engine.extract(model, request("act | gap"), RequestContext()).maps
    assert preview.features[0].shape == feature.array.shape
    assert preview.total_bytes == feature.array.nbytes
    assert not preview.warm
    with pytest.raises(UnknownLayerError):
        engine.preview(model, PreviewRequest(model="branching", taps=("nowhere",)), RequestContext())
    with pytest.raises(InvalidRequestError, match="at least 1, got 0"):
        engine.preview(model, PreviewRequest(model="branching", taps=("act",), image_count=0), RequestContext())


def test_statistics_are_those_of_the_extracted_layer(engine: Engine, model: LoadedModel) -> None:
    (statistics,) = engine.inspect(model, InspectRequest("branching", IMAGES, ("conv",)), RequestContext())
    (feature,) = engine.extract(model, request("conv"), RequestContext()).maps
    assert statistics.layer == "conv"
    assert statistics.mean == pytest.approx(float(feature.array.mean()), rel=1e-5)
