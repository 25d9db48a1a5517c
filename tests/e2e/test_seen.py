"""Test how the model's view of an image is extracted from the server."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from layertap import Client
from layertap.types import Array
from layertap.viz.pictures import collect, extract_view
from tests.paths import EXAMPLE_PHOTO, MODEL
from tests.pixels import assert_same_pixels
from tests.processes import running_server

NETWORK = """
source:
  defaults: {weight: he}
  layers:
    - first: conv(4, 3, stride=2) | relu
    - second: conv(4, 3, stride=2) | relu
"""
INPUTS = {
    "bgr": "{resize: {size: [40, 48]}, color: bgr, normalize: {mean: [1, 2, 3], std: [4, 5, 6]}}",
    "boxed": "{resize: {letterbox: [64, 64], fill: 7}, normalize: {range: [1, 0]}}",
    "free": "{resize: none, color: rgb}",
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Return a client of a server with models of different preprocessing."""
    folder = tmp_path_factory.mktemp("models")
    for name, told in INPUTS.items():
        (folder / name).mkdir()
        (folder / name / "model.yaml").write_text(f"{NETWORK}input: {told}\n")
    with running_server(models=folder) as server, Client(server.address) as client:
        yield client


def photo() -> Image.Image:
    """Return the example photograph."""
    with Image.open(EXAMPLE_PHOTO) as image:
        return image.convert("RGB")


def test_resized_and_cropped(client: Client) -> None:
    image = photo()
    scale = 256 / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    expected = np.asarray(image.crop((left, top, left + 224, top + 224)))
    assert_same_pixels(extract_view(client, photo(), MODEL), expected)


def expected(name: str) -> Array:
    """Return the model's view of the photograph, computed with Pillow."""
    if name == "bgr":
        return np.asarray(photo().resize((48, 40), Image.Resampling.BILINEAR))
    if name == "free":
        return np.asarray(photo())
    boxed = Image.new("RGB", (64, 64), (7, 7, 7))
    scale = 64 / max(photo().size)
    inside = photo().resize((round(photo().width * scale), round(photo().height * scale)), Image.Resampling.BILINEAR)
    boxed.paste(inside, ((64 - inside.width) // 2, (64 - inside.height) // 2))
    return np.asarray(boxed)


@pytest.mark.parametrize("name", INPUTS)
def test_whatever_the_model_asks_for(models: Client, name: str) -> None:
    np.testing.assert_array_equal(extract_view(models, photo(), name), expected(name))


def test_pictures_of_different_sizes(models: Client) -> None:
    images = [photo(), photo().resize((90, 60))]
    pictures = collect(models, images, model="free", taps=["second", "first | max_pool(2) -> pooled"])
    assert [picture.pixels.shape for picture in pictures] == [(300, 451, 3), (60, 90, 3)]
    assert [picture.title for picture in pictures] == ["0", "1"]
    own, pooled = pictures[1].results
    assert own.positions is not None
    assert own.positions[0].step == 4
    assert pooled.positions is None
