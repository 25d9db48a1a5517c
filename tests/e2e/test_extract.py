"""Test Extract through a real server process."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from layertap import Block, Client, Layout, Tap
from layertap.images import ImageLike
from layertap.types import Array
from tests import references
from tests.paths import MODEL, PHOTOS
from tests.pixels import assert_same_pixels


def top(client: Client, photo: str, count: int) -> list[int]:
    """Return the classes with the highest scores."""
    scores = client.extract(PHOTOS / photo, model=MODEL, taps="logits")["logits"][0]
    return [int(number) for number in np.argsort(-scores)[:count]]


@pytest.mark.parametrize(("photo", "number"), [("coffee.png", 967), ("motorcycle_left.png", 665), ("rocket.jpg", 657)])
def test_the_top_class(client: Client, photo: str, number: int) -> None:
    assert top(client, photo, 1) == [number]


def test_the_cat_is_a_cat(client: Client) -> None:
    assert set(top(client, "chelsea.png", 3)) == {281, 282, 285}


def test_stages(client: Client, cat: Array) -> None:
    features = client.extract(cat, model=MODEL, taps=[f"stage:{number}" for number in range(1, 6)])
    shapes = [features[f"stage:{number}"].shape for number in range(1, 6)]
    assert shapes == [(1, 16, 112, 112), (1, 24, 56, 56), (1, 40, 28, 28), (1, 112, 14, 14), (1, 320, 7, 7)]
    assert features.map("stage:1").layer == "blocks.0"
    assert features.map("stage:1").layout is Layout.NCHW


def test_every_kind_of_image_is_the_same_picture(client: Client, cat: Array) -> None:
    buffer = io.BytesIO()
    Image.fromarray(cat).save(buffer, "PNG")
    images: list[ImageLike] = [
        PHOTOS / "chelsea.png",
        str(PHOTOS / "chelsea.png"),
        buffer.getvalue(),
        cat,
        Image.fromarray(cat),
    ]
    features = client.extract(images, model=MODEL, taps="embedding")
    assert features["embedding"].shape == (5, 1280)
    np.testing.assert_allclose(features["embedding"], np.repeat(features["embedding"][:1], 5, axis=0), rtol=1e-5)


def test_a_float_array_goes_to_the_model_as_it_is(client: Client, cat: Array) -> None:
    normalized = client.extract(cat, model=MODEL, taps="input -> x")["x"]
    assert normalized.shape == (1, 3, 224, 224)
    expected = client.extract(cat, model=MODEL)["embedding"]
    for array in (normalized, normalized[0], normalized.astype(np.float64)):
        np.testing.assert_allclose(client.extract(array, model=MODEL)["embedding"], expected, rtol=1e-4, atol=1e-5)
    two = client.extract([normalized, normalized[0]], model=MODEL)["embedding"]
    np.testing.assert_allclose(two, np.repeat(expected, 2, axis=0), rtol=1e-4, atol=1e-5)


def test_preprocessing_is_the_published_one(client: Client, cat: Array) -> None:
    """Resize the shorter side to 256 (bicubic), crop the centre 224×224, compute (x - 127) / 128."""
    height, width = cat.shape[:2]
    resized = Image.fromarray(cat).resize((round(width * 256 / height), 256), Image.Resampling.BICUBIC)
    left, upper = (resized.width - 224) // 2, (resized.height - 224) // 2
    pixels = np.asarray(resized.crop((left, upper, left + 224, upper + 224)), np.float64)
    actual = client.extract(cat, model=MODEL, taps="input")["input"]
    assert_same_pixels(actual[0].transpose(1, 2, 0) * 128 + 127, pixels)


def test_batched_equals_single(client: Client, cat: Array) -> None:
    photos: list[ImageLike] = [PHOTOS / "coffee.png", cat, PHOTOS / "rocket.jpg"] * 4
    taps = ["stage:1", "stage:3 | gap", "embedding", "logits | softmax -> p"]
    together = client.extract(photos, model=MODEL, taps=taps)
    assert together.batch_size == 8  # max_batch of the model
    for index, photo in enumerate(photos[:3]):
        alone = client.extract(photo, model=MODEL, taps=taps)
        for name, array in alone.items():
            tolerance = 1e-4 * float(np.abs(array).max())
            for row in range(index, 12, 3):
                np.testing.assert_allclose(together[name][row], array[0], rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("head", "reference"),
    [
        ("identity", lambda x: x),
        ("relu", lambda x: np.maximum(x, 0)),
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("softmax", references.softmax),
        ("gap", lambda x: x.mean((2, 3))),
        ("gmp", lambda x: x.max((2, 3))),
        ("gem", lambda x: (np.maximum(x, 1e-6) ** 3).mean((2, 3)) ** (1 / 3)),
        ("max_pool(2)", lambda x: x.reshape(*x.shape[:2], 7, 2, 7, 2).max((3, 5))),
        ("average_pool(2)", lambda x: x.reshape(*x.shape[:2], 7, 2, 7, 2).mean((3, 5))),
        ("l1", lambda x: x / np.abs(x).sum(1, keepdims=True)),
        ("l2", lambda x: x / np.sqrt((x**2).sum(1, keepdims=True))),
        ("z_score", lambda x: (x - x.mean((1, 2, 3), keepdims=True)) / x.std((1, 2, 3), keepdims=True)),
        ("flatten", lambda x: x.reshape(len(x), -1)),
        ("cast(float16)", lambda x: x.astype(np.float16)),
    ],
)  # fmt: skip
def test_every_block_on_a_real_layer(client: Client, cat: Array, head: str, reference: object) -> None:
    images: list[ImageLike] = [cat, PHOTOS / "coffee.png"]
    features = client.extract(images, model=MODEL, taps=["stage:4", f"stage:4 | {head} -> y"])
    expected = reference(features["stage:4"].astype(np.float64))  # type: ignore[operator]
    assert features["y"].shape == expected.shape
    tolerance = 1e-5 * float(np.abs(expected).max())
    np.testing.assert_allclose(features["y"].astype(np.float64), expected, rtol=0, atol=tolerance)


def test_blocks_that_look_across_images_see_all_of_the_request(client: Client, cat: Array) -> None:
    """Send more images than the model's batch limit; statistics still cover all of them."""
    images = [np.roll(cat, 10 * shift, axis=1) for shift in range(20)]
    features = client.extract(images, model=MODEL, taps=["embedding", "embedding | z_score(column) -> z"])
    raw = features["embedding"].astype(np.float64)
    deviation = raw.std(axis=0)
    moving = deviation > 1e-3
    expected = ((raw - raw.mean(axis=0)) / np.maximum(deviation, 1e-12))[:, moving]
    np.testing.assert_allclose(features["z"][:, moving], expected, atol=2e-3)


def test_several_layers_of_one_selector_and_templates(client: Client, cat: Array) -> None:
    features = client.extract(cat, model=MODEL, taps=['op:Add | gap -> "{layer}_pooled"', "op:Add"])
    assert len(features) == 18
    np.testing.assert_allclose(features["blocks.2_pooled"], features["blocks.2"].mean((2, 3)), rtol=1e-4, atol=1e-5)


def test_a_tap_in_parts(client: Client, cat: Array) -> None:
    tap = Tap("stage:4", (Block("max_pool", {"kernel": (2, 2), "stride": 1}), Block("gap")), "pooled")
    features = client.extract(cat, model=MODEL, taps=[tap, "stage:4 | max_pool(2, stride=1) | gap -> text"])
    np.testing.assert_array_equal(features["pooled"], features["text"])


def test_the_named_head_and_the_default_taps(client: Client, cat: Array) -> None:
    features = client.extract(cat, model=MODEL, taps=["signature", "stage:-1 | gem(p=3) | l2 -> same"])
    assert features["signature"].shape == (1, 320)
    assert np.linalg.norm(features["signature"]) == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(features["signature"], features["same"])
    assert list(client.extract(cat, model=MODEL)) == ["embedding"]


def test_what_the_answer_tells_beside_the_arrays(client: Client, cat: Array) -> None:
    features = client.extract(cat, model=MODEL, taps="stage:4 | gap | l2 -> v", version="latest")
    assert (features.model, features.version, features.batch_size) == (MODEL, "1", 1)
    assert features.map("v").layer == "blocks.10"
    assert features.map("v").layout is Layout.VECTOR
    timing = features.timing
    assert timing.decode_ms > 0
    assert timing.compute_ms > 0
    assert timing.total_ms >= timing.decode_ms + timing.compute_ms
