"""Test the life of a client: event loops, pickles, copies and closing."""

from __future__ import annotations

import asyncio
import copy
import multiprocessing
import pickle
import subprocess
import sys
import threading
import traceback
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from layertap import AsyncClient, Client, Tls, errors
from layertap.sklearn import LayertapTransformer
from tests.paths import EXAMPLE_PHOTO, MODEL
from tests.processes import ServerProcess

TAP = "stage:1 | gap -> v"


async def shapes(client: AsyncClient) -> list[tuple[int, ...]]:
    """Return the shapes of the results of one call and one stream."""
    features = await client.extract(EXAMPLE_PHOTO, model=MODEL, taps=TAP)
    items = [item async for item in client.extract_many([EXAMPLE_PHOTO] * 2, model=MODEL, taps=TAP)]
    return [features["v"].shape, *(item.features["v"].shape for item in items if item.features)]


def test_one_loop_after_another(server: ServerProcess) -> None:
    client = AsyncClient(server.address)
    for _ in range(3):
        assert asyncio.run(shapes(client)) == [(1, 16)] * 3
        assert len(client._channels) == 1  # channels of closed loops are dropped
    asyncio.run(client.close())
    with pytest.raises(errors.UnavailableError, match="the client is closed"):
        asyncio.run(shapes(client))


def test_two_loops_at_once(server: ServerProcess) -> None:
    client = AsyncClient(server.address)
    together = threading.Barrier(2)

    async def ask() -> list[tuple[int, ...]]:
        await asyncio.to_thread(together.wait)
        found = await shapes(client)
        await asyncio.to_thread(together.wait)
        return found

    with ThreadPoolExecutor(2) as pool:
        for answer in [pool.submit(lambda: asyncio.run(ask())) for _ in range(2)]:
            assert answer.result(timeout=100) == [(1, 16)] * 3
    asyncio.run(client.close())


def models_of(client: Client) -> list[str]:
    """List models and close the client."""
    with client:
        return [model.name for model in client.models()]


def models_of_async(client: AsyncClient) -> list[str]:
    """List models and close the client, in a new event loop."""

    async def ask() -> list[str]:
        async with client:
            return [model.name for model in await client.models()]

    return asyncio.run(ask())


def test_a_pickled_client_is_another_of_the_same_parameters(server: ServerProcess) -> None:
    with Client(server.address, timeout_seconds=7, token="t", shared_memory=False) as client:
        for other in (pickle.loads(pickle.dumps(client)), copy.copy(client), copy.deepcopy(client)):
            assert other._connection == client._connection
            assert other._shared_memory is False
            assert MODEL in models_of(other)
        assert MODEL in [model.name for model in client.models()]
    twin = AsyncClient(server.address, timeout_seconds=7)
    assert pickle.loads(pickle.dumps(twin))._connection == twin._connection
    assert MODEL in models_of_async(pickle.loads(pickle.dumps(twin)))


def test_certificates_travel_in_a_pickle() -> None:
    with Client("https://localhost:1", tls=Tls(server_name="x")) as client:
        assert pickle.loads(pickle.dumps(client))._connection.tls == Tls(server_name="x")


def test_clients_in_other_processes(server: ServerProcess) -> None:
    spawn = multiprocessing.get_context("spawn")
    client, twin = Client(server.address), AsyncClient(server.address)
    with client, ProcessPoolExecutor(1, spawn) as pool:
        assert MODEL in pool.submit(models_of, client).result(timeout=100)
        assert MODEL in pool.submit(models_of_async, twin).result(timeout=100)
    transformer = LayertapTransformer(TAP, MODEL, server.address)
    with ProcessPoolExecutor(1, spawn) as pool:
        found = pool.submit(transformer.fit_transform, [str(EXAMPLE_PHOTO)]).result(timeout=100)
    assert found.shape == (1, 16)


def test_after_the_end(server: ServerProcess) -> None:
    client = Client(server.address)
    client.close()
    client.close()
    for call in (
        client.models,
        lambda: client.extract(EXAMPLE_PHOTO, model=MODEL),
        lambda: list(client.extract_many([EXAMPLE_PHOTO], model=MODEL)),
    ):
        with pytest.raises(errors.UnavailableError, match="the client is closed; make a new one"):
            call()

    async def ask() -> None:
        twin = AsyncClient(server.address)
        await twin.close()
        await twin.close()
        with pytest.raises(errors.UnavailableError, match="the client is closed; make a new one"):
            await twin.models()
        with pytest.raises(errors.UnavailableError, match="the client is closed; make a new one"):
            [item async for item in twin.extract_many([EXAMPLE_PHOTO], model=MODEL)]

    asyncio.run(ask())


@pytest.mark.parametrize("taps", ["stage:1 |", "nothing", "stage:1 | gab", "stage:1 | max_pool(0)", "all | gap | gap"])
def test_a_mistake_shows_one_exception(server: ServerProcess, client: Client, taps: str) -> None:
    async def ask() -> None:
        async with AsyncClient(server.address) as twin:
            await twin.extract(EXAMPLE_PHOTO, model=MODEL, taps=taps)

    for call in (
        lambda: client.extract(EXAMPLE_PHOTO, model=MODEL, taps=taps),
        lambda: client.preview(model=MODEL, taps=taps),
        lambda: list(client.extract_many([EXAMPLE_PHOTO], model=MODEL, taps=taps)),
        lambda: asyncio.run(ask()),
    ):
        with pytest.raises(errors.InvalidRequestError) as caught:
            call()
        text = "".join(traceback.format_exception(caught.value))
        assert text.count("Traceback (most recent call last)") == 1, text


def test_an_image_s_error_names_its_file(
    client: Client, server: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("photos")
    broken = folder / "half a photo.jpg"
    broken.write_bytes(EXAMPLE_PHOTO.read_bytes()[:20_000])

    async def ask() -> None:
        async with AsyncClient(server.address) as twin:
            await twin.extract([EXAMPLE_PHOTO, broken], model=MODEL, taps=TAP)

    for call in (
        lambda: client.extract([EXAMPLE_PHOTO, broken], model=MODEL, taps=TAP),
        lambda: client.inspect((path for path in [EXAMPLE_PHOTO, broken]), model=MODEL),
        lambda: asyncio.run(ask()),
    ):
        with pytest.raises(
            errors.ImageDecodeError, match=r"half a photo\.jpg: images\[1\]: the image is truncated"
        ) as caught:
            call()
        assert caught.value.index == 1
    with pytest.raises(errors.ImageDecodeError, match=r"images\[0\]: the image is truncated"):
        client.extract(broken.read_bytes(), model=MODEL, taps=TAP)


def test_a_large_answer_that_breaks_names_it_too(client: Client, tmp_path: Path) -> None:
    """Break a chunked response, whose errors take another path."""
    broken = tmp_path / "half.jpg"
    broken.write_bytes(EXAMPLE_PHOTO.read_bytes()[:20_000])
    for _ in range(2):
        client.extract([EXAMPLE_PHOTO] * 2, model=MODEL, taps="stage:1")
    with pytest.raises(errors.ImageDecodeError, match=r"half\.jpg: images\[1\]: the image is truncated"):
        client.extract([EXAMPLE_PHOTO, broken], model=MODEL, taps="stage:1")


def test_programs_end_without_a_word(server: ServerProcess) -> None:
    """End programs that leave their clients in different ways."""
    program = f"""
import asyncio, layertap
client = layertap.AsyncClient({server.address!r})
async def ask():
    await client.models()
    async for _ in client.extract_many([{str(EXAMPLE_PHOTO)!r}] * 3, model={MODEL!r}, taps="stage:1"):
        break
asyncio.run(ask())
asyncio.run(ask())
plain = layertap.Client({server.address!r})
items = plain.extract_many([{str(EXAMPLE_PHOTO)!r}] * 9, model={MODEL!r}, taps="stage:1")
next(items)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=100)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
