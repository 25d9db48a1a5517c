"""Test the SDK with the oldest libraries that it allows and with each protobuf, against the current server."""

from __future__ import annotations

import subprocess
import sys
import tomllib
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
STORAGE_PROGRAM = """
from pathlib import Path
import numpy as np
from layertap import FeatureMap, Features
from layertap.storage import BULK_SUFFIXES
from layertap.storage.bulk import BulkWriter
from layertap.storage.index import Run

for suffix in BULK_SUFFIXES:
    whole = Features((FeatureMap("q", np.arange(6.0).reshape(2, 3), "conv"),), paths=("a.jpg", "b.jpg"))
    whole.save(f"saved{suffix}")
    assert (Features.load(f"saved{suffix}")["q"] == whole["q"]).all()
    for images in ("a.jpg", "b.jpg"), ("c.jpg",):
        with BulkWriter.open_or_resume(Path(f"bulk{suffix}"), Run("model", "1", ("q",))) as writer:
            for path in images:
                writer.append(path, Features((FeatureMap("q", np.zeros((1, 3), np.float16), "conv"),), taps=("q",)))
    assert Features.load(f"bulk{suffix}").paths == ("a.jpg", "b.jpg", "c.jpg")
print("ok", len(BULK_SUFFIXES))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and return its path."""
    folder = tmp_path_factory.mktemp("wheel")
    quiet = ["--quiet", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *quiet, "--no-deps", "-w", folder, ROOT], check=True)
    return next(folder.glob("*.whl"))


def run_in_environment(folder: Path, requirements: list[str], program: str, *arguments: str) -> str:
    """Run a program in an environment with only these packages; return its output."""
    venv.create(folder / "env")
    python = str(folder / "env" / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *requirements], check=True)
    done = subprocess.run(
        [python, "-W", "error", "-c", program, *arguments], capture_output=True, text=True, check=False, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("requirements", SETS.values(), ids=SETS)
def test_it_works_with(requirements: list[str], wheel: Path, server: ServerProcess, tmp_path: Path) -> None:
    requirements = [str(wheel), *requirements]
    printed = run_in_environment(tmp_path, requirements, PROGRAM, server.address, str(EXAMPLE_PHOTO), MODEL)
    assert printed == "ok (1, 112)\n"


def test_its_formats_work_with_the_oldest_libraries(wheel: Path, tmp_path: Path) -> None:
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["storage"]
    requirements = [str(wheel), *(requirement.replace(">=", "==") for requirement in extra)]
    assert run_in_environment(tmp_path, requirements, STORAGE_PROGRAM) == "ok 3\n"
