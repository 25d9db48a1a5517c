"""The folder of models."""

from __future__ import annotations

from pathlib import Path

import pytest

from layertap.errors import ModelFailedError, UnknownModelError
from layertap.types import ModelState
from layertap_server.repository import RepositoryError
from tests.models import branching, model_folder, open_repository


def test_a_model_that_fails_is_listed_and_the_others_serve(tmp_path: Path) -> None:
    model_folder(tmp_path, "good", branching())
    model_folder(tmp_path, "typo", branching(), "labls: x")
    model_folder(tmp_path, "alias", branching(), "aliases: {embedding: vektor}")
    model_folder(tmp_path, "labels", branching(), "labels: gone.txt")
    model_folder(tmp_path, "head", branching(), "heads: {signature: 'joined | gapp'}")
    model_folder(tmp_path, "bad name", branching())
    (model_folder(tmp_path, "corrupt", branching()) / "model.onnx").write_bytes(b"\x08\xff\xff")
    (tmp_path / "not_a_model").mkdir()
    repository = open_repository(tmp_path)
    failed = {info.name: info.reason for info in repository.infos() if info.state is ModelState.FAILED}
    assert [info.name for info in repository.infos() if info.state is ModelState.READY] == ["good"]
    assert failed["typo"].startswith("model.yaml, line 1: unknown key 'labls'")
    assert "vektor" in failed["alias"]
    assert "gone.txt" in failed["labels"]
    assert "gapp" in failed["head"]
    assert "letters, digits" in failed["bad name"]
    assert "model.onnx is not" in failed["corrupt"] or "holds no graph" in failed["corrupt"]
    assert not any(str(tmp_path) in reason for reason in failed.values())
    with pytest.raises(ModelFailedError, match="labls"):
        repository.get("typo")


def test_a_bare_file_is_a_model_whose_preprocessing_is_assumed(tmp_path: Path) -> None:
    model_folder(tmp_path, "bare", branching())
    model = open_repository(tmp_path).get("bare")
    assert model.info.preprocessing_assumed
    assert model.preprocessing.output_size == (8, 8)
    assert model.info.max_batch == 8


def test_names_and_versions(tmp_path: Path) -> None:
    model_folder(tmp_path, "branching", branching())
    repository = open_repository(tmp_path)
    assert repository.get("branching", "latest") is repository.get("branching", "1") is repository.get("branching")
    with pytest.raises(UnknownModelError, match="it has 1"):
        repository.get("branching", "2")
    with pytest.raises(UnknownModelError) as caught:
        repository.get("brnching")
    assert caught.value.suggestions == ("branching",)


def test_a_missing_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="does not exist"):
        open_repository(tmp_path / "gone")


def test_the_weights_file_goes_with_the_model(tmp_path: Path) -> None:
    model_folder(tmp_path, "branching", branching())
    repository = open_repository(tmp_path)
    folder = repository.get("branching").graph.weights_folder
    assert folder.is_dir()
    del repository
    assert not folder.exists()
