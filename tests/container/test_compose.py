"""Test docker-compose up for real: build, health, results, privileges and a clean stop. Needs a Docker engine.

Not part of ``make test``: run ``make container-test``, with BASE_IMAGE in the environment if no registry is reachable.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from layertap import Client, ExtractedItem, errors
from layertap.types import Array
from tests.container.project import Project, docker, inspect, needs_engine
from tests.paths import EXAMPLE_PHOTO, MODEL, MODELS
from tests.processes import running_server

pytestmark = needs_engine

MIB = 10**6
TAPS = "stage:1 | gap -> v"


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    """Start the project of the profile ``cpu``."""
    project = Project("cpu")
    try:
        project.compose("up", "--build", "-d")
        project.wait_until_healthy("layertap")
        yield project
    finally:
        project.down()


@pytest.fixture
def container(project: Project) -> str:
    """Return the server's container."""
    (container,) = project.containers("layertap")
    return container


def test_the_same_photograph_gives_the_same_vector(project: Project) -> None:
    with Client(project.address) as client:
        inside = client.extract(EXAMPLE_PHOTO, model=MODEL, taps="embedding")["embedding"]
    with running_server(models=MODELS) as process, Client(process.address) as client:
        outside = client.extract(EXAMPLE_PHOTO, model=MODEL, taps="embedding")["embedding"]
    np.testing.assert_allclose(inside, outside, rtol=0, atol=1e-4 * float(np.abs(outside).max()))


def test_it_has_no_privileges(container: str) -> None:
    lines = docker("exec", container, "cat", "/proc/1/status").stdout.splitlines()
    status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    assert status["Uid"] == ["10001"] * 4
    assert status["Gid"] == ["10001"] * 4
    assert status["NoNewPrivs"] == ["1"]
    for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[capabilities][0], 16) == 0, capabilities


@pytest.mark.parametrize("folder", ["/", "/opt/layertap", "/models", "/var"])
def test_it_can_write_nowhere(container: str, folder: str) -> None:
    """Try to write as the owner of the files, too."""
    done = docker("exec", "-u", "0", container, "touch", f"{folder}/new", check=False)
    assert done.returncode != 0
    assert "Read-only file system" in done.stderr


def test_it_can_write_where_weights_are_put_and_run_nothing_there(container: str) -> None:
    docker("exec", container, "sh", "-c", "echo 'echo ran' > /tmp/new; chmod 700 /tmp/new")
    assert docker("exec", container, "/tmp/new", check=False).returncode != 0
    docker("exec", container, "rm", "/tmp/new")


def test_it_has_nothing_to_complain_of_and_tells_nobody(container: str) -> None:
    logs = docker("logs", container)
    complaints = [line for line in logs.stderr.splitlines() if "WARNING" in line]
    assert len(complaints) == 1
    assert "may use the service: no tokens, no mTLS" in complaints[0]  # compose publishes the port on this host only
    assert "onnxruntime" not in logs.stderr  # its telemetry would warn that it cannot store its id


def test_its_memory_and_its_processes_are_bounded(container: str) -> None:
    assert int(inspect(container, "{{.HostConfig.Memory}}")) == 4 * 2**30
    assert int(inspect(container, "{{.HostConfig.PidsLimit}}")) == 4096


def test_the_image_is_small(container: str) -> None:
    """Measure what is added to the base image: packages (mainly onnxruntime, OpenBLAS and gRPC) and models."""
    image = int(docker("image", "inspect", "-f", "{{.Size}}", inspect(container, "{{.Image}}")).stdout)
    base_name = os.environ.get("BASE_IMAGE", "python:3.12-slim-bookworm")
    base = int(docker("image", "inspect", "-f", "{{.Size}}", base_name).stdout)
    print(f"image {image / MIB:.0f} MB, of which base {base / MIB:.0f} MB")
    assert image - base < 230 * MIB


def test_it_stops_within_its_grace_and_no_request_fails(project: Project, container: str) -> None:
    """Answer admitted requests and refuse later ones with UNAVAILABLE; a stream continues on the next server."""
    answered: list[Array] = []
    refused: list[Exception] = []
    stopping, ended = threading.Event(), threading.Event()

    def call() -> None:
        with Client(project.address, grpc_options=[("grpc.enable_retries", 0)]) as client:
            while True:
                try:
                    answered.append(client.extract([EXAMPLE_PHOTO] * 4, model=MODEL, taps=TAPS)["v"])
                except errors.LayertapError as error:
                    assert stopping.is_set(), error
                    refused.append(error)
                    return

    def images() -> Iterator[Array]:
        while not ended.is_set():
            yield np.zeros((64, 64, 3), np.uint8)

    items: list[ExtractedItem] = []

    def stream() -> None:
        with Client(project.address) as client:
            items.extend(client.extract_many(images(), model=MODEL, taps=TAPS))

    callers = [threading.Thread(target=call) for _ in range(4)]
    streaming = threading.Thread(target=stream)
    for thread in (*callers, streaming):
        thread.start()
    _wait_until_there_are(answered, 8)
    _wait_until_there_are(items, 1)
    stopping.set()
    project.compose("stop")
    assert inspect(container, "{{.State.ExitCode}}") == "0"
    for thread in callers:
        thread.join()
    project.compose("start")
    before = len(items)
    _wait_until_there_are(items, before + 100)
    ended.set()
    streaming.join()
    assert len(refused) == len(callers)
    assert all(isinstance(error, errors.UnavailableError) for error in refused), refused
    assert [item.id for item in items] == [str(number) for number in range(len(items))]
    assert not [item.error for item in items if item.error]
    project.wait_until_healthy("layertap")


def _wait_until_there_are(things: list[Any], count: int) -> None:
    waiting = threading.Event()
    for _ in range(600):
        if len(things) >= count:
            return
        waiting.wait(0.1)
    raise AssertionError(f"there are {len(things)}")
