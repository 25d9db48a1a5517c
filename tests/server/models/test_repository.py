"""Tests of the repository of models."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from layertap.errors import ModelFailedError, UnknownModelError
from layertap.types import ModelState
from layertap_server.models.loader import LoadOptions
from layertap_server.models.repository import Repository, RepositoryError
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


@pytest.mark.parametrize("name", ["branching", "nope"])
def test_a_folder_that_went_away_is_a_reason(tmp_path: Path, name: str) -> None:
    models = tmp_path / "models"
    model_folder(models, "branching", branching())
    repository = open_repository(models)
    models.rename(tmp_path / "elsewhere")
    with pytest.raises(ModelFailedError, match="the models folder cannot be read: No such file"):
        repository.load(name)
    assert repository.get("branching").info.state is ModelState.READY


def linked(tmp_path: Path) -> Path:
    """Return a models folder of links, as into Hugging Face's cache: to files, external data and a whole folder."""
    models, cache = tmp_path / "models", tmp_path / "cache"
    cache.mkdir()
    model_folder(models, "files", branching())
    model_folder(models, "data", branching())
    onnx.save(branching(), models / "data" / "model.onnx", save_as_external_data=True, location="w", size_threshold=0)
    for name in ("files/model.onnx", "data/w"):
        blob = cache / name.replace("/", "_")
        (models / name).rename(blob)
        (models / name).symlink_to(blob)
    model_folder(cache, "folder", branching())
    (models / "folder").symlink_to(cache / "folder")
    return models


LINKED = ("data", "files", "folder")


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    repository = open_repository(linked(tmp_path))
    failed = {info.name: info.reason for info in repository.infos() if info.state is ModelState.FAILED}
    assert tuple(failed) == LINKED
    assert all("--follow-links" in reason for reason in failed.values())


def test_links_out_of_the_folder_are_followed_where_that_is_allowed(tmp_path: Path) -> None:
    repository = Repository(linked(tmp_path), "CPU", options=LoadOptions(follow_links=True))
    repository.load_all()
    assert [info.name for info in repository.infos() if info.state is ModelState.READY] == list(LINKED)


def test_a_path_out_of_the_folder_is_refused_with_links_too(tmp_path: Path) -> None:
    home = model_folder(tmp_path / "models", "data", branching())
    onnx.save(branching(), home / "model.onnx", save_as_external_data=True, location="w", size_threshold=0)
    (home / "w").rename(tmp_path / "models" / "w")
    model = onnx.load(home / "model.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.external_data[0].value = "../w"
    (home / "model.onnx").write_bytes(model.SerializeToString())
    repository = Repository(tmp_path / "models", "CPU", options=LoadOptions(follow_links=True))
    repository.load_all()
    assert "lie outside the model's folder" in repository.infos()[0].reason
