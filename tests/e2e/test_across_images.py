"""Test blocks that use statistics of all images in requests with a single image."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from layertap import AsyncClient, Client, errors
from layertap.cli import main
from layertap.types import Array
from tests.paths import EXAMPLE_PHOTO, MODEL, MODELS
from tests.processes import ServerProcess, running_server

ACROSS = [
    "embedding | z_score(column)",
    "embedding | min_max(scope=column)",
    "stage:1 | batch_norm(stats=batch) | gap",
    "stage:1 | z_score(scope=batch) | gap",
    "stage:1 | mean_variance(axes=[0, 2, 3]) | gap",
]


def unread() -> Iterator[Array]:
    """Yield images that must never be read."""
    raise AssertionError("an image was read")
    yield


@pytest.mark.parametrize("tap", ACROSS)
def test_bulk_refuses_them_before_it_reads_an_image(client: Client, tap: str) -> None:
    with pytest.raises(errors.TooFewImagesError, match="together with extract") as caught:
        next(client.extract_many(unread(), model=MODEL, taps=["logits", tap]))
    assert caught.value.metadata["block"].partition("(")[0] in tap


@pytest.mark.parametrize("tap", ACROSS)
def test_a_request_of_one_image_is_refused(client: Client, cat: Array, tap: str) -> None:
    with pytest.raises(errors.TooFewImagesError, match="one image"):
        client.extract(cat, model=MODEL, taps=tap)
    two = client.extract([cat, cat[::-1].copy()], model=MODEL, taps=tap)
    assert all(np.ptp(array) > 0 for array in two.values())


def test_apply_blocks_says_the_same_of_one_row(client: Client) -> None:
    with pytest.raises(errors.TooFewImagesError):
        client.apply_blocks(np.ones((1, 8), np.float32), "relu | z_score(column)")
    assert client.apply_blocks(np.ones((2, 8), np.float32), "relu | z_score(column)").shape == (2, 8)


def test_the_asynchronous_client_refuses_too(server: ServerProcess) -> None:
    async def ask() -> None:
        async with AsyncClient(server.address) as client:
            await anext(client.extract_many(unread(), model=MODEL, taps=ACROSS[0]))

    with pytest.raises(errors.TooFewImagesError):
        asyncio.run(ask())


def test_a_head_that_the_model_names_is_found_out_before_images_are_read(tmp_path: Path) -> None:
    shutil.copytree(MODELS / MODEL, tmp_path / MODEL)
    manifest = tmp_path / MODEL / "model.yaml"
    text = manifest.read_text()
    line = 'whitened: "embedding | z_score(column)"'
    assert "\nheads: {" in text
    manifest.write_text(text.replace("\nheads: {", f"\nheads: {{{line}, "))
    with running_server(models=tmp_path) as server, Client(server.address) as client:
        assert client.preview(model=MODEL, taps="whitened").looks_across_images
        with pytest.raises(errors.TooFewImagesError):
            next(client.extract_many(unread(), model=MODEL, taps="whitened"))


def test_a_folder_on_the_command_line_is_refused_before_anything_is_written(
    server: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(70):
        shutil.copy(EXAMPLE_PHOTO, photos / f"{number}.jpg")
    out = tmp_path / "features.zarr"
    arguments = ["extract", str(photos), "-m", MODEL, "-t", ACROSS[0], "-o", str(out), "--server", server.address]
    assert main(arguments) == 1
    assert "takes its statistics from all images" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [photos]


def test_a_streams_item_of_several_images_is_a_request_of_its_own(client: Client, cat: Array) -> None:
    images = [cat, cat[::-1].copy(), cat[:, ::-1].copy()]
    features = client.extract(images, model=MODEL, taps=["embedding | z_score(column) -> z", "stem", "blocks.0"])
    for _ in range(2):  # the second call uses a stream, since the client then knows the size of the response
        again = client.extract(images, model=MODEL, taps=["embedding | z_score(column) -> z", "stem", "blocks.0"])
        np.testing.assert_allclose(again["z"], features["z"], atol=1e-5)
    np.testing.assert_allclose(features["z"].mean(axis=0), 0, atol=1e-4)
