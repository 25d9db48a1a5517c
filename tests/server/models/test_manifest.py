"""Tests of reading ``model.yaml``."""

from __future__ import annotations

from pathlib import Path

import pytest

from layertap.types import Layout
from layertap_server.config.yaml_document import ManifestError
from layertap_server.graph import Normalization
from layertap_server.models.manifest import Manifest, read_manifest
from layertap_server.models.preprocessing import Exact, Letterbox, Preprocessing, ShorterSide
from tests.paths import MODEL, MODELS


def read(tmp_path: Path, text: str) -> Manifest:
    path = tmp_path / "model.yaml"
    path.write_text(text)
    return read_manifest(path)


def test_the_shipped_model() -> None:
    manifest = read_manifest(MODELS / MODEL / "model.yaml")
    preprocessing = manifest.preprocessing
    assert preprocessing.resize == ShorterSide(256)
    assert (preprocessing.filter, preprocessing.center_crop) == ("bicubic", (224, 224))
    assert preprocessing.normalization == Normalization((127.0,) * 3, (128.0,) * 3)
    assert not preprocessing.assumed
    assert manifest.stages == ("blocks.0", "blocks.2", "blocks.4", "blocks.10", "blocks.15")
    assert manifest.default_taps == ("embedding",)


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    assert read(tmp_path, "") == Manifest()
    assert Manifest().preprocessing.assumed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none", None),
        ("{letterbox: [64, 96]}", Letterbox(64, 96)),
        ("{letterbox: 64, fill: 0}", Letterbox(64, 64, 0)),
        ("{size: [7, 9]}", Exact(7, 9)),
        ("{shorter_side: 5}", ShorterSide(5)),
    ],
)
def test_resize(tmp_path: Path, text: str, expected: object) -> None:
    assert read(tmp_path, f"input: {{resize: {text}}}").preprocessing.resize == expected


def test_colours_and_layout(tmp_path: Path) -> None:
    text = "input: {color: gray, layout: nhwc, background: [0, 0, 0], crop: none}"
    preprocessing = read(tmp_path, text).preprocessing
    assert preprocessing == Preprocessing(
        normalization=Normalization((0.0,), (1.0,)), layout=Layout.NHWC, background=(0, 0, 0)
    )
    assert preprocessing.describe() == "decode exactly, luminance, pixel"


@pytest.mark.parametrize(
    ("text", "fast", "words"),
    [
        ("input: {}", False, "decode exactly"),
        ("input: {decode: exact}", False, "decode exactly"),
        ("input: {decode: fast}", True, "decode large JPEGs at a reduced scale"),
    ],
)
def test_decoding(tmp_path: Path, text: str, fast: bool, words: str) -> None:
    preprocessing = read(tmp_path, text).preprocessing
    assert preprocessing.fast == fast
    assert preprocessing.describe().startswith(f"{words}, ")


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("{range: [0, 1]}", 0, 1), ("{range: [-1, 1]}", -1, 1), ("none", 0, 255), ("{mean: 0, std: 255}", 0, 1)],
)
def test_normalization_to_a_range(tmp_path: Path, text: str, low: float, high: float) -> None:
    normalization = read(tmp_path, f"input: {{normalize: {text}}}").preprocessing.normalization
    assert (0 - normalization.mean[0]) / normalization.std[0] == pytest.approx(low)
    assert (255 - normalization.mean[0]) / normalization.std[0] == pytest.approx(high)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("input: {decode: quick}", "decode must be one of exact, fast"),
        ("labels: a.txt\ndefault_tap: [x]", "line 2: unknown key 'default_tap' (did you mean default_taps?)"),
        ("input:\n  resize: {shorter: 3}", "line 2: unknown key 'shorter'"),
        ("input: {resize: {filter: cubic}}", "line 1: filter must be one of nearest, linear, bilinear"),
        ("\nstages: conv", "line 2: stages must be a list of texts"),
        ("aliases: [a]", "line 1: aliases must map texts to texts"),
        ("input: {normalize: {std: 0}}", "std must not be 0"),
        ("input: {normalize: {mean: [1, 2]}}", "mean must be 3 numbers"),
        ("input: {crop: {center: [1.5, 2]}}", "center must be [height, width] in whole pixels"),
        ("batching: {max_batch: 0}", "max_batch must be a whole number from 1"),
        ("labels: ../../etc/passwd", "must name a file in the model's own folder"),
        ("source: {onnx: /etc/passwd}", "must name a file in the model's own folder"),
        ("a: b: c", "line 1, column 5: mapping values are not allowed"),
        ("- a", "the file must be a mapping"),
        ("input: 3", "line 1: input must be a mapping"),
        ("stages: &a [x]\nheads: *a", "line 2, column 8: aliases (*name) are not supported"),
        ("input: {resize: {size: 3, shorter_side: 4}}", "resize has shorter_side and size; it must be one of them"),
        ("input: {resize: {size: 3, fill: 4}}", "fill belongs to letterbox"),
        ("input: {resize: {letterbox: 3, fill: 400}}", "fill must be a whole number from 0 to 255"),
        ("input: {background: [1, 2, 300]}", "background must be [red, green, blue], each 0 to 255"),
        ("input: {color: gray, normalize: {mean: [1, 2, 3]}}", "mean must be 1 numbers"),
        ("input: {layout: nwhc}", "layout must be one of nchw, nhwc (did you mean nhwc, nchw?)"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith("model.yaml")
    assert words in str(caught.value)
