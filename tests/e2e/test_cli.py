"""Test the command line with a real server process, and with ``--local``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from PIL import Image

from tests.paths import EXAMPLE_PHOTO, MODEL, MODELS, ROOT
from tests.processes import ServerProcess, free_port


def layertap(*arguments: str | Path, status: int = 0) -> str:
    """Run a command and return its output; if it is expected to fail, return its one line of standard error."""
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
        assert shapes == {"signature": (2, 112), "stage:1": (2, 16, 112, 112), "path": (2,)}
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
    assert row == {"name": "embedding", "shape": "1×1280", "dtype": "float32", "layer": "pooled"}
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
    assert text.splitlines()[0].split()[:6] == ["#", "layer", "op", "stage", "block", "shape"]
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
        (["extract", EXAMPLE_PHOTO, "-m", MODEL, "-o", "."], "expected --out to name a file"),
        (["layers", MODEL, "stage:9"], "from stage:1 to stage:5"),
        (["blocks", "sofmax"], "did you mean softmax"),
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
    assert "expected an integer of 1 or more" in layertap_usage(
        "bench", EXAMPLE_PHOTO, "--model", MODEL, "--callers", "0"
    )


def layertap_usage(*arguments: str | Path) -> str:
    """Return the message for wrong usage."""
    command = [sys.executable, "-m", "layertap.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    return done.stderr


def test_nobody_serves() -> None:
    assert "127.0.0.1:1" in layertap("models", "--server", "127.0.0.1:1", "--timeout", "3", status=1)


def test_local_without_models(tmp_path: Path) -> None:
    assert "does not exist" in layertap("models", "--local", "--models", tmp_path / "gone", status=1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["extract"], "required"),
        (["nothing"], "invalid choice"),
        (["show", EXAMPLE_PHOTO, "-m", MODEL, "-t", "stage:1", "--channels", "0"], "expected an integer of 1 or more"),
        (["show", EXAMPLE_PHOTO, "-m", MODEL], "--as grid needs --tap"),
        (["show", EXAMPLE_PHOTO, EXAMPLE_PHOTO, "-m", MODEL, "--as", "strip"], "--as strip draws one image"),
        (["show", *[EXAMPLE_PHOTO] * 21, "-m", MODEL, "-t", "stage:1"], "at most 20 images, got 21"),
        (["models", "--timeout", "0"], "above 0, got 0"),
        (["preview", "-m", MODEL, "--count", "-3"], "expected an integer of 1 or more"),
        (["compare", EXAMPLE_PHOTO, "-m", "a", "-m", "b", "-m", "c"], "expected --model once"),
        (["compare", EXAMPLE_PHOTO, "-m", MODEL], "one model needs exactly two images"),
        (["models", "--load"], "need the name of a model"),
    ],
)
def test_wrong_usage_is_status_2(arguments: list[str | Path], words: str) -> None:
    """Expect the error without any request to a server."""
    told = layertap_usage(*arguments)
    assert words in told
    assert "Traceback" not in told


def command_line(
    *arguments: str, stdout: IO[bytes] | int = subprocess.PIPE, **environment: str
) -> tuple[int, str, str]:
    """Run a command; return its status, standard output and standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "layertap.cli", *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
        check=False,
    )
    return done.returncode, (done.stdout or b"").decode("latin-1"), done.stderr.decode()


def test_a_full_disk_is_one_line() -> None:
    with Path("/dev/full").open("wb") as full:
        assert command_line("blocks", stdout=full)[::2] == (1, "layertap: No space left on device\n")


def test_a_reader_that_went_away_is_told_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert command_line("blocks", stdout=writer)[::2] == (1, "")
    finally:
        os.close(writer)


def test_a_full_disk_for_the_text_is_not_blamed_on_the_features(server: ServerProcess, tmp_path: Path) -> None:
    out = tmp_path / "features.npz"
    with Path("/dev/full").open("wb") as full:
        words = ["extract", str(EXAMPLE_PHOTO), "-m", MODEL, "-o", str(out), "--server", server.address]
        assert command_line(*words, stdout=full)[::2] == (1, "layertap: No space left on device\n")
    assert out.exists()


def test_closed_streams() -> None:
    """Start the command with closed streams, as a service manager may."""
    shell = f'"{sys.executable}" -m layertap.cli "$@" >&- 2>&-'
    for words, status in ((["blocks"], 0), (["blocks", "nothing"], 1)):
        assert subprocess.run(["sh", "-c", shell, "sh", *words], check=False).returncode == status


def test_a_file_whose_name_is_no_unicode_is_drawn(server: ServerProcess, tmp_path: Path) -> None:
    path = tmp_path / "\udcff日本.jpg"
    path.write_bytes(EXAMPLE_PHOTO.read_bytes())
    out = tmp_path / "maps.png"
    words = ["show", str(path), "-m", MODEL, "-t", "stage:5", "-o", str(out), "--server", server.address]
    status, _, error = command_line(*words)
    assert (status, error) == (0, "")
    assert out.exists()


def test_terminals_that_are_not_utf8(server: ServerProcess) -> None:
    status, text, error = command_line("models", MODEL, "--server", server.address, PYTHONIOENCODING="ascii")
    assert (status, error) == (0, "")
    assert "N?3?224?224" in text
    status, text, error = command_line("blocks", "gem", "--json", PYTHONIOENCODING="ascii")
    assert (status, error) == (0, "")
    assert json.loads(text) == json.loads(layertap("blocks", "gem", "--json"))


def test_an_argument_that_is_no_utf8(server: ServerProcess) -> None:
    wrong = os.fsdecode(b"stage\xff")
    status, _, error = command_line("layers", MODEL, wrong, "--server", server.address)
    assert (status, error) == (1, f"layertap: an argument is not valid UTF-8: {wrong!r}\n")


def test_folders_are_searched_by_every_command(server: ServerProcess, tmp_path: Path) -> None:
    for name in ("a.png", "deep/b.png", ".hidden.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 20), "red").save(tmp_path / name)
    address = ["-m", MODEL, "--server", server.address]
    out = tmp_path / "maps.pdf"
    shown = json.loads(layertap("show", tmp_path, *address, "-t", "stage:1", "--json", "--out", out))
    assert shown["images"] == 2
    assert json.loads(layertap("inspect", tmp_path, *address, "--layers", "stage:1", "--json"))
    (layer,) = json.loads(layertap("compare", tmp_path, *address, "--layers", "stage:1", "--json"))
    assert layer["relative_l2"] == 0


def told(*arguments: str | Path, status: int = 0) -> str:
    """Return what a command writes to standard error."""
    got, _, error = command_line(*map(str, arguments))
    assert got == status, error
    return error


def test_layers_that_a_head_does_not_fit_are_told(server: ServerProcess, tmp_path: Path) -> None:
    address = ["-m", MODEL, "--server", server.address]
    expected = "layertap: 2 layers skipped because the head does not fit them"
    commands: list[list[str | Path]] = [
        ["extract", EXAMPLE_PHOTO, "-t", "all | gap", "-o", tmp_path / "x.npz"],
        ["extract", tmp_path, "-t", "all | gap", "-o", tmp_path / "x.zarr"],
        ["preview", "-t", "all | gap"],
    ]
    for words in commands:
        Image.new("RGB", (20, 20), "red").save(tmp_path / "a.png")
        error = told(*words, *address)
        assert expected in error
        assert "  pooled, logits: gap needs" in error or ("  pooled: gap needs" in error and "  logits: " in error)
        assert "skipped, which" not in told(*words, *address, "--quiet")
    (found,) = (json.loads(layertap("preview", "-t", "all | gap", *address, "--json"))["skipped"],)
    assert [item["layer"] for item in found] == ["pooled", "logits"]
    error = layertap("extract", EXAMPLE_PHOTO, "-t", "logits | gap", *address, status=1)
    assert "gap needs" in error


def test_quiet_leaves_results_and_errors(server: ServerProcess, tmp_path: Path) -> None:
    address = ["-m", MODEL, "--server", server.address]
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (20, 20), "red").save(tmp_path / "photos" / "a.png")
    (tmp_path / "photos" / "notes.txt").write_text("none")
    one: list[str | Path] = ["extract", EXAMPLE_PHOTO, "-t", "stage:1", "-o", tmp_path / "x.npz", *address]
    bulk: list[str | Path] = [
        "extract",
        tmp_path / "photos",
        "-t",
        "stage:1 | gap",
        "-o",
        tmp_path / "x.zarr",
        *address,
    ]
    figure: list[str | Path] = ["show", tmp_path / "photos", "-t", "stage:1", "-o", tmp_path / "maps.png", *address]
    for words in (one, bulk, figure):
        assert command_line(*map(str, words), "-q") == (0, "", "")
    assert "1 not recognized as an image" in told(*bulk)
    assert "multiply-accumulates" not in layertap("layers", MODEL, "--server", server.address, "-q")
    assert "stem.conv" in layertap("layers", MODEL, "--server", server.address, "-q")
    assert told("models", "nothing", "--server", server.address, "-q", status=1).startswith("layertap: ")


def test_every_command_names_the_image_that_is_bad(server: ServerProcess, tmp_path: Path) -> None:
    bad, empty = tmp_path / "half.jpg", tmp_path / "empty.jpg"
    bad.write_bytes(EXAMPLE_PHOTO.read_bytes()[:20_000])
    empty.touch()
    address = ["-m", MODEL, "--server", server.address]
    for file, words in ((bad, "the image is truncated: it ends after 20000 bytes"), (empty, "empty")):
        commands: list[list[str | Path]] = [
            ["extract", EXAMPLE_PHOTO, file, "-t", "stage:1"],
            ["show", EXAMPLE_PHOTO, file, "-t", "stage:1", "-o", tmp_path / "maps.png"],
            ["bench", EXAMPLE_PHOTO, file, "-t", "stage:1", "--count", "2", "--callers", "2"],
            ["inspect", EXAMPLE_PHOTO, file],
            ["compare", EXAMPLE_PHOTO, file],
            ["compare", EXAMPLE_PHOTO, file, "-m", MODEL],
        ]
        for command in commands:
            error = layertap(*command, *address, status=1)
            assert error.startswith(f"layertap: {file}: ")
            assert words in error
    layertap("extract", tmp_path, "-t", "stage:1 | gap", "-o", tmp_path / "x.zarr", *address, status=1)
    rows = [json.loads(line) for line in (tmp_path / "x.zarr.errors.jsonl").read_text().splitlines()]
    assert {Path(row["path"]).name: "truncated" in row["message"] for row in rows} == {
        "half.jpg": True,
        "empty.jpg": False,
    }


def test_inspect_of_too_many_images_says_what_to_do(server: ServerProcess) -> None:
    error = layertap("inspect", ROOT / "examples/images/digits", "-m", MODEL, "--server", server.address, status=1)
    assert "of at most 64 images; there are 100" in error
    assert "--max-images 100" in error


def test_the_cost_of_a_few_layers(server: ServerProcess) -> None:
    address = ["-m", MODEL, "--server", server.address]
    assert "10.8 million multiply-accumulates" in layertap("preview", "-t", "#1", *address)
    assert ", 0 multiply-accumulates per image" in layertap("preview", "-t", "#0", *address)


def test_the_preprocessing_of_a_model_says_no_more_than_it_does(server: ServerProcess) -> None:
    assert "pixel / 255" in layertap("models", "gabor_energy", "--server", server.address)


def test_serve_quietly(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*command_of_server(tmp_path), "--quiet"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        port = tmp_path.joinpath("port").read_text()
        layertap("models", "--server", f"127.0.0.1:{port}", "--wait", "60")
        process.terminate()
        assert process.communicate(timeout=60) == ("", "")
        assert process.returncode == 0


def command_of_server(folder: Path) -> list[str]:
    """Return the command ``layertap serve`` on a free port, which it writes to a file in the folder."""
    port = str(free_port())
    folder.joinpath("port").write_text(port)
    ports = ["--port", port, "--metrics-port", "-1"]
    return [sys.executable, "-m", "layertap.cli", "serve", "--models", str(MODELS), "--device", "cpu", *ports]
