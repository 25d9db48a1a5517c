"""Files that are no models, or mean harm: refused with a reason, no path told, and nothing else disturbed."""

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
    def write(folder: Path) -> None:
        (folder / "model.onnx").write_bytes(content)

    return write


def with_labels(make: Writer) -> Writer:
    """A good model whose class names are something else."""

    def write(folder: Path) -> None:
        (folder / "model.onnx").write_bytes(branching().SerializeToString())
        (folder / "model.yaml").write_text("labels: labels.txt")
        make(folder / "labels.txt")

    return write


def of_model(make: Callable[[], onnx.ModelProto]) -> Writer:
    return bytes_of(make().SerializeToString())


def truncated(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(branching().SerializeToString()[:-900])


def flipped(folder: Path) -> None:
    content = bytearray(branching().SerializeToString())
    content[40:60] = os.urandom(20)
    (folder / "model.onnx").write_bytes(content)


def with_weight(weight: TensorProto) -> onnx.ModelProto:
    model = of_text(f"{OPSET}\n{CONV}")
    weight.name = "w"
    model.graph.initializer.append(weight)
    return model


def negative_sizes() -> onnx.ModelProto:
    return with_weight(TensorProto(data_type=TensorProto.FLOAT, dims=[4, 3, -3, -3], raw_data=bytes(4 * 108)))


def more_than_it_holds() -> onnx.ModelProto:
    """1 GB by its shape and 432 bytes in the file."""
    return with_weight(TensorProto(data_type=TensorProto.FLOAT, dims=[2**28], raw_data=bytes(4 * 108)))


def huge_shape() -> onnx.ModelProto:
    """A constant of 2⁶⁰ values that a node would make."""
    model = of_text(f"""{OPSET}
    huge (float[batch, 3, 8, 8] image) => (float[a, b, c, d] sum) {{
        zeros = ConstantOfShape (sizes)
        sum = Add (image, zeros)
    }}""")
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 2**20, 2**20, 2**20]), "sizes"))
    return model


def gigabyte() -> onnx.ModelProto:
    """A constant of 1 GB that onnxruntime would fold into the session."""
    model = of_text(f"""{OPSET}
    huge (float[batch, 3, 8, 8] image) => (float[a, b, c, d] sum) {{
        zeros = ConstantOfShape (sizes)
        sum = Add (image, zeros)
    }}""")
    model.graph.initializer.append(numpy_helper.from_array(np.array([2**22, 1, 8, 8]), "sizes"))
    return model


def cyclic() -> onnx.ModelProto:
    model = of_text(f"{OPSET}\n{CONV}", w=(4, 3, 3, 3))
    model.graph.node.append(helper.make_node("Relu", ["b"], ["a"]))
    model.graph.node.append(helper.make_node("Relu", ["a"], ["b"]))
    return model


def custom_operator() -> onnx.ModelProto:
    model = of_text(f"{OPSET}\n{CONV}", w=(4, 3, 3, 3))
    model.opset_import.append(helper.make_opsetid("evil.corp", 1))
    model.graph.node.append(helper.make_node("Shell", ["maps"], ["done"], domain="evil.corp"))
    model.graph.output.append(helper.make_tensor_value_info("done", TensorProto.FLOAT, ["batch", 4, 6, 6]))
    return model


def outside(location: str) -> Writer:
    """External data at a place that is not the model's folder."""

    def write(folder: Path) -> None:
        weight = TensorProto(data_type=TensorProto.FLOAT, dims=[4, 3, 3, 3], data_location=TensorProto.EXTERNAL)
        weight.external_data.add(key="location", value=location)
        (folder / "model.onnx").write_bytes(with_weight(weight).SerializeToString())

    return write


def through_a_link(folder: Path) -> None:
    (folder / "weights.data").symlink_to("/etc/passwd")
    outside("weights.data")(folder)


def through_a_linked_folder(folder: Path) -> None:
    (folder / "weights").symlink_to("/etc")
    outside("weights/passwd")(folder)


def in_a_constant(folder: Path) -> None:
    """External data of an attribute, not of an initializer."""
    weight = TensorProto(data_type=TensorProto.FLOAT, dims=[4, 3, 3, 3], data_location=TensorProto.EXTERNAL, name="x")
    weight.external_data.add(key="location", value="../../../../etc/passwd")
    model = of_text(f"{OPSET}\n{CONV}")
    model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=weight))
    (folder / "model.onnx").write_bytes(model.SerializeToString())


def large_file(folder: Path) -> None:
    """1 GB of constants beside the model, in a file that takes no room on the disk."""
    with (folder / "weights.data").open("wb") as file:
        file.truncate(2**30)
    outside("weights.data")(folder)


def a_pipe(folder: Path) -> None:
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
    models = tmp_path_factory.mktemp("models")
    model_folder(models, "branching", branching())
    for name, (write, _) in HOSTILE.items():
        (models / name).mkdir()
        write(models / name)
    return models


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Client]:
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
