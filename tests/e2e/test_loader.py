"""Test models that crash, block or fill the process that reads them, and killing it: the server keeps serving."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from layertap import Client, errors
from layertap.types import ModelState
from tests.children import children, kill_when_busy, runs
from tests.fuzz_models import check, damaged
from tests.models import branching, model_folder
from tests.native_models import endless_loop, greedy, hanging, negative_slice, too_small, wide_kernel
from tests.processes import ServerProcess, running_server, serve_command, until

IMAGE = np.zeros((1, 3, 8, 8), np.float32)
ENDS_ON_LARGE_VALUES = """
<ir_version: 8, opset_import: ["" : 18]>
g (float[N, 3, 8, 8] image) => (float[N, 1, 1, 1] out)
<int64[3] places = {1, 2, 3}, int32 one = {1}, int32 two = {2}, int32 least = {-2147483648}> {
    largest = ReduceMax <keepdims = 1> (image, places)
    whole = Cast <to = 6> (largest)
    bit = Min(whole, one)
    twice = Mul(bit, two)
    divisor = Sub(one, twice)
    rest = Mod(least, divisor)
    out = Cast <to = 1> (rest)
}
"""
BUSY_SECONDS = 2.0
"""CPU seconds after which a child process counts as busy with its job."""
FUZZED = 60


def answers(client: Client, model: str = "good") -> bool:
    """Return whether the model answers a request."""
    return client.extract(IMAGE, model=model, taps="scores")["scores"].shape == (1, 4)


def write(models: Path, name: str, model: onnx.ModelProto) -> Path:
    """Write a model to a folder and return the folder."""
    home = models / name
    home.mkdir(exist_ok=True)
    onnx.save(model, home / "model.onnx")
    return home


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Write the models to a folder and return it."""
    model_folder(tmp_path, "good", branching())
    return tmp_path


@pytest.fixture
def served(models: Path) -> Iterator[tuple[ServerProcess, Client]]:
    """Start a server with the models, and yield it with a client."""
    with running_server("--control", models=models) as server, Client(server.address) as client:
        yield server, client


def reason(client: Client, model: str = "bad") -> str:
    """Return why a model failed to load."""
    info = client.model(model)
    assert info.state is ModelState.FAILED
    return info.reason


def test_a_model_that_aborts_when_it_is_loaded(models: Path, served: tuple[ServerProcess, Client]) -> None:
    server, client = served
    write(models, "bad", too_small())
    with pytest.raises(errors.ModelFailedError, match="was ended by SIGABRT"):
        client.load_model("bad")
    assert "SIGABRT" in reason(client)
    assert answers(client)
    write(models, "bad", branching())
    client.load_model("bad")
    assert answers(client, "bad")
    assert "Assertion" in server.log.read_text()
    assert all(line.startswith("20") for line in server.log.read_text().splitlines()), "native lines are log lines"


def test_a_model_that_aborts_when_it_is_watched(models: Path) -> None:
    flags = ["--watch", "--watch-seconds", "0.1"]
    with running_server(*flags, models=models) as server, Client(server.address) as client:
        write(models, "bad", too_small())
        until(lambda: any("SIGABRT" in info.reason for info in client.models()))
        assert answers(client)


def test_models_that_abort_hang_and_take_all_memory_at_start(models: Path) -> None:
    for name, make in {"aborting": too_small, "hanging": hanging, "greedy": greedy}.items():
        write(models, name, make())
    limits = ["--load-seconds", "2", "--load-memory-bytes", str(2**27)]
    with running_server(*limits, models=models) as server, Client(server.address) as client:
        assert "SIGABRT" in reason(client, "aborting")
        assert "took longer than 2 s and was ended (--load-seconds)" in reason(client, "hanging")
        assert "--load-memory-bytes" in reason(client, "greedy")
        assert answers(client)


def test_a_size_that_is_written_as_minus_one_is_free(models: Path, served: tuple[ServerProcess, Client]) -> None:
    _, client = served
    write(models, "free", negative_slice())
    client.load_model("free")
    image = np.ones((1, 3, 9, 10), np.float32)
    assert client.extract(image, model="free", taps="out")["out"].shape == (1, 3, 6, 10)


@pytest.mark.parametrize("image", [np.zeros((3, 3, 3), np.uint8), np.zeros((1, 3, 3, 3), np.float32)])
def test_a_picture_too_small_for_a_valid_model(
    models: Path, served: tuple[ServerProcess, Client], image: np.ndarray
) -> None:
    _, client = served
    write(models, "wide", wide_kernel())
    client.load_model("wide")
    for _ in range(2):
        with pytest.raises(errors.ShapeMismatchError, match="images of 3×3 do not go through the model"):
            client.extract(image, model="wide", taps="out | gap")
    assert answers(client)
    assert client.extract(np.zeros((30, 30, 3), np.uint8), model="wide", taps="out")["out"].shape == (1, 4, 6, 24)


@pytest.mark.parametrize(("make", "step"), [(hanging, "inference of its shapes"), (endless_loop, "first session")])
def test_the_child_is_killed_while_a_model_is_loaded(
    models: Path, served: tuple[ServerProcess, Client], make: Callable[[], onnx.ModelProto], step: str
) -> None:
    server, client = served
    write(models, "bad", make())
    failures: list[errors.LayertapError] = []

    def load() -> None:
        try:
            client.load_model("bad", timeout_seconds=120)
        except errors.LayertapError as error:
            failures.append(error)

    loading = threading.Thread(target=load)
    loading.start()
    kill_when_busy(server.process.pid, BUSY_SECONDS)
    loading.join(timeout=60)
    assert isinstance(failures[0], errors.ModelFailedError)
    assert f"{step} failed: the process that reads models was ended by SIGKILL" in reason(client)
    assert answers(client)
    write(models, "bad", branching())
    client.load_model("bad")
    assert answers(client, "bad")


def test_the_child_is_killed_while_a_request_waits_for_sizes(
    models: Path, served: tuple[ServerProcess, Client]
) -> None:
    server, client = served
    write(models, "wide", wide_kernel())
    client.load_model("wide")
    client.extract(np.zeros((30, 30, 3), np.uint8), model="wide", taps="out")
    stopped = children(server.process.pid)
    for child in stopped:
        os.kill(child, signal.SIGSTOP)
    shapes: list[tuple[int, ...]] = []

    def ask() -> None:
        shapes.append(client.extract(np.zeros((31, 31, 3), np.uint8), model="wide", taps="out")["out"].shape)

    asking = threading.Thread(target=ask)
    asking.start()
    server.wait_until_busy()
    time.sleep(0.5)  # until the job is in the pipe
    assert answers(client)
    for child in stopped:
        os.kill(child, signal.SIGKILL)
    asking.join(timeout=60)
    assert shapes == [(1, 4, 6, 25)], (
        "the error is retryable: the client repeats the request, and a new child serves it"
    )


def test_a_model_that_would_end_the_process_on_large_values_does_not_run_in_the_server(
    models: Path, served: tuple[ServerProcess, Client]
) -> None:
    """The model divides the least integer by -1, which ends the process, where an image has a value of 1 or more."""
    server, client = served
    write(models, "bad", parser.parse_model(ENDS_ON_LARGE_VALUES))
    client.load_model("bad")
    assert server.process.poll() is None
    dark = np.full((1, 3, 8, 8), 0.5, np.float32)
    assert client.extract(dark, model="bad", taps="out")["out"].shape == (1, 1, 1, 1)
    assert answers(client)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_server_that_ends_while_it_loads_leaves_no_child(models: Path, number: signal.Signals) -> None:
    write(models, "bad", hanging())
    with subprocess.Popen(serve_command(models=models), stderr=subprocess.DEVNULL) as process:
        until(lambda: children(process.pid))
        (child,) = children(process.pid)
        process.send_signal(number)
        assert process.wait(timeout=60) != 0
    until(lambda: not runs(child))


def test_damaged_files(models: Path, served: tuple[ServerProcess, Client]) -> None:
    server, client = served
    outcome = check(server, client, models, damaged(FUZZED))
    assert not outcome.faults
    assert outcome.ready + sum(outcome.reasons.values()) == FUZZED
    assert "Traceback" not in server.log.read_text()
    assert answers(client)
