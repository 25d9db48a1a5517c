"""Provide a server on CUDA and one on the CPU; all tests are skipped without a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from layertap import Client
from layertap_server.runtime import DeviceError, devices_for
from tests.paths import MODELS
from tests.processes import running_server


@pytest.fixture(scope="session")
def cuda() -> Iterator[Client]:
    """Return a client of a server on the first GPU."""
    try:
        devices_for("cuda")
    except DeviceError as error:
        pytest.skip(str(error))
    # Of a repeated flag the last value counts.
    with running_server("--device", "cuda", models=MODELS) as server, Client(server.address, timeout_seconds=120) as it:
        yield it
