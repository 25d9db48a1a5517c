"""Provide fixtures that several folders share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from PIL import Image

from layertap import Client
from layertap.types import Array
from tests.paths import MODELS, PHOTOS
from tests.processes import ServerProcess, running_server
from tests.sweeps import EXAMPLES, IS_SWEEP, mark_slow

settings.register_profile(
    "layertap",
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("layertap")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the sweeps, unless they are asked for."""
    mark_slow(items)
    if IS_SWEEP:
        return
    left_out = [item for item in items if item.get_closest_marker("sweep")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("sweep")]


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """Start one server with the bundled models for all tests of a worker that only send requests."""
    with running_server("--reflection", models=MODELS) as process:
        yield process


@pytest.fixture(scope="session")
def client(server: ServerProcess) -> Iterator[Client]:
    """Return a client of the shared server."""
    with Client(server.address) as connected:
        yield connected


@pytest.fixture(scope="session")
def cat() -> Array:
    """Return a photograph as uint8 H×W×3."""
    with Image.open(PHOTOS / "chelsea.png") as image:
        return np.asarray(image.convert("RGB"))
