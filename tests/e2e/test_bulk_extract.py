"""Test ``layertap extract`` over folders with a real server: the command is interrupted and repeated.

``LAYERTAP_BULK_IMAGES`` sets the number of images (default: 700).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from layertap import Client, Features, _bulk
from layertap.cli import main
from layertap.storage import BULK_SUFFIXES, bulk
from layertap.storage.index import index_path, read_index
from tests.paths import MODEL
from tests.processes import ServerProcess, running_server

COUNT = int(os.environ.get("LAYERTAP_BULK_IMAGES", "700"))
TAPS = ["stem | max_pool(8) -> maps", 'stage:1 | gap -> "a/b vector"']
BROKEN_EVERY = 37
EARLY_COMMITS = """
import sys
from layertap import cli
from layertap.storage import bulk
bulk.COMMIT_ROWS = 16
sys.exit(cli.main(sys.argv[1:]))
"""
"""Program that runs the command with frequent commits, so that it can be interrupted early."""
FOLDERS = ["", "a folder", "ünï/çödé", "z/deep/deeper"]


def picture(number: int) -> bytes:
    """Return a small JPEG that differs from all others."""
    random = np.random.default_rng(number)
    file = io.BytesIO()
    Image.fromarray(random.integers(0, 255, (8, 8, 3), np.uint8)).resize((48, 40)).save(file, "JPEG")
    return file.getvalue()


def without_skips(error: str) -> list[str]:
    """Return the lines that do not count skipped files."""
    return [line for line in error.splitlines() if "skipped" not in line]


def make_images(folder: Path, count: int) -> tuple[list[str], list[str]]:
    """Write images, broken images and other files; return the sorted paths of good and of broken images."""
    good: list[str] = []
    broken: list[str] = []
    for number in range(count):
        place = folder / FOLDERS[number % len(FOLDERS)]
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"photo {number}{'.JPG' if number % 5 else ' é.jpeg'}"
        is_broken = number % BROKEN_EVERY == 3
        data = picture(number)
        path.write_bytes(data[: len(data) // 3] if is_broken else data)
        (broken if is_broken else good).append(str(path))
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.jpg").write_bytes(b"")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x.jpg").write_bytes(b"")
    return sorted(good), sorted(broken)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], list[str]]:
    """Write a folder of images; return it with the paths of good and of broken images."""
    folder = tmp_path_factory.mktemp("images") / "my photos"
    folder.mkdir()
    return folder, *make_images(folder, COUNT)


def command(server: ServerProcess, folder: Path, out: Path, *more: str, taps: list[str] = TAPS) -> list[str]:
    """Return a command line of ``layertap extract``."""
    flags = [word for tap in taps for word in ("--tap", tap)]
    address = ["--server", server.address]
    return [
        sys.executable,
        "-m",
        "layertap.cli",
        "extract",
        str(folder),
        "-m",
        MODEL,
        *flags,
        "-o",
        str(out),
        *address,
        *more,
    ]


def run(*words: str, status: int = 0) -> tuple[str, str]:
    """Run a command; return its standard output and standard error."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def committed_rows(out: Path) -> int:
    """Return the number of committed rows."""
    index = read_index(out) if index_path(out).exists() else None
    return index.rows if index else 0


def wait_for_rows(out: Path, is_running: Callable[[], bool]) -> None:
    """Wait until rows are committed."""
    while not committed_rows(out):
        assert is_running(), "it ended before it could be stopped"
        time.sleep(0.005)


def _hear_interrupts() -> None:
    """Restore SIGINT, which background processes of a script inherit as ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start_and_stop(words: list[str], out: Path, how: signal.Signals) -> tuple[int, str]:
    """Send the command a signal once rows are committed; return its status and standard error."""
    with subprocess.Popen(
        words,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_hear_interrupts,  # noqa: PLW1509 - the function takes no lock
    ) as process:
        try:
            wait_for_rows(out, lambda: process.poll() is None)
            process.send_signal(how)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, errors


def errors_of(out: Path) -> list[dict[str, str]]:
    """Return the entries of the error list."""
    return [json.loads(line) for line in out.with_name(f"{out.name}.errors.jsonl").read_text().splitlines()]


def assert_complete(out: Path, good: list[str], broken: list[str], client: Client) -> None:
    """Check that every good image has one row equal to `Client.extract`, and every broken image is listed."""
    features = Features.load(out)
    assert sorted(features.paths) == good
    assert sorted(item["path"] for item in errors_of(out)) == broken
    assert {item["reason"] for item in errors_of(out)} <= {"IMAGE_DECODE_FAILED"}
    assert all(item["message"] for item in errors_of(out))
    rows = {path: row for row, path in enumerate(features.paths)}
    for path in good[::7]:
        expected = client.extract(path, model=MODEL, taps=TAPS)
        assert list(expected) == list(features)
        for name, array in expected.items():
            np.testing.assert_array_equal(features[name][rows[path]], array[0])
    assert (features.model, features.version, features.taps) == (MODEL, "1", tuple(TAPS))


@pytest.mark.parametrize("suffix", BULK_SUFFIXES)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_stopped_and_started_again(
    server: ServerProcess,
    client: Client,
    images: tuple[Path, list[str], list[str]],
    tmp_path: Path,
    suffix: str,
    how: signal.Signals,
) -> None:
    folder, good, broken = images
    out = tmp_path / f"features{suffix}"
    words = command(server, folder, out)
    status, errors = start_and_stop([sys.executable, "-c", EARLY_COMMITS, *words[3:]], out, how)
    some = committed_rows(out)
    assert 0 < some < len(good)
    if how is signal.SIGINT:
        assert status == 130
        assert f"layertap: interrupted; {some} of {COUNT} images are in {out}" in errors
        assert "Traceback" not in errors
    text, warning = run(*words)
    assert f"{len(good)} images in {out}, {len(good) - some} of them new" in text
    assert f"{len(broken)} images could not be extracted" in warning
    assert_complete(out, good, broken, client)
    text, _ = run(*words)
    assert "0 of them new" in text
    assert_complete(out, good, broken, client)


def test_a_run_goes_on_from_another_folder(server: ServerProcess, tmp_path: Path) -> None:
    """Use two folders in which the same relative paths name different images."""
    for number, day in enumerate(("day1", "day2")):
        (tmp_path / day / "photos").mkdir(parents=True)
        for name in ("a.jpg", "b.jpg"):
            (tmp_path / day / "photos" / name).write_bytes(picture(2 * number + (name == "b.jpg")))
    words = command(server, Path("photos"), Path("..") / "all.zarr", taps=TAPS[1:])

    def told(folder: Path, words: list[str]) -> str:
        done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=folder)
        return done.stdout

    assert "2 images in ../all.zarr, 2 of them new" in told(tmp_path / "day1", words)
    assert "2 images in ../all.zarr, 0 of them new" in told(tmp_path / "day1", words)
    assert "4 images in ../all.zarr, 2 of them new" in told(tmp_path / "day2", words)
    everything = command(server, Path("day1"), Path("all.zarr"), taps=TAPS[1:])
    everything.insert(5, "day2")
    assert "4 images in all.zarr, 0 of them new" in told(tmp_path, everything)
    features = Features.load(tmp_path / "all.zarr")
    assert features.paths == ("photos/a.jpg", "photos/b.jpg", "../day2/photos/a.jpg", "../day2/photos/b.jpg")
    (tmp_path / "day1").rename(tmp_path / "moved")  # then paths are relative to the working directory
    assert "4 images in ../all.zarr, 0 of them new" in told(tmp_path / "moved", words)


def test_a_model_that_goes_away_is_no_fault_of_the_images(
    images: tuple[Path, list[str], list[str]], tmp_path: Path
) -> None:
    folder, _, _ = images
    out = tmp_path / "features.zarr"
    with running_server("--control") as server, Client(server.address) as client:
        words = command(server, folder, out)
        done = subprocess.Popen(
            [sys.executable, "-c", EARLY_COMMITS, *words[3:]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        wait_for_rows(out, lambda: done.poll() is None)
        client.unload_model(MODEL)
        _, errors = done.communicate(timeout=60)
    assert done.returncode == 1
    assert f"the model '{MODEL}' is unloaded" in errors
    assert f"{committed_rows(out)} of {COUNT} images are in {out}; repeat the command to continue" in errors
    assert not any("UNKNOWN_MODEL" in line for line in errors_in(out))


def errors_in(out: Path) -> list[str]:
    """Return the lines of the error list, or none if it does not exist."""
    path = out.with_name(f"{out.name}.errors.jsonl")
    return path.read_text().splitlines() if path.exists() else []


def test_a_server_that_goes_away(
    client: Client,
    server: ServerProcess,
    images: tuple[Path, list[str], list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder, good, broken = images
    out = tmp_path / "features.zarr"
    monkeypatch.setattr(_bulk, "MOST_REOPENINGS", 1)
    monkeypatch.setattr(bulk, "COMMIT_ROWS", 16)
    with running_server(status=-signal.SIGKILL) as doomed:

        def stop() -> None:
            with contextlib.suppress(AssertionError):
                wait_for_rows(out, is_running.is_set)
            doomed.process.kill()

        stopper = threading.Thread(target=stop)
        is_running = threading.Event()
        is_running.set()
        stopper.start()
        try:
            assert main(command(doomed, folder, out)[3:]) == 1
        finally:
            is_running.clear()
            stopper.join()
    assert f"images are in {out}; repeat the command to continue" in capfd.readouterr().err
    run(*command(server, folder, out))
    assert_complete(out, good, broken, client)


def test_another_run_needs_overwrite(server: ServerProcess, tmp_path: Path) -> None:
    out = tmp_path / "features.parquet"
    make_images(tmp_path / "photos", 3)
    run(*command(server, tmp_path / "photos", out))
    others = command(server, tmp_path / "photos", out, taps=["stem | gap"])
    _, error = run(*others, status=1)
    assert len(without_skips(error)) == 1
    assert "'stem | gap': overwrite it or choose another name" in error
    assert list(Features.load(out)) == ["maps", "a/b vector"]
    run(*others, "--overwrite")
    assert list(Features.load(out)) == ["stem | gap"]
    assert not out.with_name("features.parquet.errors.jsonl").exists()


@pytest.mark.parametrize("suffix", BULK_SUFFIXES)
def test_one_image_does_not_replace_many_unasked(server: ServerProcess, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"features{suffix}"
    good, _ = make_images(tmp_path / "photos", 3)
    run(*command(server, tmp_path / "photos", out))
    one = command(server, Path(good[0]), out)
    _, error = run(*one, status=1)
    assert "is the output of a bulk run; give --overwrite" in error
    assert len(Features.load(out).paths) == 3
    run(*one, "--overwrite")
    assert Features.load(out).paths == (good[0],)
    assert sorted(path.name for path in tmp_path.iterdir()) == [out.name, "photos"]


def test_overwrite_with_a_wrong_request_keeps_what_is_there(server: ServerProcess, tmp_path: Path) -> None:
    out = tmp_path / "features.zarr"
    make_images(tmp_path / "photos", 3)
    run(*command(server, tmp_path / "photos", out))
    _, error = run(*command(server, tmp_path / "photos", out, "--overwrite", taps=["stage:9"]), status=1)
    assert "from stage:1 to stage:5" in error
    assert len(Features.load(out).paths) == 3


def test_a_folder_under_another_spelling_is_the_same(server: ServerProcess, tmp_path: Path) -> None:
    out = tmp_path / "features.parquet"
    good, _ = make_images(tmp_path / "photos", 3)
    run(*command(server, tmp_path / "photos", out))
    text, _ = run(*command(server, tmp_path / "photos" / ".." / "photos", out))
    assert f"3 images in {out}, 0 of them new" in text
    assert sorted(Features.load(out).paths) == good


def test_a_wrong_tap_leaves_nothing_behind(server: ServerProcess, tmp_path: Path) -> None:
    make_images(tmp_path / "photos", 3)
    _, error = run(*command(server, tmp_path / "photos", tmp_path / "x.zarr", taps=["stage:9"]), status=1)
    assert "from stage:1 to stage:5" in error
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_only_broken_images_are_a_failure(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(3):
        (tmp_path / "photos" / f"{number}.png").write_text("no image")
    out = tmp_path / "features.safetensors"
    _, error = run(*command(server, tmp_path / "photos", out), status=1)
    assert error == f"layertap: none of the 3 images could be extracted; {out}.errors.jsonl lists the reasons\n"
    assert [item["path"] for item in errors_of(out)] == [str(tmp_path / "photos" / f"{n}.png") for n in range(3)]


@pytest.mark.parametrize(
    ("places", "out", "words"),
    [
        (["photos"], "x.npz", "a folder, or more than 64 images, needs --out FILE.zarr or FILE.parquet"),
        (["none"], "x.zarr", "no images in"),
        (["photos", "gone"], "x.zarr", "gone: No such file"),
        (["none"] * 65, "x.npy", "needs --out FILE.zarr"),
    ],
)
def test_what_cannot_be_done_in_bulk(
    server: ServerProcess, tmp_path: Path, places: list[str], out: str, words: str
) -> None:
    (tmp_path / "none").mkdir()
    make_images(tmp_path / "photos", 1)
    first, *others = (str(tmp_path / place) for place in places)
    words_of = command(server, Path(first), tmp_path / out)
    _, error = run(*words_of[:5], *others, *words_of[5:], status=1)
    assert words in error
    assert len(without_skips(error)) == 1


FULLY_CONVOLUTIONAL = """
source:
  layers:
    - maps: conv(4, 3, weight=he, bias=false)
input: {color: rgb, normalize: {range: [0, 1]}}
"""


def test_images_of_another_shape_are_errors(tmp_path: Path) -> None:
    (tmp_path / "models" / "plain").mkdir(parents=True)
    (tmp_path / "models" / "plain" / "model.yaml").write_text(FULLY_CONVOLUTIONAL)
    (tmp_path / "photos").mkdir()
    for name, size in (
        ("a", (20, 30)),
        ("b", (20, 30)),
        ("c", (31, 20)),
        (b"d\xff".decode(errors="surrogateescape"), (20, 30)),
    ):
        Image.new("RGB", size).save(tmp_path / "photos" / f"{name}.png")
    out = tmp_path / "features.zarr"
    with running_server(models=tmp_path / "models") as server:
        words = command(server, tmp_path / "photos", out, taps=["maps"])
        words[words.index(MODEL)] = "plain"
        text, warning = run(*words, "--json")
    assert json.loads(text) == {"out": str(out), "images": 2, "new": 2, "errors": 2}
    reasons = {Path(item["path"]).stem: (item["reason"], item["message"]) for item in errors_of(out)}
    assert reasons["c"][0] == "SHAPE_DIFFERS"
    assert "'maps' to be float32[1, 4, 28, 18], as for the first image, got float32[1, 4, 18, 29]" in reasons["c"][1]
    assert reasons["d\udcff"][0] == "PATH_NOT_UTF8"
    assert "2 images could not be extracted" in warning
