"""Test odd and hostile requests: each is refused clearly or answered correctly, and the server survives."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from layertap import Block, Client, Tap, _calls, errors
from layertap.types import Array
from tests.models import branching, model_folder
from tests.paths import MODEL
from tests.processes import running_server


@pytest.fixture(autouse=True)
def _lives_on(client: Client, cat: Array) -> Iterator[None]:
    yield
    assert client.extract(cat, model=MODEL, taps="stage:1 | gap -> v")["v"].shape == (1, 16)


def png(width: int, height: int, mode: str = "RGB") -> bytes:
    """Return a PNG of this size."""
    buffer = io.BytesIO()
    Image.new(mode, (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


HUGE = 2**62
TAPS = {
    "axis 0": "embedding | softmax(axis=0)",
    "axis -rank": "embedding | l2(axis=-2)",
    "huge stride": f"stage:1 | max_pool(2, stride={HUGE})",
    "huge kernel": f"stage:1 | max_pool({HUGE}, padding=same)",
    "huge dilation": f"stage:1 | average_pool(2, dilation={HUGE})",
    "many places": "stage:1 | max_pool(400, stride=1, padding=399) | average_pool(400, stride=1, padding=399)" * 1,
    "huge k": f"stage:1 | k_max({HUGE})",
    "huge resize": "stage:1 | resize(65536, width=65536) | gap",
    "float64": "stage:4 | cast(float64) | average_pool(2)",
    "long name": "stage:1 -> " + "n" * 5000,
    "digits": "#" + "9" * 4000,
    "emoji": "😀" * 1200,
    "unpool": "stage:1 | max_unpool",
    "wrong slopes": "stage:1 | prelu([1, 2])",
    "wrong scores": "stage:1 | sort_pool(3, scores=[1])",
    "perm": "stage:1 | transpose([1, 0, 2, 3])",
    "reshape": "stage:1 | reshape([7, -1, -1])",
}


@pytest.mark.parametrize("case", TAPS)
def test_taps(client: Client, cat: Array, case: str) -> None:
    with pytest.raises((errors.InvalidRequestError, errors.ResourceError)) as caught:
        client.extract([cat] * 8, model=MODEL, taps=TAPS[case])
    assert not isinstance(caught.value, errors.ServerFault)
    assert caught.value.reason not in {"UNKNOWN", "RESOURCE_EXHAUSTED"}


@pytest.mark.parametrize(
    "tap",
    [
        Tap("*a" * 1_000_000),
        Tap("#" + "9" * 5000),
        Tap(""),
        Tap("stage:1", (Block("x" * 100_000),)),
        Tap("stage:1", tuple(Block("relu") for _ in range(1000))),
        Tap("stage:1", (Block("gem", {"p": float("nan")}),)),
        Tap("stage:1", (Block("max_pool", {"kernel": ((((1,),),),)}),)),
    ],
    ids=["glob", "digits", "empty", "block", "head", "nan", "nested"],
)
def test_taps_in_parts(client: Client, cat: Array, tap: Tap) -> None:
    with pytest.raises(errors.InvalidRequestError):
        client.extract(cat, model=MODEL, taps=tap)


def test_more_results_than_a_request_may_have(client: Client, cat: Array) -> None:
    with pytest.raises(errors.TooManyTapsError):
        client.extract(cat, model=MODEL, taps=[f'op:Conv | gap -> "{{layer}}_{number}"' for number in range(1000)])
    with pytest.raises(errors.TooManyTapsError):
        client.extract(cat, model=MODEL, taps=["stage:1"] * 5000)


def test_the_same_number_in_other_types_is_another_request(client: Client, cat: Array) -> None:
    tap = "stage:1 | max_pool(kernel={})"
    assert client.extract(cat, model=MODEL, taps=tap.format("1"))
    for other in ("1.0", "true"):
        with pytest.raises(errors.BadParameterError):
            client.extract(cat, model=MODEL, taps=tap.format(other))


@pytest.mark.parametrize("size", [(16000, 1), (1, 16000), (60000, 2)])
def test_a_thread_of_an_image(client: Client, size: tuple[int, int]) -> None:
    """Send an image so thin that resizing its shorter side to 256 would need gigabytes."""
    with pytest.raises(errors.ImageTooLargeError):
        client.extract(png(*size), model=MODEL, taps="stage:1")


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint16", "bool"])
def test_pixels_of_another_dtype(client: Client, dtype: str) -> None:
    from layertap.types import ExtractRequest, PixelImage  # noqa: PLC0415 - bypasses the SDK's own check

    request = ExtractRequest(MODEL, (PixelImage(np.zeros((8, 8, 3), dtype)),), ("stage:1",))
    with pytest.raises(errors.BadTensorError):
        client._call(_calls.extract(request), 20)


def test_a_16_bit_image_keeps_its_greys(client: Client) -> None:
    ramp = np.linspace(0, 65535, 256 * 256).reshape(256, 256).astype(np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(ramp).save(buffer, "PNG")
    seen = client.extract(buffer.getvalue(), model=MODEL, taps="input")["input"]
    expected = client.extract((ramp // 257).astype(np.uint8), model=MODEL, taps="input")["input"]
    np.testing.assert_allclose(seen, expected, atol=2 / 128)


def test_a_listing_with_a_hostile_selector(client: Client) -> None:
    with pytest.raises(errors.UnknownLayerError):
        client.layers(MODEL, "*a" * 1_000_000)


def test_inputs_that_nobody_takes(client: Client, cat: Array) -> None:
    with pytest.raises(errors.InvalidRequestError, match="no input 'nonsense'"):
        client.extract(cat, model=MODEL, taps="stage:1", inputs={"nonsense": np.zeros(3, np.float32)})


def test_a_closed_client(cat: Array) -> None:
    client = Client("127.0.0.1:1")
    client.close()
    with pytest.raises(errors.UnavailableError):
        client.extract(cat, model=MODEL)


def test_models_of_free_size_and_of_fixed_batch(tmp_path: Path) -> None:
    free, fixed = branching(), branching()
    for axis in (2, 3):
        free.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = "side"
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    model_folder(tmp_path, "free", free)
    model_folder(tmp_path, "fixed", fixed)
    with (
        running_server("--max-response-bytes", "1000000", models=tmp_path) as process,
        Client(process.address) as client,
    ):
        small = np.random.default_rng(0).normal(size=(1, 3, 6, 10)).astype(np.float32)
        assert client.extract(small, model="free", taps="conv")["conv"].shape == (1, 6, 6, 10)
        assert client.extract(np.zeros((12, 20, 3), np.uint8), model="free", taps="down")["down"].shape == (1, 6, 6, 10)
        with pytest.raises(errors.ResponseTooLargeError):
            client.extract(np.zeros((1, 3, 500, 500), np.float32), model="free", taps="conv")
        batch = np.random.default_rng(0).normal(size=(6, 3, 8, 8)).astype(np.float32)
        together = client.extract(batch, model="fixed", taps="vector")["vector"]
        expected = client.extract(batch, model="free", taps="vector")["vector"]
        np.testing.assert_allclose(together, expected, rtol=1e-4, atol=1e-5)
        with pytest.raises(errors.InvalidRequestError, match="expected 4 images, got 2"):
            client.extract(batch[:2], model="fixed", taps="vector | z_score(column)")


def test_a_model_that_onnxruntime_does_not_take_is_failed(tmp_path: Path) -> None:
    odd = branching()
    odd.graph.node[3].op_type = "Blur"
    odd.graph.node[3].domain = "nowhere"
    odd.opset_import.add(domain="nowhere", version=1)
    model_folder(tmp_path, "odd", odd)
    model_folder(tmp_path, "sized", branching(), "input: {resize: {size: [6, 6]}}")
    model_folder(tmp_path, "good", branching())
    with running_server(models=tmp_path) as process, Client(process.address) as client:
        states = {model.name: (model.state.value, model.reason) for model in client.models()}
    assert states["good"] == ("ready", "")
    assert states["odd"][0] == "failed"
    assert str(tmp_path) not in states["odd"][1]
    assert "graph takes 8×8" in states["sized"][1]


def test_work_that_outlasts_the_grace_does_not_keep_the_server_up(cat: Array) -> None:
    flags = ["--workers", "1", "--graceful-stop-seconds", "0", "--drain-seconds", "0"]
    taps = "stage:1 | " + "lcn(63) | " * 8 + "gap"
    with running_server(*flags, status=1) as process, Client(process.address) as client, ThreadPoolExecutor(1) as pool:
        work = pool.submit(client.extract, [cat] * 64, model=MODEL, taps=taps, timeout_seconds=60)
        process.wait_until_busy()
        time.sleep(1)
        process.process.terminate()
        process.process.wait(timeout=20)
        with pytest.raises(errors.LayertapError):
            work.result(timeout=30)
