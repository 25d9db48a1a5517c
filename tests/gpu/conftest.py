"""A server on CUDA beside one on the CPU; without a GPU nothing here runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from layertap import Client
from layertap_server.runtime import DeviceError, devices_for
from tests.paths import MODELS
from tests.processes import running_server


@pytest.fixture(scope="session")
def cuda() -> Iterator[Client]:
    """A client of a server on the first GPU."""
    try:
        devices_for("cuda")
    except DeviceError as error:
        pytest.skip(str(error))
    # Flags that are given twice: the last one counts.
    with running_server("--device", "cuda", models=MODELS) as server, Client(server.address, timeout_seconds=120) as it:
        yield it
