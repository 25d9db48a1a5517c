"""Test damaged and malicious model files: each is refused with a reason, no path leaks, and other models still work."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from layertap import Client, errors
from layertap.types import ModelState
from layertap_server.config.settings import Settings
from layertap_server.embedded import EmbeddedServer
from tests.models import branching, model_folder
from tests.odd_models import OPSET, of_text

Writer = Callable[[Path], None]
CONV = "hostile (float[batch, 3, 8, 8] image) => (float[batch, 4, 6, 6] maps) { maps = Conv (image, w) }"


def bytes_of(content: bytes) -> Writer:
    """Return a function that writes a model file with this content."""

    def write(folder: Path) -> None:
        (folder / "model.onnx").write_bytes(content)

    return write


def with_labels(make: Writer) -> Writer:
    """Return a function that writes a good model, with ``make`` writing its file of class names."""

    def write(folder: Path) -> None:
        (folder / "model.onnx").write_bytes(branching().SerializeToString())
        (folder / "model.yaml").write_text("labels: labels.txt")
        make(folder / "labels.txt")

    return write


def of_model(make: Callable[[], onnx.ModelProto]) -> Writer:
    """Return a function that writes a model file."""
    return bytes_of(make().SerializeToString())


def truncated(folder: Path) -> None:
    """Write a truncated model."""
    (folder / "model.onnx").write_bytes(branching().SerializeToString()[:-900])


def flipped(folder: Path) -> None:
    """Write a model with 20 random bytes in its middle."""
    content = bytearray(branching().SerializeToString())
    content[40:60] = os.urandom(20)
    (folder / "model.onnx").write_bytes(content)


def with_weight(weight: TensorProto) -> onnx.ModelProto:
    """Return a model with this tensor as its weight."""
    model = of_text(f"{OPSET}\n{CONV}")
    weight.name = "w"
    model.graph.initializer.append(weight)
    return model


def negative_sizes() -> onnx.ModelProto:
    """Return a model whose weight has negative sizes."""
    return with_weight(TensorProto(data_type=TensorProto.FLOAT, dims=[4, 3, -3, -3], raw_data=bytes(4 * 108)))


def more_than_it_holds() -> onnx.ModelProto:
    """Return a model with a weight of 1 GB by its shape and 432 bytes in the file."""
    return with_weight(TensorProto(data_type=TensorProto.FLOAT, dims=[2**28], raw_data=bytes(4 * 108)))


def huge_shape() -> onnx.ModelProto:
    """Return a model in which a node would create a constant of 2⁶⁰ values."""
    model = of_text(f"""{OPSET}
    huge (float[batch, 3, 8, 8] image) => (float[a, b, c, d] sum) {{
        zeros = ConstantOfShape (sizes)
        sum = Add (image, zeros)
    }}""")
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 2**20, 2**20, 2**20]), "sizes"))
    return model


def gigabyte() -> onnx.ModelProto:
    """Return a model with a constant of 1 GB that onnxruntime would fold into the session."""
    model = of_text(f"""{OPSET}
    huge (float[batch, 3, 8, 8] image) => (float[a, b, c, d] sum) {{
        zeros = ConstantOfShape (sizes)
        sum = Add (image, zeros)
    }}""")
    model.graph.initializer.append(numpy_helper.from_array(np.array([2**22, 1, 8, 8]), "sizes"))
    return model


def cyclic() -> onnx.ModelProto:
    """Return a model with a cycle."""
    model = of_text(f"{OPSET}\n{CONV}", w=(4, 3, 3, 3))
    model.graph.node.append(helper.make_node("Relu", ["b"], ["a"]))
    model.graph.node.append(helper.make_node("Relu", ["a"], ["b"]))
    return model


def custom_operator() -> onnx.ModelProto:
    """Return a model with an unknown operator."""
    model = of_text(f"{OPSET}\n{CONV}", w=(4, 3, 3, 3))
    model.opset_import.append(helper.make_opsetid("evil.corp", 1))
    model.graph.node.append(helper.make_node("Shell", ["maps"], ["done"], domain="evil.corp"))
    model.graph.output.append(helper.make_tensor_value_info("done", TensorProto.FLOAT, ["batch", 4, 6, 6]))
    return model


def outside(location: str) -> Writer:
    """Return a function that writes a model with external data at this location."""

    def write(folder: Path) -> None:
        weight = TensorProto(data_type=TensorProto.FLOAT, dims=[4, 3, 3, 3], data_location=TensorProto.EXTERNAL)
        weight.external_data.add(key="location", value=location)
        (folder / "model.onnx").write_bytes(with_weight(weight).SerializeToString())

    return write


def through_a_link(folder: Path) -> None:
    """Write a model whose external data is a link."""
    (folder / "weights.data").symlink_to("/etc/passwd")
    outside("weights.data")(folder)


def through_a_linked_folder(folder: Path) -> None:
    """Write a model whose external data lies in a linked folder."""
    (folder / "weights").symlink_to("/etc")
    outside("weights/passwd")(folder)


def in_a_constant(folder: Path) -> None:
    """Write a model with external data in an attribute instead of an initializer."""
    weight = TensorProto(data_type=TensorProto.FLOAT, dims=[4, 3, 3, 3], data_location=TensorProto.EXTERNAL, name="x")
    weight.external_data.add(key="location", value="../../../../etc/passwd")
    model = of_text(f"{OPSET}\n{CONV}")
    model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=weight))
    (folder / "model.onnx").write_bytes(model.SerializeToString())


def large_file(folder: Path) -> None:
    """Write 1 GB of constants beside the model, as a sparse file that takes no disk space."""
    with (folder / "weights.data").open("wb") as file:
        file.truncate(2**30)
    outside("weights.data")(folder)


def a_pipe(folder: Path) -> None:
    """Write a model whose external data is a named pipe."""
    os.mkfifo(folder / "weights.data")
    outside("weights.data")(folder)


HOSTILE: Mapping[str, tuple[Writer, str]] = {
    "empty": (bytes_of(b""), "is empty"),
    "noise": (bytes_of(os.urandom(4096)), "not an ONNX model|no graph|valid"),
    "another_protobuf": (bytes_of(b"\x0a\x03abc\x12\x01x"), "holds no graph|not an ONNX|valid"),
    "truncated": (truncated, "not an ONNX model"),
    "flipped": (flipped, "."),
    "negative_sizes": (of_model(negative_sizes), "'w' have a negative size"),
    "more_than_it_holds": (of_model(more_than_it_holds), "'w' do not match their shape"),
    "huge_shape": (of_model(huge_shape), "."),
    "gigabyte": (of_model(gigabyte), "1073741856 bytes and the limit is"),
    "large_file": (large_file, r"bytes and the limit is \d+ \(--max-model-bytes\)"),
    "cyclic": (of_model(cyclic), "valid ONNX model"),
    "custom_operator": (of_model(custom_operator), "evil.corp"),
    "passwd": (outside("../../../../../../etc/passwd"), "outside the model's folder"),
    "absolute": (outside("/etc/passwd"), "outside the model's folder"),
    "link": (through_a_link, "outside the model's folder"),
    "linked_folder": (through_a_linked_folder, "outside the model's folder"),
    "in_a_constant": (in_a_constant, "outside the model's folder"),
    "pipe": (a_pipe, "cannot be read"),
    "labels_link": (with_labels(lambda path: path.symlink_to("/etc/passwd")), "labels.txt lies outside"),
    "labels_pipe": (with_labels(os.mkfifo), "labels.txt is no file"),
    "missing_data": (outside("nowhere.data"), "cannot be read"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write all models to a folder."""
    models = tmp_path_factory.mktemp("models")
    model_folder(models, "branching", branching())
    for name, (write, _) in HOSTILE.items():
        (models / name).mkdir()
        write(models / name)
    return models


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Client]:
    """Return a client of a server with the folder's models."""
    settings = Settings(
        models=str(folder),
        device="cpu",
        port=0,
        metrics_port=-1,
        log_level="error",
        control=True,
        max_model_bytes=512 * 2**20,
    )
    with EmbeddedServer(settings) as address, Client(address) as client:
        yield client


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_refused_with_a_reason(served: Client, folder: Path, name: str) -> None:
    model = served.model(name)
    assert model.state is ModelState.FAILED
    with pytest.raises(errors.ModelFailedError, match=HOSTILE[name][1]) as caught:
        served.extract(np.zeros((1, 3, 8, 8), np.float32), model=name, taps="all")
    with pytest.raises(errors.ModelFailedError):
        served.load_model(name)
    for text in (model.reason, str(caught.value), str(caught.value.metadata)):
        assert str(folder) not in text
        assert "root:" not in text
        assert "/tmp" not in text


def test_the_others_serve(served: Client) -> None:
    images = np.zeros((1, 3, 8, 8), np.float32)
    assert served.extract(images, model="branching", taps="scores")["scores"].shape == (1, 4)
