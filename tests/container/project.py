"""Run docker-compose for real."""

from __future__ import annotations

import os
import shutil
import subprocess
import time

import pytest

from tests.paths import ROOT
from tests.processes import free_port

COMPOSE = shutil.which("docker-compose") or ""
ENGINE = bool(COMPOSE) and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
# An explicit base image requests the test, so a missing engine is a failure then.
needs_engine = pytest.mark.skipif(not ENGINE and "BASE_IMAGE" not in os.environ, reason="no Docker engine runs here")


def docker(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run docker."""
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=check)


class Project:
    """One docker-compose project of one profile on ports of its own."""

    def __init__(self, profile: str, **environment: str) -> None:
        """Choose free ports and the environment of the project."""
        self.port, self.metrics_port = free_port(), free_port()
        self._environment = {
            **os.environ,
            "COMPOSE_PROJECT_NAME": f"layertap-test-{self.port}",
            "COMPOSE_PROFILES": profile,
            "LAYERTAP_PORT": str(self.port),
            "LAYERTAP_METRICS_PORT": str(self.metrics_port),
            **environment,
        }

    @property
    def address(self) -> str:
        """Return the address of the service."""
        return f"127.0.0.1:{self.port}"

    def compose(self, *arguments: str) -> str:
        """Run docker-compose and return its output."""
        done = subprocess.run(
            [COMPOSE, *arguments], cwd=ROOT, env=self._environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def containers(self, service: str) -> list[str]:
        """Return the ids of a service's containers."""
        return self.compose("ps", "-q", service).split()

    def wait_until_healthy(self, *services: str) -> None:
        """Wait until every container of these services is healthy."""
        for _ in range(90):
            containers = [container for service in services for container in self.containers(service)]
            states = {inspect(container, "{{.State.Health.Status}}") for container in containers}
            if states == {"healthy"}:
                return
            time.sleep(1)
        raise AssertionError(self.compose("logs"))

    def down(self) -> None:
        """Stop the project and delete its volumes."""
        self.compose("down", "--volumes", "--timeout", "40")


def inspect(container: str, template: str) -> str:
    """Return a property of a container."""
    return docker("inspect", "-f", template, container).stdout.strip()
