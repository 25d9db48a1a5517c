"""Test a GPU: the CPU's values, the device's name, batches, and errors without side effects."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from layertap import Client
from layertap.errors import DeviceMemoryError, LayertapError
from layertap.types import Array
from layertap_server.runtime import DeviceError, devices_for
from tests.paths import MODEL, MODELS, PHOTOS
from tests.processes import running_server

TAPS = ["all:activations | gap", "stage:2", "stage:3 | gem(p=3) | l2", "logits | softmax", "stage:1 | lrn(5)"]


def close(got: Array, expected: Array) -> None:
    """Compare with a tolerance for float32 sums in another order; TF32 would exceed it a hundredfold."""
    scale = float(np.abs(expected).max()) or 1.0
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * scale)


def test_the_model_says_where_it_runs(cuda: Client) -> None:
    assert cuda.model(MODEL).device == "CUDA:0"


@pytest.mark.parametrize("tap", TAPS)
def test_values_are_those_of_the_cpu(cuda: Client, client: Client, cat: Array, tap: str) -> None:
    on_gpu, on_cpu = (each.extract(cat, model=MODEL, taps=tap) for each in (cuda, client))
    assert list(on_gpu) == list(on_cpu)
    for name in on_gpu:
        close(on_gpu[name], on_cpu[name])


def test_float16_is_rounded_on_the_device(cuda: Client, cat: Array) -> None:
    full = cuda.extract(cat, model=MODEL, taps="stage:2 -> maps")["maps"]
    half = cuda.extract(cat, model=MODEL, taps="stage:2 | cast(float16) -> maps")["maps"]
    assert half.dtype == np.float16
    np.testing.assert_allclose(half.astype(np.float32), full, rtol=1e-3, atol=1e-3)


def test_requests_that_wait_run_together(cuda: Client, cat: Array) -> None:
    alone = cuda.extract(cat, model=MODEL, taps="stage:4 | gap -> v")["v"]
    barrier = threading.Barrier(32)

    def ask(_: int) -> tuple[int, Array]:
        barrier.wait()
        features = cuda.extract(cat, model=MODEL, taps="stage:4 | gap -> v")
        return features.batch_size, features["v"]

    with ThreadPoolExecutor(32) as callers:
        answers = list(callers.map(ask, range(32)))
    assert max(size for size, _ in answers) > 1
    for _, vector in answers:
        close(vector, alone)


def test_inspection_and_blocks_run_there_too(cuda: Client, client: Client, cat: Array) -> None:
    on_gpu, on_cpu = (each.inspect(cat, model=MODEL) for each in (cuda, client))
    for got, expected in zip(on_gpu, on_cpu, strict=True):
        assert got.layer == expected.layer
        assert got.mean == pytest.approx(expected.mean, rel=1e-3, abs=1e-4)
    maps = np.random.default_rng(0).normal(size=(2, 16, 28, 28)).astype(np.float32)
    close(cuda.apply_blocks(maps, "relu | gem | l2"), client.apply_blocks(maps, "relu | gem | l2"))


def test_many_images_over_one_stream(cuda: Client) -> None:
    photos = [PHOTOS / "chelsea.png", PHOTOS / "coffee.png"] * 20
    items = list(cuda.extract_many(photos, model=MODEL, taps="stage:4 | gap -> v"))
    assert [item.error for item in items] == [None] * 40
    first = [item.features["v"] for item in items[:2] if item.features]
    for number, item in enumerate(items):
        assert item.features
        close(item.features["v"], first[number % 2])


@pytest.mark.usefixtures("cuda")
def test_a_device_without_room_is_an_error_and_serves_on(cat: Array) -> None:
    flags = ("--device", "cuda", "--device-memory-bytes", str(256 * 2**20))
    with running_server(*flags, models=MODELS) as server, Client(server.address, timeout_seconds=120) as client:
        large = [np.zeros((224, 224, 3), np.uint8)] * 64
        try:
            client.extract(large, model=MODEL, taps=["stage:1 | conv(512, 3, weight=he) | gap"])
        except LayertapError as error:
            assert isinstance(error, DeviceMemoryError), error
        assert client.extract(cat, model=MODEL, taps="stage:4 | gap").batch_size == 1


@pytest.mark.usefixtures("cuda")
def test_two_devices_share_the_runs(client: Client, cat: Array) -> None:
    try:
        devices_for("cuda:0,1")
    except DeviceError as error:
        pytest.skip(str(error))
    expected = client.extract(cat, model=MODEL, taps="stage:4 | gap -> v")["v"]
    with running_server("--device", "cuda:0,1", models=MODELS) as server, Client(server.address) as both:
        assert both.model(MODEL).device == "CUDA:0,1"
        with ThreadPoolExecutor(16) as callers:
            answers = callers.map(lambda _: both.extract(cat, model=MODEL, taps="stage:4 | gap -> v")["v"], range(64))
            for vector in answers:
                close(vector, expected)
