"""Tests of ignored files of the models folder and of the log lines about them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from layertap_server.models.folder import ignored_files
from tests.models import branching, model_folder, open_repository


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Return a models folder with each kind of mistake once, and with correct models."""
    model_folder(tmp_path, "good", branching())
    model_folder(tmp_path, "versions/1", branching())
    named = model_folder(tmp_path, "named", branching(), "source: {onnx: other.onnx}")
    (named / "model.onnx").rename(named / "other.onnx")
    for file in WHY:
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    for file in ("good/notes.txt", "good/weights.safetensors", "versions/1/trained.pt", "named/old.h5"):
        (tmp_path / file).write_text("x")
    return tmp_path


WHY = {
    "flat.onnx": "move it to flat/model.onnx",
    "face/1/inswapper.onnx": "called model.onnx; rename it, or write 'source: {onnx: inswapper.onnx}'",
    "nested/onnx/model.onnx": "move it to nested/model.onnx or nested/1/model.onnx",
    "good/second.onnx": "the model's file is called model.onnx",
    "good/model.yml": "the file's name must be model.yaml",
    "loud/Model.ONNX": "the model's file is called model.onnx; rename it",
    "LOUD.ONNX": "move it to LOUD/model.onnx",
    "loud/Model.YAML": "the file's name must be model.yaml",
    "torch.PT": "a PyTorch checkpoint; export the model to ONNX, as torch/model.onnx",
    "torch/model.pt": "a PyTorch checkpoint; export the model to ONNX, as torch/model.onnx",
    "torch/2/model.pth": "a PyTorch checkpoint; export the model to ONNX, as torch/model.onnx",
    "lite/model.tflite": "a TensorFlow Lite model",
    "keras/model.h5": "a Keras model",
    "saved/saved_model.pb": "a TensorFlow graph",
    "weights/weights.safetensors": "a file of weights without a model",
}


def test_each_has_its_reason(models: Path) -> None:
    ignored = dict(ignored_files(models))
    assert ignored.keys() == WHY.keys()
    for file, words in WHY.items():
        assert words in ignored[file]


def test_the_log_names_each_once(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    repository = open_repository(models)
    repository.refresh()
    repository.refresh()
    lines = [record.getMessage() for record in caplog.records if "is ignored" in record.getMessage()]
    assert sorted(line.split(" ")[0] for line in lines) == sorted(WHY)
    (models / "late.onnx").write_bytes(b"x")
    with caplog.at_level(logging.WARNING):
        repository.refresh()
    assert caplog.records[-1].getMessage().startswith("late.onnx is ignored")


def test_a_broken_manifest_hides_nothing(models: Path) -> None:
    (models / "good" / "model.yaml").write_text(": :")
    assert "good/second.onnx" in dict(ignored_files(models))
