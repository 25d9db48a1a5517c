"""Test one and several images of every kind with every call that takes images."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from layertap import AsyncClient, Client, errors
from layertap.sklearn import LayertapTransformer
from layertap.types import Array
from tests.processes import ServerProcess

MODEL, TAP = "gabor_energy", "energy | gap"
PICTURES = np.random.default_rng(0).integers(0, 256, (3, 30, 40, 3), dtype=np.uint8)


def png(number: int) -> bytes:
    """Return a PNG, different for each number."""
    Image.fromarray(PICTURES[number]).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Write images and return their paths."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(3):
        (folder / f"{number}.png").write_bytes(png(number))
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def expected(client: Client) -> Array:
    """Return the features of each image, extracted alone."""
    return np.concatenate([client.extract(png(number), model=MODEL, taps=TAP)[TAP] for number in range(3)])


def mixed(paths: list[Path]) -> Array:
    """Return images of different kinds."""
    images = np.empty(3, object)
    images[:] = [paths[0], io.BytesIO(png(1)), Image.fromarray(PICTURES[2])]
    return images


SEVERAL: dict[str, Callable[[list[Path]], Any]] = {
    "a batch": lambda _: PICTURES,
    "a list of batches": lambda _: [PICTURES[:2], PICTURES[2:]],
    "paths": lambda paths: paths,
    "an array of paths": lambda paths: np.array(list(map(str, paths))),
    "an array of images": mixed,
    "open files": lambda _: [io.BytesIO(png(number)) for number in range(3)],
    "a generator": lambda _: (memoryview(png(number)) for number in range(3)),
}


@pytest.mark.parametrize("kind", SEVERAL)
def test_several(client: Client, paths: list[Path], expected: Array, kind: str) -> None:
    make = SEVERAL[kind]
    np.testing.assert_allclose(client.extract(make(paths), model=MODEL, taps=TAP)[TAP], expected, rtol=1e-5)
    items = list(client.extract_many(make(paths), model=MODEL, taps=TAP))
    np.testing.assert_array_equal(np.concatenate([item.features[TAP] for item in items if item.features]), expected)
    assert len(client.inspect(make(paths), model=MODEL, selectors="energy")) == 1


@pytest.mark.parametrize("make", [io.BytesIO, bytearray, memoryview])
def test_a_single_one_is_no_list_of_its_parts(client: Client, expected: Array, make: Callable[[bytes], Any]) -> None:
    (item,) = client.extract_many(make(png(0)), model=MODEL, taps=TAP)
    for features in (client.extract(make(png(0)), model=MODEL, taps=TAP), item.features):
        assert features is not None
        np.testing.assert_array_equal(features[TAP], expected[:1])


def test_an_async_client_takes_the_same(server: ServerProcess, paths: list[Path], expected: Array) -> None:
    async def batches() -> AsyncIterator[Any]:
        yield PICTURES[:2]
        yield io.BytesIO(png(2))

    async def rows(client: AsyncClient, images: Any) -> list[Array]:
        items = [item async for item in client.extract_many(images, model=MODEL, taps=TAP)]
        return [item.features[TAP] for item in items if item.features]

    async def check() -> None:
        async with AsyncClient(server.address) as client:
            for images in (*(make(paths) for make in SEVERAL.values()), batches()):
                np.testing.assert_array_equal(np.concatenate(await rows(client, images)), expected)
            assert len(await rows(client, io.BytesIO(png(0)))) == 1
            assert (await client.extract(io.BytesIO(png(0)), model=MODEL, taps=TAP))[TAP].shape[0] == 1

    asyncio.run(check())


def test_a_bad_one_does_not_end_a_run(client: Client, expected: Array) -> None:
    class Broken:
        def __array__(self) -> Array:
            raise RuntimeError("no memory on the device")

    images: list[Any] = [PICTURES[0], Broken(), np.zeros((2, 2, 5), np.uint8), 7, io.BytesIO(), PICTURES[2]]
    items = list(client.extract_many(images, model=MODEL, taps=TAP))
    assert [type(item.error) for item in items] == [
        type(None), errors.BadTensorError, errors.BadTensorError, errors.BadTensorError, errors.ImageDecodeError,
        type(None),
    ]  # fmt: skip
    assert "images[1]" in str(items[1].error)
    assert "no memory on the device" in str(items[1].error)
    assert "images[3] is a int" in str(items[3].error)
    assert items[5].features is not None
    np.testing.assert_array_equal(items[5].features[TAP], expected[2:])


@pytest.mark.parametrize("kind", [kind for kind in SEVERAL if kind not in {"a generator", "a list of batches"}])
def test_scikit_learn(server: ServerProcess, paths: list[Path], expected: Array, kind: str) -> None:
    """Pass X twice, since an iterator would be consumed by the first call."""
    got = LayertapTransformer(TAP, MODEL, server.address).fit_transform(SEVERAL[kind](paths))
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("kind", SEVERAL)
def test_a_dataset(server: ServerProcess, paths: list[Path], expected: Array, kind: str) -> None:
    pytest.importorskip("torch", reason="PyTorch is in the extra 'reference'")
    from layertap.feature_dataset import FeatureDataset  # noqa: PLC0415 - only if PyTorch is installed

    rows = list(FeatureDataset(SEVERAL[kind](paths), model=MODEL, taps=TAP, address=server.address))
    np.testing.assert_array_equal([results[TAP].numpy() for _, results in rows], expected)
    with_paths = kind in {"paths", "an array of paths"}
    assert [name for name, _ in rows][1:2] == [str(paths[1]) if with_paths else "1"]


def test_a_dataset_of_one_path(server: ServerProcess, paths: list[Path]) -> None:
    pytest.importorskip("torch", reason="PyTorch is in the extra 'reference'")
    from layertap.feature_dataset import FeatureDataset  # noqa: PLC0415 - only if PyTorch is installed

    assert len(list(FeatureDataset(str(paths[0]), model=MODEL, taps=TAP, address=server.address))) == 1
