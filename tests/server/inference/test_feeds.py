"""Test how the arrays of a request are split into inputs and feeds, and what their rows are."""

from __future__ import annotations

import numpy as np
import pytest

from layertap.errors import BadFeedError, InvalidRequestError, LayertapError
from layertap.types import Array, ExtractRequest, PixelImage, PreviewRequest
from layertap_server.graph import Feed
from layertap_server.inference.engine import Engine
from layertap_server.inference.feeds import split_inputs
from layertap_server.inference.model_inputs import InputReader
from layertap_server.models.loader import LoadedModel
from layertap_server.planning.plan import PlanInput
from layertap_server.request.context import RequestContext

PICTURE = PixelImage(np.full((8, 8, 3), 7, np.uint8))
MAP = np.ones((1, 6, 4, 4), np.float32)


def extract(engine: Engine, model: LoadedModel, tap: str, pictures: int, **fed: Array) -> Array:
    request = ExtractRequest("branching", (PICTURE,) * pictures, (tap,), inputs=fed)
    return engine.extract(model, request, RequestContext()).maps[0].array


def test_arrays_of_layers_are_split_from_those_of_inputs(model: LoadedModel) -> None:
    image = np.zeros((1, 3, 8, 8), np.float32)
    given = split_inputs({"vector": np.ones(6), "image": image, "left": MAP}, model)
    assert list(given.inputs) == ["image"]
    assert given.feeds == (Feed("left", (6, 4, 4)), Feed("vector", (6,)))
    assert given.by_feed["feed:vector"].dtype == np.float32
    assert given.by_feed["feed:vector"].shape == (1, 6)


def test_without_images_the_rows_of_the_feed_are_the_batch(reader: InputReader, model: LoadedModel) -> None:
    maps = np.repeat(MAP, 3, 0)
    inputs = reader.read((), {"vector": np.ones((1, 6)), "left": maps}, model, RequestContext())
    spec = PlanInput(False, (6, 4, 4), "feed:left", (Feed("left", (6, 4, 4)), Feed("vector", (6,))))
    assert (inputs.count, inputs.spec) == (3, spec)


def test_one_row_serves_all_images(engine: Engine, model: LoadedModel) -> None:
    random = np.random.default_rng(3).normal(size=(3, 6)).astype(np.float32)
    alone = extract(engine, model, "scores", 0, vector=random)
    assert alone.shape[0] == 3
    np.testing.assert_array_equal(extract(engine, model, "scores", 3, vector=random), alone)
    for row in range(3):
        same = extract(engine, model, "scores", 2, vector=random[row])
        np.testing.assert_allclose(same, alone[[row, row]], atol=1e-6)


def test_equal_requests_with_other_feeds_are_not_answered_from_the_cache(engine: Engine, model: LoadedModel) -> None:
    first = extract(engine, model, "joined", 1, left=MAP)
    np.testing.assert_array_equal(extract(engine, model, "joined", 1, left=MAP), first)
    np.testing.assert_allclose(extract(engine, model, "joined", 1, left=MAP * 3), first + 2, atol=1e-5)


def test_a_preview_names_the_layers_that_will_be_fed(engine: Engine, model: LoadedModel) -> None:
    whole, cut = (
        engine.preview(model, PreviewRequest(model="branching", taps=("scores",), feeds=feeds), RequestContext())
        for feeds in ((), ("vector",))
    )
    assert cut.operations < whole.operations
    request = PreviewRequest(model="branching", taps=("act",), feeds=("vector",))
    with pytest.raises(BadFeedError, match="no tap reads"):
        engine.preview(model, request, RequestContext())


@pytest.mark.parametrize(
    ("fed", "error", "message"),
    [
        ({"left": MAP[:, :3]}, BadFeedError, r"has \[N, 6, 4, 4\], and its feed has \[N, 3, 4, 4\]"),
        (
            {"left": MAP[0, 0]},
            BadFeedError,
            r"expected float32 \[N, 6, 4, 4\] for the layer 'left', got float32 \[4, 4\]",
        ),
        ({"left": MAP[:0]}, BadFeedError, r"got float32 \[0, 6, 4, 4\]"),
        ({"left": np.repeat(MAP, 3, 0)}, BadFeedError, "has 3 rows; expected 1, or one for each of 2 images"),
        ({"image": np.ones((2, 3, 8, 8))}, BadFeedError, "the images are the values of the model's input 'image'"),
        ({"lefd": MAP}, InvalidRequestError, r"no input 'lefd' \(did you mean left\?\) and no layer of that name"),
        ({"left": MAP, "vector": np.ones(6)}, BadFeedError, "no tap reads 'left'"),
    ],
)
def test_wrong_feeds_are_refused(
    fed: dict[str, Array], error: type[LayertapError], message: str, engine: Engine, model: LoadedModel
) -> None:
    with pytest.raises(error, match=message) as caught:
        extract(engine, model, "scores", 2, **fed)
    assert caught.value.metadata["field"] == "inputs"
