"""Test ``layertap compare`` against numbers computed from the features."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from layertap import Client, cli
from layertap.types import Array
from tests.paths import EXAMPLE_PHOTO, MODEL, ROOT
from tests.processes import ServerProcess, running_server

COFFEE = ROOT / "examples" / "images" / "coffee.jpg"
DIGITS = ROOT / "examples" / "images" / "digits"
SOME = [str(DIGITS / f"{label}_3.png") for label in range(10)]
ONE, OTHER = "digits_vit", "digits_vit_int8"


@pytest.fixture(scope="module")
def examples() -> Iterator[ServerProcess]:
    """Start a server with the example models."""
    with running_server(models=ROOT / "examples" / "models") as process:
        yield process


def answer(capsys: pytest.CaptureFixture[str], server: ServerProcess, *arguments: str, status: int = 0) -> str:
    """Return the command's output, or its one line of error."""
    assert cli.main(["compare", *arguments, "--server", server.address]) == status
    printed = capsys.readouterr()
    return printed.err if status else printed.out


def cosine(a: Array, b: Array) -> float:
    """Return the cosine similarity."""
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def cka(x: Array, y: Array) -> float:
    """Return the linear CKA of centred features."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return float(np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))


def test_two_images(client: Client, server: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    photos = [str(EXAMPLE_PHOTO), str(COFFEE)]
    layers = ["stage:1", "stage:5", "logits"]
    told = json.loads(answer(capsys, server, *photos, "-m", MODEL, "--layers", *layers, "--json"))
    features = client.extract(photos, model=MODEL, taps=layers)
    assert [layer["layer"] for layer in told] == [feature.layer for feature in features.maps]
    for layer, feature in zip(told, features.maps, strict=True):
        a, b = feature.array.astype(np.float64)
        assert layer["cosine"] == pytest.approx(cosine(a, b), abs=1e-6)
        assert layer["relative_l2"] == pytest.approx(np.linalg.norm(a - b) / np.linalg.norm(a), abs=1e-6)
        assert layer["cka"] is None


def test_two_models(examples: ServerProcess, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    figure = tmp_path / "new" / "models.png"
    options = ["-m", ONE, "-m", OTHER, "--layers", "gelu_3", "blocks.1", "--figure", str(figure), "--json"]
    told = json.loads(answer(capsys, examples, *SOME, *options))
    assert [layer["layer"] for layer in told] == ["add_223", "gelu_3"]  # in execution order
    assert figure.stat().st_size > 5000
    with Client(examples.address) as client:
        for layer in told:
            taps = [layer["layer"], f"{layer['layer']} | gap -> mean"]
            sides = [[client.extract(digit, model=model, taps=taps) for digit in SOME] for model in (ONE, OTHER)]
            a, b = (np.concatenate([each.maps[0].array for each in side]).astype(np.float64) for side in sides)
            means = [np.concatenate([each["mean"] for each in side]).astype(np.float64) for side in sides]
            assert layer["cosine"] == pytest.approx(cosine(a, b), abs=1e-6)
            assert layer["relative_l2"] == pytest.approx(np.sqrt(((a - b) ** 2).sum() / (a**2).sum()), rel=1e-3)
            assert layer["cka"] == pytest.approx(cka(*means), abs=1e-5)
            assert 0.99 < layer["cosine"] < 1


def test_every_layer_with_every_layer(examples: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    layers = ["conv2d", "gelu", "gelu_1", "gelu_2", "gelu_3", "logits"]
    options = ["-m", ONE, "-m", OTHER, "--matrix", "--layers", *layers]
    told = json.loads(answer(capsys, examples, str(DIGITS), *options, "--json"))
    assert told["rows"] == told["columns"] == layers
    matrix = np.array(told["cka"])
    assert (np.diag(matrix) > 0.999).all()
    assert (matrix.argmax(axis=1) == range(6)).all()
    table = answer(capsys, examples, str(DIGITS), *options).splitlines()
    assert table[0].split() == ["layer", "of", ONE, "most", "alike", "in", OTHER, "CKA"]
    assert table[-1].split() == ["logits", "logits", f"{matrix[-1, -1]:.6g}"]


def test_models_without_a_common_name_are_a_matrix(server: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(answer(capsys, server, *SOME[:3], "-m", MODEL, "-m", "gabor_energy", "--json"))
    assert told["rows"][0] == "stem"
    matrix = np.array(told["cka"])
    assert matrix.shape == (len(told["rows"]), len(told["columns"]))
    assert matrix.min() > -1e-9
    assert matrix.max() < 1 + 1e-9


def test_layers_of_integers_are_compared_too(examples: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(
        answer(capsys, examples, *SOME[:4], "-m", OTHER, "-m", OTHER, "--layers", "gelu_quantized", "--json")
    )
    assert [(layer["cosine"], layer["cka"]) for layer in told] == [pytest.approx((1, 1))]


def test_a_table(examples: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    lines = answer(capsys, examples, *SOME[:2], "-m", ONE, "-m", ONE).splitlines()
    assert lines[0].split() == ["layer", "cosine", "relative", "L2", "CKA"]
    assert [line.split() for line in lines[1:]] == [[f"gelu{end}", "1", "0", "–"] for end in ("", "_1", "_2", "_3")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([SOME[0], "-m", ONE], "one model needs exactly two images"),
        ([SOME[0], SOME[1], "-m", ONE, "--matrix"], "give --model twice"),
        ([SOME[0], "-m", ONE, "-m", OTHER, "-m", ONE], "or twice"),
    ],
)
def test_wrong_usage(
    examples: ServerProcess, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert words in answer(capsys, examples, *arguments, status=2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([SOME[0], "-m", ONE, "-m", OTHER, "--matrix"], "at least 3 images"),
        ([str(ROOT / "deploy"), "-m", ONE, "-m", OTHER], "no images in"),
        (["gone.png", SOME[0], "-m", ONE, "-m", OTHER], "gone.png: No such file"),
        ([SOME[0], SOME[1], "-m", ONE, "--layers", "nope"], "no layer 'nope'"),
        ([SOME[0], SOME[1], "-m", ONE, "--layers", "val_0"], "cannot be tapped"),
        ([SOME[0], str(ROOT / "LICENSE"), "-m", ONE, "-m", OTHER], "LICENSE: images[1]: "),
    ],
)
def test_an_error_is_one_clear_line(
    examples: ServerProcess, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    told = answer(capsys, examples, *arguments, status=1)
    assert words in told
    assert told.count("\n") == 1
