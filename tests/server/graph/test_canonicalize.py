"""Tests of the conversion of old, unusual and broken models to canonical form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

from layertap_server.graph import GraphError, read
from layertap_server.graph.canonicalize import canonicalize, opset_of, prepare


def model(body: str, opset: int = 17, types: str = "(float[n, 3, 8, 8] x) => (float[n, 3, 8, 8] y)") -> onnx.ModelProto:
    """Return a model of ONNX text with one input ``x`` and one output ``y``."""
    return parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> g {types} {{ {body} }}')


def canonical_form(proto: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Prepare and canonicalize a model, as when a file is read."""
    prepare(proto, folder)
    return canonicalize(proto)


def test_constants_of_nodes_become_weights(tmp_path: Path) -> None:
    normal = canonical_form(model("two = Constant <value = float {2.0}> () y = Mul (x, two)"), tmp_path)
    assert [node.op_type for node in normal.graph.node] == ["Mul"]
    assert [tensor.name for tensor in normal.graph.initializer] == ["two"]


def test_a_model_of_custom_operators_alone_gets_an_opset_for_heads(tmp_path: Path) -> None:
    odd = model("y = Gelu (x)")
    del odd.opset_import[:]
    odd.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    odd.graph.node[0].domain = "com.microsoft"
    assert opset_of(odd) == 17
    assert ("", 17) in {(item.domain, item.version) for item in canonical_form(odd, tmp_path).opset_import}


def test_an_output_without_a_shape_gets_the_inferred_one(tmp_path: Path) -> None:
    odd = model("y = Relu (x)")
    odd.graph.output[0].type.tensor_type.ClearField("shape")
    (output,) = canonical_form(odd, tmp_path).graph.output
    assert len(output.type.tensor_type.shape.dim) == 4


@pytest.mark.parametrize(
    ("body", "opset", "words"),
    [
        ("y = Relu (missing)", 17, "not a valid ONNX model"),
        ("y = Hardmax (x)", 11, "Hardmax of opset 11 works on flattened layers; export the model with opset 13"),
    ],
)
def test_what_cannot_be_brought_there(body: str, opset: int, words: str, tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=words):
        canonical_form(model(body, opset), tmp_path)


def test_sparse_weights_are_refused(tmp_path: Path) -> None:
    odd = model("y = Relu (x)")
    values, indices = (
        numpy_helper.from_array(np.ones(1, np.float32), "w"),
        numpy_helper.from_array(np.zeros(1, np.int64)),
    )
    odd.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))
    with pytest.raises(GraphError, match="sparse tensors"):
        canonical_form(odd, tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"dims": [-1]}, "negative size"), ({"dims": [5]}, "do not match their shape")],
)
def test_weights_that_do_not_hold_what_they_say(change: dict[str, list[int]], words: str, tmp_path: Path) -> None:
    odd = model("y = Add (x, w)")
    weight = numpy_helper.from_array(np.ones(3, np.float32), "w")
    weight.dims[:] = change["dims"]
    odd.graph.initializer.append(weight)
    with pytest.raises(GraphError, match=words):
        canonical_form(odd, tmp_path)


def test_packed_and_text_weights_stay_in_the_model(tmp_path: Path) -> None:
    odd = model("y = Relu (x)")
    odd.graph.initializer.append(helper.make_tensor("packed", onnx.TensorProto.INT4, [2048], [1] * 2048))
    odd.graph.initializer.append(numpy_helper.from_array(np.array(["x" * 2048], object), "text"))
    odd.ir_version, odd.opset_import[0].version = 10, 21
    normal = canonical_form(odd, tmp_path)
    assert {tensor.data_location for tensor in normal.graph.initializer} == {onnx.TensorProto.DEFAULT}


@pytest.mark.parametrize("opset", [13, 16])
def test_roi_align_keeps_what_it_did_by_default(opset: int, tmp_path: Path) -> None:
    body = "y = RoiAlign <output_height = 8, output_width = 8> (x, rois, batch)"
    types = "(float[n, 3, 8, 8] x, float[n, 4] rois, int64[n] batch) => (float[n, 3, 8, 8] y)"
    normal = canonical_form(model(body, opset, types), tmp_path)
    modes = {item.name: item.s for item in normal.graph.node[0].attribute}
    assert opset_of(normal) == 17
    assert modes.get("coordinate_transformation_mode") == (b"output_half_pixel" if opset < 16 else None)


def test_a_resize_of_opset_10_keeps_its_coordinates(tmp_path: Path) -> None:
    old = model('y = Resize <mode = "nearest"> (x, scales)', 10, "(float[n, 3, 8, 8] x) => (float[n, 3, 16, 16] y)")
    old.graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales"))
    normal = canonical_form(old, tmp_path)
    resize = next(node for node in normal.graph.node if node.op_type == "Resize")
    modes = {item.name: item.s for item in resize.attribute}
    assert modes["coordinate_transformation_mode"] == b"asymmetric"
    assert modes["nearest_mode"] == b"floor"


def test_nodes_that_the_conversion_adds_are_no_layers(tmp_path: Path) -> None:
    old = model("y = Softmax <axis = 1> (x)", 11)
    layers = read(old, tmp_path).layers
    assert [layer.name for layer in layers] == ["x", "y"]
