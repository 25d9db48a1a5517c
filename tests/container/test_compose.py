"""docker-compose up for real: build, healthy, the same vector, not root, a clean stop. Needs a Docker engine.

Not part of ``make test``: run ``make container-test``, where no registry can be reached with BASE_IMAGE in the
environment.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator

import numpy as np
import pytest

from layertap import Client
from tests.paths import EXAMPLE_PHOTO, MODEL, MODELS, ROOT
from tests.processes import running_server

COMPOSE = shutil.which("docker-compose") or ""
ENGINE = bool(COMPOSE) and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
# Whoever names a base image means it: then a missing engine is a failure.
pytestmark = pytest.mark.skipif(not ENGINE and "BASE_IMAGE" not in os.environ, reason="no Docker engine runs here")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Project:
    """One docker-compose project on ports of its own."""

    def __init__(self) -> None:
        self.port = free_port()
        self._environment = {
            **os.environ,
            "COMPOSE_PROJECT_NAME": f"layertap-test-{self.port}",
            "LAYERTAP_PORT": str(self.port),
            "LAYERTAP_METRICS_PORT": str(free_port()),
        }

    def compose(self, *arguments: str) -> str:
        done = subprocess.run(
            [COMPOSE, *arguments], cwd=ROOT, env=self._environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def container(self) -> str:
        return self.compose("ps", "-q", "layertap").strip()

    def inspect(self, template: str) -> str:
        done = subprocess.run(
            ["docker", "inspect", "-f", template, self.container()], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def wait_until_healthy(self) -> None:
        for _ in range(90):
            if self.inspect("{{.State.Health.Status}}") == "healthy":
                return
            time.sleep(1)
        raise AssertionError(self.compose("logs"))


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    project = Project()
    project.compose("up", "--build", "-d")
    try:
        project.wait_until_healthy()
        yield project
    finally:
        project.compose("down", "--timeout", "40")


def test_the_same_photograph_gives_the_same_vector(project: Project) -> None:
    with Client(f"127.0.0.1:{project.port}") as client:
        inside = client.extract(EXAMPLE_PHOTO, model=MODEL, taps="embedding")["embedding"]
    with running_server(models=MODELS) as process, Client(process.address) as client:
        outside = client.extract(EXAMPLE_PHOTO, model=MODEL, taps="embedding")["embedding"]
    np.testing.assert_allclose(inside, outside, rtol=0, atol=1e-4 * float(np.abs(outside).max()))


def test_it_runs_as_nobody_in_particular(project: Project) -> None:
    done = subprocess.run(
        ["docker", "exec", project.container(), "id", "-u"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "10001"


def test_it_stops_by_itself_within_its_grace(project: Project) -> None:
    project.compose("stop")
    assert project.inspect("{{.State.ExitCode}}") == "0"
    project.compose("start")
    project.wait_until_healthy()
