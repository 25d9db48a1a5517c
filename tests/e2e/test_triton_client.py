"""Test the Open Inference Protocol with an unmodified tritonclient, in an environment of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layertap import Client
from tests.paths import EXAMPLE_PHOTO, MODEL, MODELS, ROOT
from tests.processes import ServerProcess, running_server

PROGRAM = ROOT / "tests" / "triton_program.py"
CHECKS = re.findall(r"^@check\ndef (\w+)", PROGRAM.read_text(), re.MULTILINE)
FLAGS = ("--control", "--system-shared-memory", "--triton-metrics", "--reflection")


@pytest.fixture(scope="module")
def triton_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the Python of an environment with tritonclient, whose protobuf is older than Layertap's; skip without."""
    folder = tmp_path_factory.mktemp("tritonclient")
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    command = [python, "-m", "pip", "install", "--quiet", "tritonclient[grpc]>=2.60", "protobuf<7"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    if ended.returncode:
        pytest.skip(f"tritonclient cannot be installed: {ended.stderr[-200:]}")
    return python


@pytest.fixture(scope="module")
def open_server() -> Iterator[ServerProcess]:
    """Start a server that permits everything that the protocol has."""
    with running_server(*FLAGS, models=MODELS) as process:
        yield process


@pytest.fixture(scope="module")
def outcomes(triton_python: str, open_server: ServerProcess) -> dict[str, dict[str, Any]]:
    """Run the program and return the outcome of each check."""
    command = [triton_python, str(PROGRAM), open_server.address, str(EXAMPLE_PHOTO)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert ended.returncode == 0, ended.stderr
    return {line["check"]: line for line in map(json.loads, ended.stdout.splitlines())}


@pytest.mark.parametrize("check", CHECKS)
def test_each_method_works(outcomes: dict[str, dict[str, Any]], check: str) -> None:
    assert "error" not in outcomes[check], outcomes[check]["error"]


def test_the_same_image_gives_the_same_bytes(outcomes: dict[str, dict[str, Any]], open_server: ServerProcess) -> None:
    with Client(open_server.address) as client:
        native = client.extract(Path(EXAMPLE_PHOTO), model=MODEL, taps="stage:4 | gap | l2").maps[0].array
    for check in ("infer_encoded_images", "aio_infer"):
        np.testing.assert_array_equal(np.array(outcomes[check]["value"], np.float32), native[0])


def test_statistics_agree_with_the_metrics(outcomes: dict[str, dict[str, Any]], open_server: ServerProcess) -> None:
    """Compare the counts at the time of the check with those that later requests can only have increased."""
    statistics = outcomes["get_inference_statistics"]["value"]
    metrics = open_server.metrics()
    stats = statistics["inference_stats"]
    for name, count in (
        ("nv_inference_request_success", stats["success"]["count"]),
        ("nv_inference_count", statistics["inference_count"]),
        ("nv_inference_exec_count", statistics["execution_count"]),
    ):
        match = re.search(rf'^{name}{{model="{MODEL}",version="1"}} (\S+)', metrics, re.MULTILINE)
        assert match, name
        assert 0 < int(count) <= float(match[1])


def test_the_documented_example_runs(triton_python: str, open_server: ServerProcess) -> None:
    text = (ROOT / "docs" / "protocol.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    command = [triton_python, "-c", example.replace("localhost:8001", open_server.address)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT)
    assert ended.stdout.strip() == "(1, 112)", ended.stderr


def test_the_sdk_does_not_register_the_protocol() -> None:
    """Import the SDK and the server, and find none of the protocol's messages in protobuf's default pool."""
    program = """
import layertap, layertap_server.rpc.oip.service
from google.protobuf import descriptor_pool
try:
    descriptor_pool.Default().FindMessageTypeByName("inference.ServerLiveRequest")
except KeyError:
    print("absent")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "absent"
