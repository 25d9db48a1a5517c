"""Test that AsyncClient returns the same as Client from a real server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from layertap import AsyncClient, Client, Features, errors
from layertap.images import ImageLike
from layertap.types import Array
from tests.paths import EXAMPLE_PHOTO, MODEL, PHOTOS
from tests.processes import ServerProcess, mapped_regions, running_server

WIDE = "all:activations"


def assert_same(got: Features, expected: Features) -> None:
    """Check that two features are equal."""
    assert list(got) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(got[name], array)


@pytest.mark.parametrize("flags", [(), ("--shared-memory",)], ids=["in chunks", "shared memory"])
def test_each_method_gives_what_its_twin_gives(cat: Array, flags: tuple[str, ...]) -> None:
    async def ask(address: str) -> None:
        with Client(address) as twin:
            async with AsyncClient(address) as client:
                for _ in range(3):  # inline, then as a large response, then in the previous region
                    answer = await client.extract([cat, cat[::-1].copy()], model=MODEL, taps=WIDE)
                    assert_same(answer, twin.extract([cat, cat[::-1].copy()], model=MODEL, taps=WIDE))
                assert client._delivery._shares_memory == bool(flags)
                assert (regions := mapped_regions()) or not flags
                assert not any(path.exists() for path in regions)
                assert await client.models() == twin.models()
                assert await client.model(MODEL) == twin.model(MODEL)
                assert await client.layers(MODEL, "op:Add") == twin.layers(MODEL, "op:Add")
                assert await client.blocks("gem") == twin.blocks("gem")
                assert await client.preview(model=MODEL, taps=WIDE) == twin.preview(model=MODEL, taps=WIDE)
                assert await client.inspect(EXAMPLE_PHOTO, model=MODEL) == twin.inspect(EXAMPLE_PHOTO, model=MODEL)
                maps = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
                got = await client.apply_blocks(maps, "relu | gem | l2")
                np.testing.assert_array_equal(got, twin.apply_blocks(maps, "relu | gem | l2"))

    with running_server(*flags) as server:
        asyncio.run(ask(server.address))


def test_many_calls_at_once(server: ServerProcess, client: Client, cat: Array) -> None:
    images = [np.roll(cat, 20 * number, axis=1) for number in range(12)]
    expected = [client.extract(image, model=MODEL, taps="stage:3 | gap -> v")["v"] for image in images]

    async def ask() -> list[Features]:
        async with AsyncClient(server.address) as other:
            calls = (other.extract(image, model=MODEL, taps="stage:3 | gap -> v") for image in images)
            return await asyncio.gather(*calls)

    for features, vector in zip(asyncio.run(ask()), expected, strict=True):
        np.testing.assert_allclose(features["v"], vector, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["list", "generator", "asynchronous"])
@pytest.mark.parametrize("ordered", [True, False])
def test_many_images_each_once(server: ServerProcess, tmp_path: Path, kind: str, ordered: bool) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    images: list[str | Path | Array] = [np.full((40, 40, 3), number, np.uint8) for number in range(80)]
    images[7], images[40] = broken, tmp_path / "missing.jpg"

    def one_by_one() -> Iterator[str | Path | Array]:
        yield from images

    async def now_and_then() -> AsyncIterator[str | Path | Array]:
        for image in images:
            await asyncio.sleep(0)
            yield image

    async def ask() -> list[tuple[str, type | None]]:
        sources: dict[str, Iterable[ImageLike] | AsyncIterable[ImageLike]] = {
            "list": images,
            "generator": one_by_one(),
            "asynchronous": now_and_then(),
        }
        async with AsyncClient(server.address) as other:
            items = other.extract_many(sources[kind], model=MODEL, taps="stage:1 | gap", ordered=ordered)
            return [(item.id, type(item.error) if item.error else None) async for item in items]

    answers = asyncio.run(ask())
    expected = [(str(image) if isinstance(image, Path) else str(number), None) for number, image in enumerate(images)]
    expected_errors = {str(broken): errors.ImageDecodeError, str(images[40]): errors.ImageDecodeError}
    wanted = [(name, expected_errors.get(name)) for name, _ in expected]
    assert (answers if ordered else sorted(answers)) == (wanted if ordered else sorted(wanted))


def test_a_source_that_fails_tells_so(server: ServerProcess, client: Client, cat: Array) -> None:
    def images() -> Iterator[Array]:
        yield cat
        raise OSError("the disk is gone")

    async def ask() -> int:
        async with AsyncClient(server.address) as other:
            return len([item async for item in other.extract_many(images(), model=MODEL, taps="stage:1 | gap")])

    with pytest.raises(OSError, match="the disk is gone"):
        asyncio.run(ask())
    with pytest.raises(OSError, match="the disk is gone"):
        list(client.extract_many(images(), model=MODEL, taps="stage:1 | gap"))


def test_what_a_broken_stream_left_is_sent_again() -> None:
    images = [np.full((64, 64, 3), number, np.uint8) for number in range(100)]

    async def ask(address: str, stop: threading.Event) -> list[str]:
        got = []
        async with AsyncClient(address) as client:
            async for item in client.extract_many(iter(images), model=MODEL, taps="stage:3 | gap -> v"):
                assert item.error is None
                got.append(item.id)
                if len(got) == 10:
                    stop.set()
        return got

    stop, done = threading.Event(), threading.Event()
    with running_server() as first:
        port = first.address.rpartition(":")[2]
        got: list[str] = []

        def run() -> None:
            got.extend(asyncio.run(ask(first.address, stop)))
            done.set()

        threading.Thread(target=run, daemon=True).start()
        assert stop.wait(30)
        first.process.terminate()
        first.process.wait(30)
    with running_server("--port", port):
        assert done.wait(60)
    assert got == [str(number) for number in range(100)]


def test_a_task_that_is_cancelled_leaves_the_queue(cat: Array) -> None:
    async def ask(server: ServerProcess) -> None:
        async with AsyncClient(server.address) as client:
            long = asyncio.create_task(client.extract([cat] * 64, model=MODEL, taps="embedding"))
            await asyncio.to_thread(server.wait_until_busy)
            waiting = asyncio.create_task(client.extract(cat, model=MODEL, taps="stage:1"))
            await asyncio.to_thread(server.wait_until_busy, 2)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await long
            # The request never ran: only the plans that warmed the two models were compiled.
            assert 'layertap_plan_cache_total{event="miss"} 2.0' in server.metrics()

    with running_server("--workers", "1") as server:
        asyncio.run(ask(server))


def test_errors_are_those_of_the_server(server: ServerProcess) -> None:
    async def ask() -> None:
        async with AsyncClient(server.address) as client:
            with pytest.raises(errors.UnknownLayerError) as caught:
                await client.extract(EXAMPLE_PHOTO, model=MODEL, taps="embeding")
            assert "embedding" in caught.value.suggestions
            with pytest.raises(errors.DeadlineError):
                await client.extract(PHOTOS / "chelsea.png", model=MODEL, taps=WIDE, timeout_seconds=0.001)
        with pytest.raises(errors.UnavailableError):
            await client.models()

    asyncio.run(ask())


def test_nobody_there() -> None:
    async def ask() -> None:
        async with AsyncClient("127.0.0.1:1", timeout_seconds=1) as client:
            with pytest.raises((errors.UnavailableError, errors.DeadlineError)):
                await client.models()

    asyncio.run(ask())


def test_a_stream_that_moves_to_another_server_loses_nothing() -> None:
    """Use a source slower than the server, so that the stream is waiting for it when the server stops."""
    images = [np.full((64, 64, 3), number, np.uint8) for number in range(14)]

    async def slowly() -> AsyncIterator[Array]:
        for image in images:
            yield image
            await asyncio.sleep(0.2)

    async def ask(addresses: str, stop: threading.Event) -> list[str]:
        async with AsyncClient(f"ipv4:{addresses}") as client:
            got = []
            async for item in client.extract_many(slowly(), model=MODEL, taps="stage:3 | gap -> v"):
                assert item.error is None
                got.append(item.id)
                if len(got) == 4:
                    stop.set()
            return got

    stop = threading.Event()

    def stop_the_busy(servers: list[ServerProcess]) -> None:
        assert stop.wait(30)
        busy = next(server for server in servers if "layertap_streams 1.0" in server.metrics())
        busy.process.terminate()

    with running_server() as one, running_server() as other:
        stopper = threading.Thread(target=stop_the_busy, args=([one, other],))
        stopper.start()
        assert asyncio.run(ask(f"{one.address},{other.address}", stop)) == [str(number) for number in range(14)]
        stopper.join()


def test_one_image_is_several_of_one(client: Client) -> None:
    (item,) = client.extract_many(EXAMPLE_PHOTO, model=MODEL, taps="stage:1 | gap -> v")
    assert item.id == str(EXAMPLE_PHOTO)
    assert item.error is None
