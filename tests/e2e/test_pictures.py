"""Test the commands of docs/pictures.md as written: each draws the figure above it."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from layertap import Client, cli, viz
from layertap.types import Array
from tests.client.viz.drawing import assert_readable, visible_texts
from tests.paths import ROOT
from tests.processes import ServerProcess, running_server

DOC = (ROOT / "docs" / "pictures.md").read_text()
LINES = [line for block in re.findall(r"```sh\n(.*?)```", DOC, re.DOTALL) for line in block.splitlines()]
FOLDER = "docs/images/"
COMMANDS = [line for line in LINES if FOLDER in line]
PREPARATION = [line for line in LINES if line.startswith(("mkdir ", "cp "))]
MOST_BYTES = 300_000
PYTHON = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Start a server with the bundled and the example models, arranged as the document says."""
    build = tmp_path_factory.mktemp("build")
    for line in PREPARATION:
        subprocess.run(["bash", "-c", line.replace("build/", f"{build}/")], cwd=ROOT, check=True)
    with running_server(models=build / "models") as process:
        yield process


def written(command: str) -> str:
    """Return the picture that a command writes."""
    (name,) = re.findall(rf"{FOLDER}([\w.-]+)", command)
    return str(name)


def pixels(path: Path) -> Array:
    """Return the pixels of a PNG."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(np.int16)


def test_each_command_stands_below_its_picture() -> None:
    shown = re.findall(r"!\[[^\]]+\]\(images/([^)]+)\)\n\n```sh\n(layertap [^\n]*)\n```", DOC)
    assert [picture for picture, _ in shown] == [written(command) for _, command in shown]
    assert [command for _, command in shown] == COMMANDS
    assert len(re.findall(r"!\[", DOC)) == len(COMMANDS) == len({*map(written, COMMANDS)})


@pytest.mark.parametrize("command", COMMANDS, ids=written)
def test_a_command_makes_its_picture(
    both: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(ROOT)
    words = shlex.split(command.replace(FOLDER, f"{tmp_path}/"))[1:]
    arguments = [str(path) for word in words for path in (sorted(Path().glob(word)) if "/*" in word else [word])]
    assert cli.main([*arguments, "--server", both.address]) == 0
    made, committed = tmp_path / written(command), ROOT / FOLDER / written(command)
    assert committed.stat().st_size < MOST_BYTES
    here, there = pixels(made), pixels(committed)
    assert here.shape == there.shape
    assert here.std() > 10
    # Rounding differs between processors and may shift a line or a colour slightly.
    assert np.abs(here - there).mean() < 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["3_0.png", "--as", "pca"], "--as pca needs --tap"),
        (["3_0.png", "3_1.png", "--as", "strip"], "--as strip draws one image, got 2"),
    ],
)
def test_wrong_usage_is_told_before_a_server_is_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(ROOT / "examples" / "images" / "digits")
    assert cli.main(["show", *arguments, "-m", "digits_vit", "--server", "127.0.0.1:1"]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "3_0.png", "-t", "blocks.0", "--pick", "48"], "channels 0 to 47, got 48"),
        (["show", "3_0.png", "-t", "logits", "--as", "overlay"], "nothing to lay over"),
        (["show", "3_0.png", "-t", "blocks.0", "-o", "/proc/new/x.png"], "/proc/new"),
        (["inspect", "3_0.png", "--layers", "blocks.0", "--figure", "/proc/x.png"], "/proc/x.png"),
    ],
)
def test_an_error_is_one_clear_line(
    both: ServerProcess,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(ROOT / "examples" / "images" / "digits")
    assert cli.main([*arguments, "-m", "digits_vit", "--server", both.address]) == 1
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "x.png", "--pick", "one"], "expected a list of channels such as 3,17,42"),
        (["show", "x.png", "--out", "x.gif"], "ends in .png, .pdf or .svg, got x.gif"),
        (["inspect", "x.png", "--figure", "x.jpeg"], "got x.jpeg"),
        (["compare", "x.png", "y.png", "--figure", "x.txt"], "got x.txt"),
    ],
)
def test_wrong_usage_is_told_before_anything_runs(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main([*arguments, "-m", "digits_vit", "--server", "127.0.0.1:1"])
    assert words in capsys.readouterr().err


def test_the_command_beside_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    readme = (ROOT / "examples" / "models" / "digits_vit" / "README.md").read_text()
    (command,) = re.findall(r"```sh\nlayertap (.*)\n```", readme)
    assert cli.main(shlex.split(command.replace("build/", f"{tmp_path}/"))) == 0
    assert pixels(tmp_path / "pca.png").std() > 10


def test_its_python(both: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for code in PYTHON:
        exec(code.replace("localhost:8001", both.address).replace("build/", f"{tmp_path}/"), {})
    assert (tmp_path / "overlay.pdf").read_bytes().startswith(b"%PDF")


def test_the_files_it_links_to_exist() -> None:
    for path in re.findall(r"\]\(([^)#:]+)\)", DOC):
        assert (ROOT / "docs" / path).exists(), path


TAPS = {
    "efficientnet_lite0": ["stage:1", "stage:3 | stats", "blocks.10.expand_activation", "pooled", "logits | softmax"],
    "digits_vit": ["blocks.1", "blocks.1.attention.softmax", "blocks.3 | stats", "logits", "blocks.1 | tokens(cls)"],
}
PHOTOS = {
    "efficientnet_lite0": ["examples/images/chelsea.jpg", "examples/images/coffee.jpg"],
    "digits_vit": ["examples/images/digits/3_0.png", "examples/images/digits/8_1.png"],
}


@pytest.mark.parametrize("model", TAPS)
def test_no_text_of_a_real_network_overlaps_or_is_cut_off(
    both: ServerProcess, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.chdir(ROOT)
    with Client(both.address) as client:
        pictures = viz.collect(client, PHOTOS[model], model=model, taps=TAPS[model])
        (network,) = viz.collect(client, PHOTOS[model][:1], model=model, taps=["all:activations"])
        statistics = client.inspect(PHOTOS[model], model=model)
        labels = viz.labels_of(client, model)
    assert_readable(viz.maps_figure(pictures, channels=7))
    assert_readable(viz.maps_figure(pictures, channels=7, scale="channel"))
    assert_readable(viz.overlay_figure(pictures))
    assert_readable(viz.components_figure(pictures))
    assert_readable(viz.strip_figure(network))
    assert_readable(viz.statistics_figure(statistics, model, labels))


def test_a_transformer_s_attention_and_classes_are_drawn_as_such(
    both: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with Client(both.address) as client:
        taps = ["blocks.1.attention.softmax", "logits | softmax", "blocks.3 | stats"]
        (picture,) = viz.collect(client, PHOTOS["digits_vit"][:1], model="digits_vit", taps=taps)
    attention, classes, summary = picture.results
    assert attention.maps is not None
    np.testing.assert_array_equal(attention.maps, attention.values[:, 0, 1:].reshape(4, 8, 8))
    assert attention.note == "attention from the class token to the 8×8 tokens"
    assert classes.names == tuple(str(digit) for digit in range(10))
    assert summary.is_summary
    shown = [text.get_text() for text in visible_texts(viz.maps_figure([picture]))]
    assert shown.index("3") < shown.index("Euclidean norm")
    assert "Euclidean norm" in shown


def test_the_scale_of_the_command(
    both: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT / "examples" / "images" / "digits")
    command = ["show", "3_0.png", "-m", "digits_vit", "-t", "blocks.0", "--server", both.address]
    for scale in ("common", "channel"):
        assert cli.main([*command, "--scale", scale, "-o", str(tmp_path / f"{scale}.png")]) == 0
    common, own = (pixels(tmp_path / f"{scale}.png") for scale in ("common", "channel"))
    assert common.shape == own.shape
    assert np.abs(common - own).mean() > 2
    assert cli.main([*command, "--channels", "2000", "-o", str(tmp_path / "x.png")]) == 0  # the layer has 48
    capsys.readouterr()
