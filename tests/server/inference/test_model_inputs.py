"""Tests of the first stage: count, kind and size of a request's images."""

from __future__ import annotations

import numpy as np
import pytest

from layertap.errors import BadTensorError, CancelledError, NoImagesError, TooManyImagesError
from layertap.types import PixelImage
from layertap_server.inference.model_inputs import InputReader
from layertap_server.models.loader import LoadedModel
from layertap_server.planning.plan import PlanInput
from layertap_server.request.context import RequestContext
from tests.server.inference.conftest import MAX_IMAGES

PICTURE = PixelImage(np.full((20, 30, 3), 7, np.uint8))
FLOATS = PixelImage(np.zeros((2, 3, 8, 8), np.float32))


def test_pictures_are_described_before_they_are_decoded(reader: InputReader, model: LoadedModel) -> None:
    context = RequestContext()
    inputs = reader.read([PICTURE, PICTURE], {}, model, context)
    assert (inputs.count, inputs.spec) == (2, PlanInput(pictures=True, size=(8, 8)))
    assert context.stages == []
    pixels = inputs.arrays(context)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, np.full((2, 8, 8, 3), 7))
    assert [stage for stage, _, _ in context.stages] == ["decode"]


def test_float_arrays_are_joined_and_counted(reader: InputReader, model: LoadedModel) -> None:
    inputs = reader.read([FLOATS, FLOATS], {}, model, RequestContext())
    assert (inputs.count, inputs.spec) == (4, PlanInput(pictures=False, size=(8, 8)))
    assert inputs.arrays(RequestContext()).shape == (4, 3, 8, 8)


def test_a_cancelled_request_decodes_nothing(reader: InputReader, model: LoadedModel) -> None:
    context = RequestContext()
    inputs = reader.read([PICTURE, PICTURE], {}, model, context)
    context.cancellation.cancel()
    with pytest.raises(CancelledError):
        inputs.arrays(context)


@pytest.mark.parametrize(
    ("images", "error", "field"),
    [
        ([], NoImagesError, "images"),
        ([PICTURE] * (MAX_IMAGES + 1), TooManyImagesError, "images"),
        ([FLOATS] * 5, TooManyImagesError, "images"),
        ([PICTURE, FLOATS], BadTensorError, "images[1]"),
        ([PixelImage(np.zeros((3, 8, 9), np.float32))], BadTensorError, "images[0]"),
    ],
)
def test_refusals(
    images: list[PixelImage], error: type[BadTensorError], field: str, reader: InputReader, model: LoadedModel
) -> None:
    with pytest.raises(error) as caught:
        reader.read(images, {}, model, RequestContext())
    assert caught.value.metadata["field"] == field
