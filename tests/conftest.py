"""Fixtures that several folders use."""

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

settings.register_profile(
    "layertap", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("layertap")


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """One server process with the models that ship, for every test of a worker that only asks."""
    with running_server("--reflection", models=MODELS) as process:
        yield process


@pytest.fixture(scope="session")
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.address) as connected:
        yield connected


@pytest.fixture(scope="session")
def cat() -> Array:
    with Image.open(PHOTOS / "chelsea.png") as image:
        return np.asarray(image.convert("RGB"))
