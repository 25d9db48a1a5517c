"""Test that a Node.js program, whose protobuf library does not merge fields, reads the same features as the SDK."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layertap import Client
from tests.odd_models import MODELS
from tests.paths import EXAMPLE_PHOTO, MODEL, ROOT
from tests.processes import ServerProcess, running_server

EXAMPLE = ROOT / "examples" / "node"
BUILD = ROOT / "build" / "node"
"""Folder in which `make node` installs the example's packages."""
SMALL, LARGE = ["stage:4 | gap", "stage:5 | gap | l2 -> signature"], ["stage:1", "stage:5 | gap | l2 -> signature"]


@pytest.fixture(scope="module")
def node() -> str:
    """Return the path of Node.js, or skip if it or the example's packages are missing."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("Node.js is not installed")
    if not (BUILD / "node_modules" / "@grpc" / "grpc-js").is_dir():
        pytest.skip("the example's packages are not installed: make node")
    return program


def run(node: str, address: str, taps: list[str], model: str = MODEL) -> dict[str, Any]:
    """Run the example and return the features that it reads."""
    command = [node, str(EXAMPLE / "extract.js"), address, model, str(EXAMPLE_PHOTO), *taps]
    environment = {**os.environ, "NODE_PATH": str(BUILD / "node_modules")}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    read: dict[str, Any] = json.loads(ended.stdout)
    return read


@pytest.mark.parametrize("taps", [SMALL, LARGE], ids=["one result", "chunks"])
@pytest.mark.parametrize("way", ["unary", "stream"])
def test_names_shapes_and_values(node: str, server: ServerProcess, client: Client, taps: list[str], way: str) -> None:
    expected = client.extract(Path(EXAMPLE_PHOTO), model=MODEL, taps=taps)
    features = run(node, server.address, taps)[way]
    assert [feature["name"] for feature in features] == list(expected)
    for feature, wanted in zip(features, expected.maps, strict=True):
        assert feature["dtype"] == "DATA_TYPE_FLOAT32"
        assert (feature["layer"], tuple(feature["shape"])) == (wanted.layer, wanted.array.shape)
        np.testing.assert_array_equal(np.array(feature["values"], np.float32), wanted.array.ravel())


def test_half_precision(node: str, tmp_path: Path) -> None:
    """Node.js has no array of float16."""
    MODELS["half"].write(tmp_path, "half")
    with running_server(models=tmp_path) as server, Client(server.address) as client:
        expected = client.extract(Path(EXAMPLE_PHOTO), model="half", taps="act")["act"]
        read = run(node, server.address, ["act"], "half")
    assert expected.dtype == np.float16
    for way in ("unary", "stream"):
        (feature,) = read[way]
        assert feature["dtype"] == "DATA_TYPE_FLOAT16"
        np.testing.assert_array_equal(np.array(feature["values"], np.float16), expected.ravel())
