"""Tests of reading models with control flow, sequences, several inputs or missing files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

from layertap.types import Layout
from layertap_server.graph import GraphError, at_size, load, read
from layertap_server.graph.probe import probe_model
from tests.models import branching, vision_transformer

BODIES = """
<ir_version: 8, opset_import: ["" : 17]>
odd (float[n, 3, 8, 8] image, bool flag) => (float[n, 3, 8, 8] y) {
    y = If (flag) <
        then_branch = yes () => (float[n, 3, 8, 8] a) { a = Relu (image) },
        else_branch = no () => (float[n, 3, 8, 8] b) { b = Neg (image) }
    >
}
"""
SEQUENCE = """
<ir_version: 8, opset_import: ["" : 17]>
odd (float[n, 3, 8, 8] image) => (float[n, 3, 8, 8] y) {
    parts = SequenceConstruct (image)
    zero = Constant <value = int64 {0}> ()
    picked = SequenceAt (parts, zero)
    y, mask = Dropout (picked)
}
"""


def layers(text: str, folder: Path) -> dict[str, str]:
    """Return the reasons why layers cannot be tapped, by name."""
    return {layer.name: layer.not_tappable_reason for layer in read(parser.parse_model(text), folder).layers}


def test_layers_inside_a_body_are_listed_and_cannot_be_tapped(tmp_path: Path) -> None:
    reasons = layers(BODIES, tmp_path)
    assert reasons["a"] == reasons["b"] == "it is computed inside the body of If y"
    assert reasons["y"] == ""


def test_sequences_and_masks_cannot_be_tapped(tmp_path: Path) -> None:
    reasons = layers(SEQUENCE, tmp_path)
    assert reasons["parts"].startswith("it is not a tensor")
    assert reasons["mask"] == "the mask of a Dropout has no meaning at inference"


def test_tokens_that_do_not_come_from_a_map_have_no_grid(tmp_path: Path) -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    odd (float[n, 3, 8, 8] image) => (float[n, 3, 8] y) {
        mean = ReduceMean <axes = [3], keepdims = 0> (image)
        y = Relu (mean)
    }
    """
    found = {layer.name: layer for layer in read(parser.parse_model(text), tmp_path).layers}
    assert found["y"].tokens is None
    gridded = [layer for layer in read(vision_transformer(), tmp_path).layers if layer.tokens]
    assert {layer.layout for layer in gridded} == {Layout.TOKENS}


def test_a_size_that_the_model_does_not_take(tmp_path: Path) -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    odd (float[n, 3, 8, w] image) => (float[n, 3, 8, w] y) { y = Relu (image) }
    """
    graph = read(parser.parse_model(text), tmp_path)
    assert at_size(graph, (8, 5)).types["y"].shape == ("N", 3, 8, 5)
    with pytest.raises(GraphError, match="it takes"):
        at_size(graph, (9, 5))
    fixed = read(branching(), tmp_path)
    assert at_size(fixed, (1, 1)) is fixed


def write_external(folder: Path, **entries: str) -> Path:
    """Write a model whose weight has these external data entries."""
    model = branching()
    weight = numpy_helper.from_array(np.ones((6, 3, 3, 3), np.float32), "w0")
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    for key, value in entries.items():
        weight.external_data.add(key=key, value=value)
    model.graph.initializer.append(weight)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx"


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"location": "../outside.bin"}, "lie outside the model's folder"),
        ({"location": "missing.bin"}, "there is no file 'missing.bin'"),
        ({"location": "w.bin", "length": "many"}, "is not a number"),
        ({"location": "w.bin", "offset": "-4"}, "beyond the end of"),
    ],
)
def test_external_weights_that_cannot_be_read(entries: dict[str, str], words: str, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(b"\0" * 648)
    with pytest.raises(GraphError, match=words):
        load(write_external(tmp_path, **entries))


def test_external_weights_over_the_limit(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(b"\0" * 648)
    with pytest.raises(GraphError, match=r"bytes and the limit is 1400 \(--max-model-bytes\)"):
        load(write_external(tmp_path, location="w.bin"), 1400)


def test_the_probe_runs() -> None:
    session = onnxruntime.InferenceSession(probe_model(), providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.array([-1], np.float32)})[0].tolist() == [0]
