"""The SDK with the oldest libraries that it names and with each protobuf that it supports, against today's server."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.paths import EXAMPLE_PHOTO, MODEL, ROOT
from tests.processes import ServerProcess

SETS = {
    "the oldest, protobuf 5": [
        "grpcio==1.64.3",
        "protobuf==5.26.1",
        "numpy==1.26.4",
        "googleapis-common-protos==1.63.1",
    ],
    "protobuf 6": ["protobuf==6.33.5"],
    "protobuf 7": ["protobuf>=7,<8"],
}
PROGRAM = """
import asyncio, sys
from layertap import AsyncClient, Client, errors

address, photo, model = sys.argv[1:]
TAPS = ["stage:2", "stage:4 | gap | l2 -> signature"]

async def twin():
    async with AsyncClient(address) as client:
        features = await client.extract(photo, model=model, taps=TAPS)
        items = [item async for item in client.extract_many([photo] * 3, model=model, taps=TAPS)]
        return features, items, await client.layers(model, "op:Add")

with Client(address) as client:
    features = client.extract(photo, model=model, taps=TAPS)
    items = list(client.extract_many([photo] * 3, model=model, taps=TAPS))
    layers = client.layers(model, "op:Add")
    assert client.models() and client.blocks() and client.preview(model=model, taps=TAPS).total_bytes
    assert client.inspect(photo, model=model)
    assert client.apply_blocks(features["stage:2"], "relu | gap").shape == (1, 24)
    for _ in range(2):
        large = client.extract(photo, model=model, taps="all:activations")
    assert len(large) == 33
    try:
        client.extract(photo, model=model, taps="embeding")
    except errors.UnknownLayerError as error:
        assert "embedding" in error.suggestions, error
others, twins, twin_layers = asyncio.run(twin())
assert (features["signature"] == others["signature"]).all() and layers == twin_layers
assert [item.id for item in items] == [item.id for item in twins] and not any(item.error for item in items + twins)
print("ok", features["signature"].shape)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    quiet = ["--quiet", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *quiet, "--no-deps", "-w", folder, ROOT], check=True)
    return next(folder.glob("*.whl"))


@pytest.mark.parametrize("requirements", SETS.values(), ids=SETS)
def test_it_works_with(requirements: list[str], wheel: Path, server: ServerProcess, tmp_path: Path) -> None:
    venv.create(tmp_path / "env")
    python = str(tmp_path / "env" / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, str(wheel), *requirements], check=True)
    done = subprocess.run(
        [python, "-W", "error", "-c", PROGRAM, server.address, EXAMPLE_PHOTO, MODEL],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "ok (1, 112)\n"), done.stderr
