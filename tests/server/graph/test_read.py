"""Tests of reading a model's layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from layertap.types import Layout
from layertap_server.graph import GraphError, load, read
from layertap_server.graph.weights import FILE_NAME
from tests.models import branching


def test_layers_in_execution_order(tmp_path: Path) -> None:
    graph = read(branching(), tmp_path)
    assert [layer.name for layer in graph.layers] == [
        "image", "conv", "act", "down", "left", "right", "joined", "mean", "vector", "sizes", "scores",
    ]  # fmt: skip
    assert [layer.ordinal for layer in graph.layers] == list(range(11))


def test_what_a_layer_is(tmp_path: Path) -> None:
    layers = {layer.name: layer for layer in read(branching(), tmp_path).layers}
    conv, vector = layers["conv"], layers["vector"]
    assert (conv.node, conv.op_type, conv.module_path) == ("/stem/conv/Conv", "Conv", "stem.conv")
    assert (conv.dtype, conv.shape, conv.symbolic_shape) == ("float32", (-1, 6, 8, 8), ("N", "6", "8", "8"))
    assert (conv.layout, conv.channels, conv.stride) == (Layout.NCHW, 6, 1)
    assert (conv.parameters, conv.macs, conv.bytes_per_image) == (6 * 3 * 9, 6 * 64 * 3 * 9, 6 * 64 * 4)
    assert layers["down"].stride == 2
    assert (vector.layout, vector.shape, vector.channels) == (Layout.VECTOR, (-1, 6), 6)
    assert layers["scores"].macs == 24


def test_what_cannot_be_tapped_says_why(tmp_path: Path) -> None:
    layers = {layer.name: layer for layer in read(branching(), tmp_path).layers}
    assert layers["sizes"].not_tappable_reason == "its first axis is not the batch"
    assert [name for name, layer in layers.items() if not layer.tappable] == ["sizes"]


def test_large_weights_move_into_one_file(tmp_path: Path) -> None:
    model = branching()
    big = np.arange(6 * 6 * 16, dtype=np.float32).reshape(24, 24, 1, 1)
    model.graph.initializer.append(numpy_helper.from_array(big, "big"))
    graph = read(model, tmp_path)
    weight = graph.weights["big"]
    assert weight.data_location == TensorProto.EXTERNAL
    entries = {entry.key: entry.value for entry in weight.external_data}
    data = (tmp_path / FILE_NAME).read_bytes()
    start = int(entries["offset"])
    assert start % 4096 == 0
    assert data[start : start + int(entries["length"])] == big.tobytes()
    assert graph.weights["w2"].raw_data


def test_an_older_opset_is_converted(tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, 4, 4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "old", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    assert read(model, tmp_path).opset == 17


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"not a model", "not an ONNX model"), (b"", "model.onnx is empty"), (None, "No such file")],
)
def test_what_is_no_model(content: bytes | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(GraphError, match=words) as caught:
        load(path)
    assert str(tmp_path) not in str(caught.value)


def test_a_model_without_an_image_input(tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "flat", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    read_model = read(model, tmp_path)
    assert (read_model.main_input.name, read_model.takes_pictures, read_model.image_sides) == ("x", False, (None, None))
    assert [layer.symbolic_shape for layer in read_model.layers] == [("N", "3"), ("N", "3")]


def test_a_model_without_an_input_that_has_a_batch(tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "flat", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(GraphError, match=r"no input with a batch; the inputs are x float32 \[\]"):
        read(model, tmp_path)


def test_external_data_must_lie_in_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"\0" * (6 * 3 * 9 * 4))
    model = branching()
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../secret")
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(GraphError, match="outside the model's folder"):
        load(folder / "model.onnx")
    weight.external_data[0].value = "link"
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(GraphError, match="outside the model's folder"):
        load(folder / "model.onnx")


def test_external_data_beside_the_model(tmp_path: Path) -> None:
    onnx.save(branching(), tmp_path / "model.onnx", save_as_external_data=True, size_threshold=0, location="data")
    model = load(tmp_path / "model.onnx")
    np.testing.assert_array_equal(
        numpy_helper.to_array(model.graph.initializer[0]), numpy_helper.to_array(branching().graph.initializer[0])
    )
