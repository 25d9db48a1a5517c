"""Test ``layertap add`` and ``layertap check`` with real processes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from tests.model_folders import IMAGENET, network, write
from tests.paths import MODEL, MODELS, PHOTOS, ROOT
from tests.processes import ServerProcess, running_server

CASES = ROOT / "tests" / "data" / "cases"


def run(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder."""
    command = [sys.executable, "-m", "layertap.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def test_a_folder_of_hugging_face_is_brought_whole(tmp_path: Path) -> None:
    files = {
        "preprocessor_config.json": {"image_processor_type": "ViTImageProcessor", "size": 32, **IMAGENET},
        "config.json": {"id2label": {"0": "cat", "1": "dog", "2": "cup"}},
        "tokenizer.json": "x" * (5 * 2**20),
    }
    write(tmp_path / "source", network(32, 32), files, path="onnx/model.onnx")
    done = run("add", "source", "--name", "mine", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    home = tmp_path / "models" / "mine"
    assert sorted(path.name for path in home.iterdir()) == [
        "config.json", "model.onnx", "model.yaml", "preprocessor_config.json"
    ]  # fmt: skip
    assert "nothing is assumed" in done.stdout
    assert "(preprocessor_config.json)" in done.stdout
    text = (home / "model.yaml").read_text()
    assert "input: {resize: {size: [32, 32]}, color: rgb, normalize: {mean: [123.675, 116.28, 103.5" in text
    listed = run("models", "mine", "--local", folder=tmp_path)
    assert "class" in listed.stdout
    assert "model.yaml" in listed.stdout


def test_a_bare_file_is_marked_as_assumed(tmp_path: Path) -> None:
    onnx.save(network(32, 32), tmp_path / "my net.onnx")
    done = run("add", "my net.onnx", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "assumed: resize, normalize; correct models/my_net/model.yaml" in done.stdout
    assert "is a guess" in (tmp_path / "models" / "my_net" / "model.yaml").read_text()


def test_external_weights_come_along(tmp_path: Path) -> None:
    model = network(32, 32)
    weights = model.graph.initializer[0]
    weights.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weights), weights.name))
    (tmp_path / "net").mkdir()
    onnx.save(
        model, tmp_path / "net" / "net.onnx", save_as_external_data=True, location="net.onnx.data", size_threshold=0
    )
    done = run("add", "net", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "models" / "net" / "net.onnx.data").is_file()


def test_refusals_leave_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    done = run("add", "bad.onnx", folder=tmp_path)
    assert done.returncode == 1
    assert "the model cannot be loaded" in done.stderr
    assert not (tmp_path / "models").exists()
    assert run("add", "gone.onnx", folder=tmp_path).returncode == 1
    write(tmp_path / "two", network(32, 32), path="a.onnx")
    write(tmp_path / "two", network(32, 32, classes=5), path="b.onnx")
    several = run("add", "two", folder=tmp_path)
    assert several.returncode == 2
    assert "several ONNX files (a.onnx, b.onnx); name one by --variant" in several.stderr
    assert run("add", "two", "--variant", "b.onnx", folder=tmp_path).returncode == 0
    again = run("add", "two", "--variant", "b.onnx", folder=tmp_path)
    assert (again.returncode, "exists already" in again.stderr) == (1, True)


def test_check_shows_the_picture_and_the_classes(server: ServerProcess, tmp_path: Path) -> None:
    done = run("check", MODEL, PHOTOS / "coffee.png", "--server", server.address, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "espresso" in done.stdout
    assert "warning" not in done.stdout
    with Image.open(tmp_path / f"{MODEL}-seen.png") as image:
        assert image.size == (224, 224)
        seen = np.asarray(image).astype(float)
    with Image.open(PHOTOS / "coffee.png") as photo:
        cut = np.asarray(photo.convert("RGB").resize((384, 256)).crop((80, 16, 304, 240))).astype(float)
    assert np.corrcoef(seen.ravel(), cut.ravel())[0, 1] > 0.9


@pytest.mark.parametrize(
    ("normalize", "warning"),
    [
        ("{mean: [1000, 1000, 1000], std: [0.01, 0.01, 0.01]}", "the signature of"),
        ("{mean: [0, 0, 0], std: [65025, 65025, 65025]}", "are pixels divided twice"),
    ],
)
def test_check_warns_of_wrong_normalization(tmp_path: Path, normalize: str, warning: str) -> None:
    home = tmp_path / "models" / "net"
    shutil.copytree(MODELS / MODEL, home)
    text = re.sub(r"normalize: \{[^}]*\}", f"normalize: {normalize}", (MODELS / MODEL / "model.yaml").read_text())
    (home / "model.yaml").write_text(text)
    done = run("check", "net", PHOTOS / "coffee.png", "--local", folder=tmp_path)
    assert re.search(f"warning .*({warning})", done.stdout), done.stdout + done.stderr


def test_check_of_a_model_without_images(tmp_path: Path) -> None:
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 3]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "table", [x], [y])
    write(tmp_path / "models" / "table", onnx.helper.make_model(graph, ir_version=8,
          opset_imports=[onnx.helper.make_opsetid("", 17)]))  # fmt: skip
    done = run("check", "table", PHOTOS / "coffee.png", "--local", folder=tmp_path)
    assert (done.returncode, "takes no images" in done.stderr) == (1, True)


def test_a_model_of_arrays_has_no_preprocessing_to_state(tmp_path: Path) -> None:
    for name, shape in (("narrow_input", "N×11×60×3"), ("wave", "N×any")):
        done = run("add", CASES / f"{name}.onnx", folder=tmp_path)
        assert done.returncode == 0, done.stderr
        message = "takes arrays and no pictures, so there is no preprocessing to state"
        assert f"{message} (x: float32 {shape})" in done.stdout
        assert sorted(path.name for path in (tmp_path / "models" / name).iterdir()) == ["model.onnx"]


@pytest.mark.parametrize("name", ["../evil", "a/b", ".", "a b", "x" * 129])
def test_a_name_is_that_of_a_folder(name: str, tmp_path: Path) -> None:
    done = run("add", CASES / "wave.onnx", "--name", name, folder=tmp_path)
    assert done.returncode == 2
    assert "expected --name as the name of a folder" in done.stderr
    assert not list(tmp_path.iterdir())


def test_check_takes_the_other_inputs_of_a_model(tmp_path: Path) -> None:
    home = tmp_path / "models" / "two"
    home.mkdir(parents=True)
    shutil.copy(CASES / "two_inputs.onnx", home / "model.onnx")
    model = onnx.load(home / "model.onnx", load_external_data=False)
    other = model.graph.input[1]
    sizes = [dim.dim_value or 1 for dim in other.type.tensor_type.shape.dim]
    np.save(
        tmp_path / "mask.npy", np.ones(sizes, onnx.helper.tensor_dtype_to_np_dtype(other.type.tensor_type.elem_type))
    )
    with running_server(models=tmp_path / "models") as server:
        photo = PHOTOS / "coffee.png"
        without = run("check", "two", photo, "--server", server.address, folder=tmp_path)
        assert f"also need the model's input {other.name}" in without.stderr
        done = run(
            "check", "two", photo, "--input", f"{other.name}=mask.npy", "--server", server.address, folder=tmp_path
        )
    assert done.returncode == 0, done.stderr
    assert "output" in done.stdout
