"""Test the example transformer ``digits_vit``."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from layertap import Client
from layertap.types import Layout, TokenGrid
from layertap.viz.pictures import extract_view
from tests.paths import ROOT
from tests.processes import running_server

DIGITS = sorted((ROOT / "examples" / "images" / "digits").glob("*.png"))


@pytest.fixture(scope="module")
def examples() -> Iterator[Client]:
    """Return a client of a server with the example models."""
    with running_server(models=ROOT / "examples" / "models") as server, Client(server.address) as client:
        yield client


@pytest.mark.parametrize("model", ["digits_vit", "digits_vit_int8"])
def test_it_reads_digits(examples: Client, model: str) -> None:
    labels = examples.model(model).labels
    right = 0
    for item in examples.extract_many(DIGITS, model=model):
        assert item.features is not None
        scores = item.features["classes"][0]
        assert scores.sum() == pytest.approx(1, abs=1e-5)
        right += labels[int(scores.argmax())] == item.id.rpartition("/")[2][0]
    assert len(DIGITS) == 100
    assert right >= 98


def test_it_sees_luminance(examples: Client) -> None:
    with Image.open(DIGITS[0]) as image:
        grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(
        extract_view(examples, DIGITS[0], "digits_vit"), np.repeat(grey[:, :, None], 3, axis=2)
    )


def test_its_tokens_have_a_grid(examples: Client) -> None:
    for number in range(4):
        (block,) = examples.layers("digits_vit", f"blocks.{number}")
        assert (block.layout, block.tokens) == (Layout.TOKENS, TokenGrid(1, 8, 8))
        assert block.shape == (-1, 65, 48)
    attention = examples.extract(DIGITS[0], model="digits_vit", taps="blocks.1.attention.softmax")
    np.testing.assert_allclose(attention.maps[0].array.sum(axis=-1), 1, atol=1e-5)
