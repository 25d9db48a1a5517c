"""Tests of a model's preprocessing in combination with its graph."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from layertap.types import Layout
from layertap_server.graph import ImageInput, Normalization, read
from layertap_server.models.input_line import input_line
from layertap_server.models.manifest import FILE_NAME, read_manifest
from layertap_server.models.preprocessing import (
    GUESSED,
    IMAGENET,
    Exact,
    Preprocessing,
    PreprocessingError,
    ShorterSide,
    fit_to_graph,
)
from tests.odd_models import OPSET, of_text

GRAY = Normalization((0.0,), (1.0,))
UNIT = Normalization((0.0,), (255.0,))


def assumed(resize: Exact | None, normalization: Normalization) -> Preprocessing:
    return Preprocessing(resize, normalization=normalization, guessed=GUESSED)


def model(*sizes: object, dtype: str = "float") -> onnx.ModelProto:
    shape = ", ".join(map(str, sizes))
    return of_text(f"{OPSET} m ({dtype}[{shape}] image) => ({dtype}[{shape}] out) {{ out = Identity (image) }}")


@pytest.mark.parametrize(
    ("proto", "given", "expected"),
    [
        (model("N", 3, 8, 9), Preprocessing(guessed=GUESSED), assumed(Exact(8, 9), IMAGENET)),
        (model("N", 1, "h", "w"), Preprocessing(guessed=GUESSED), assumed(None, UNIT)),
        (model("N", 3, 8, 8, dtype="uint8"), Preprocessing(guessed=GUESSED), assumed(Exact(8, 8), Normalization())),
        (model("N", 3, 32, "w"), Preprocessing(guessed=GUESSED), assumed(Exact(32, 32), IMAGENET)),
        (model("N", 3, 8, 8), Preprocessing(ShorterSide(10)), Preprocessing(ShorterSide(10), center_crop=(8, 8))),
        (model("N", 3, 32, "w"), Preprocessing(Exact(32, 100)), Preprocessing(Exact(32, 100))),
        (model("N", 3, "h", "w"), Preprocessing(), Preprocessing()),
    ],
)  # fmt: skip
def test_what_is_not_said_is_read_off_the_graph(
    proto: onnx.ModelProto, given: Preprocessing, expected: Preprocessing, tmp_path: Path
) -> None:
    assert fit_to_graph(given, read(proto, tmp_path)) == expected


@pytest.mark.parametrize(
    "proto",
    [model("N", 3, 8, 9), model("N", 1, "h", "w"), model("N", 3, 8, 8, dtype="uint8"), model("N", 1, 4, 4)],
    ids=["colours", "luminance of any size", "bytes", "luminance"],
)
def test_the_line_that_would_settle_a_guess_says_the_same(proto: onnx.ModelProto, tmp_path: Path) -> None:
    guess = fit_to_graph(Preprocessing(guessed=GUESSED), read(proto, tmp_path))
    (tmp_path / FILE_NAME).write_text(input_line(guess))
    assert read_manifest(tmp_path / FILE_NAME).preprocessing == replace(guess, guessed=frozenset())


@pytest.mark.parametrize(
    ("proto", "given", "words"),
    [
        (model("N", 3, 8, 8), Preprocessing(Exact(8, 9)), "give 8×9 and the graph takes 8×8"),
        (model("N", 3, 32, "w"), Preprocessing(Exact(64, 100)), "give 64×100 and the graph takes 32×any"),
        (model("N", 3, 8, 8), Preprocessing(normalization=GRAY), "color gives 1 channels and the graph takes 3"),
        (model("N", 3, 8, 8), Preprocessing(layout=Layout.NHWC), "laid out as NHWC, the graph takes 8 channels"),
    ],
)
def test_contradictions_are_refused(proto: onnx.ModelProto, given: Preprocessing, words: str, tmp_path: Path) -> None:
    with pytest.raises(PreprocessingError, match=words):
        fit_to_graph(given, read(proto, tmp_path, ImageInput(layout=given.layout)))


@pytest.mark.parametrize(
    ("mean", "std", "words"),
    [
        ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "RGB, pixel"),
        ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0), "RGB, pixel / 255"),
        ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5), "RGB, (pixel − 127.5) / 127.5"),
        ((128.0, 128.0, 128.0), (1.0, 1.0, 1.0), "RGB, pixel − 128"),
        ((1.0, 2.0, 3.0), (1.0, 1.0, 2.0), "RGB, (pixel − [1, 2, 3]) / [1, 1, 2]"),
        ((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0), "RGB, pixel + 1"),
        ((0.0, -1.0, 0.0), (2.0, 2.0, 2.0), "RGB, (pixel + [0, 1, 0]) / 2"),
        ((0.0, -1.0, 2.0), (2.0, 2.0, 2.0), "RGB, (pixel − [0, -1, 2]) / 2"),
        ((0.0,), (255.0,), "luminance, pixel / 255"),
    ],
)
def test_the_formula_says_no_more_than_it_does(mean: tuple[float, ...], std: tuple[float, ...], words: str) -> None:
    assert Preprocessing(normalization=Normalization(mean, std)).describe() == f"decode exactly, {words}"
