"""The command line, against a real server process and with a server of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.paths import EXAMPLE_PHOTO, MODEL, MODELS
from tests.processes import ServerProcess


def layertap(*arguments: str | Path, status: int = 0) -> str:
    """Runs a command and returns what it printed; where it must fail, its one line on stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "layertap.cli", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    if status == 1:
        assert done.stderr.startswith("layertap: ")
        assert done.stderr.count("\n") == 1
        return done.stderr
    return done.stdout


def test_extract(server: ServerProcess, tmp_path: Path) -> None:
    out = tmp_path / "new" / "features.npz"
    text = layertap(
        "extract", EXAMPLE_PHOTO, EXAMPLE_PHOTO, "--model", MODEL, "--tap", "stage:4 | gap | l2 -> signature",
        "--tap", "stage:1", "--out", out, "--server", server.address,
    )  # fmt: skip
    with np.load(out) as saved:
        shapes = {name: saved[name].shape for name in saved}
        assert shapes == {"signature": (2, 112), "blocks.0": (2, 16, 112, 112), "path": (2,)}
        assert saved["path"].tolist() == [str(EXAMPLE_PHOTO)] * 2
    assert "signature" in text
    assert "2×112" in text


def test_extract_one_array(server: ServerProcess, tmp_path: Path) -> None:
    out = tmp_path / "vectors.npy"
    arguments: list[str | Path] = [
        "extract",
        EXAMPLE_PHOTO,
        "-m",
        MODEL,
        "-t",
        "embedding",
        "--server",
        server.address,
        "--json",
    ]
    (row,) = json.loads(layertap(*arguments, "-o", out))
    assert row == {"name": "pooled", "shape": "1×1280", "dtype": "float32", "layer": "pooled"}
    assert np.load(out).shape == (1, 1280)


def test_a_server_of_its_own(server: ServerProcess, tmp_path: Path) -> None:
    arguments: list[str | Path] = ["extract", EXAMPLE_PHOTO, "-m", MODEL, "-t", "embedding", "-o"]
    layertap(*arguments, tmp_path / "local.npy", "--local", "--models", MODELS)
    layertap(*arguments, tmp_path / "remote.npy", "--server", server.address)
    np.testing.assert_allclose(np.load(tmp_path / "local.npy"), np.load(tmp_path / "remote.npy"), rtol=1e-5)


def test_models(server: ServerProcess) -> None:
    assert MODEL in layertap("models", "--server", server.address)
    text = layertap("models", MODEL, "--server", server.address)
    assert "1: blocks.0" in text
    assert json.loads(layertap("models", MODEL, "--json", "--server", server.address))[0]["labels"][967] == "espresso"


def test_layers(server: ServerProcess) -> None:
    text = layertap("layers", MODEL, "--server", server.address)
    assert text.splitlines()[0].split()[:4] == ["#", "layer", "op", "shape"]
    assert "143 layers" in text
    layers = json.loads(layertap("layers", MODEL, "stage:1", "--json", "--server", server.address))
    assert [layer["name"] for layer in layers] == ["blocks.0"]


def test_blocks_need_no_server() -> None:
    assert "max_pool(kernel" in layertap("blocks")
    assert "at least 1" in layertap("blocks", "max_pool")
    assert json.loads(layertap("blocks", "gem", "--json"))[0]["parameters"][0]["default"] == 3.0


@pytest.mark.parametrize("taps", [["stage:2"], ["stage:1", "stage:4 | gap -> vector", "stem.conv"]])
def test_show(server: ServerProcess, tmp_path: Path, taps: list[str]) -> None:
    out = tmp_path / "maps.png"
    flags = [item for tap in taps for item in ("--tap", tap)]
    layertap("show", EXAMPLE_PHOTO, "-m", MODEL, *flags, "--out", out, "--server", server.address)
    with Image.open(out) as picture:
        assert picture.format == "PNG"
        assert picture.width > 800
        assert len(picture.convert("RGB").getcolors(2**24) or ()) > 1000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["extract", "gone.jpg", "-m", MODEL], "gone.jpg: No such file"),
        (["extract", EXAMPLE_PHOTO, "-m", "efficientnet"], f"did you mean {MODEL}?"),
        (["extract", EXAMPLE_PHOTO, "-m", MODEL, "-t", "stage:1 |"], "position 9"),
        (["extract", EXAMPLE_PHOTO, "-m", MODEL, "-o", "x.zip"], ".npz, .npy"),
        (["extract", EXAMPLE_PHOTO, "-m", MODEL, "-t", "op:Add", "-o", "/tmp/x.npy"], "holds one result"),
        (["extract", EXAMPLE_PHOTO, "-m", MODEL, "-o", "/proc/x.npz"], "/proc/x.npz"),
        (["layers", MODEL, "stage:9"], "from stage:1 to stage:5"),
        (["blocks", "sofmax"], "did you mean softmax"),
        (["show", EXAMPLE_PHOTO, "-m", MODEL, "-t", "stage:1", "--channels", "0"], "at least 1"),
    ],
)
def test_an_error_is_one_clear_line(server: ServerProcess, arguments: list[str], words: str) -> None:
    address = [] if arguments[0] == "blocks" else ["--server", server.address]
    assert words in layertap(*arguments, *address, status=1)


def test_bench(server: ServerProcess) -> None:
    options = ["--model", MODEL, "--tap", "stage:1 | gap", "--callers", "2", "--count", "6", "--server", server.address]
    assert "calls/s" in layertap("bench", EXAMPLE_PHOTO, *options)
    measured = json.loads(layertap("bench", EXAMPLE_PHOTO, *options, "--json"))
    assert (measured["callers"], measured["calls"]) == (2, 6)
    assert 0 < measured["server_p50_ms"] < measured["p50_ms"] <= measured["p99_ms"]
    assert "No such file" in layertap("bench", "nowhere.jpg", *options, status=1)
    assert "no number from 1 on" in layertap_usage("bench", EXAMPLE_PHOTO, "--model", MODEL, "--callers", "0")


def layertap_usage(*arguments: str | Path) -> str:
    """What wrong usage is told."""
    command = [sys.executable, "-m", "layertap.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    return done.stderr


def test_nobody_serves() -> None:
    assert "127.0.0.1:1" in layertap("models", "--server", "127.0.0.1:1", "--timeout", "3", status=1)


def test_local_without_models(tmp_path: Path) -> None:
    assert "does not exist" in layertap("models", "--local", "--models", tmp_path / "gone", status=1)


def test_wrong_usage_is_status_2() -> None:
    layertap("extract", status=2)
    layertap("nothing", status=2)
