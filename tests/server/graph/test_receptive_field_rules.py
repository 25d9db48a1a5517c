"""Tests of single rules of receptive fields: operators that keep a field, and operators after which none is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper, parser

from layertap.types import ReceptiveField
from layertap_server.graph import read

WEIGHTS = {
    "w": np.ones(8, np.float32),
    "square": np.ones((8, 8), np.float32),
    "pads": np.array([0, 0, 2, 0, 0, 0, 2, 0]),
    "pads2": np.array([2, 2]),
    "axis2": np.array([2]),
    "axis3": np.array([3]),
    "one": np.array([1]),
    "minus": np.array([-1]),
    "many": np.array([1000]),
    "twice": np.array([1, 1, 2, 2], np.float32),
    "half": np.array([1, 1, 0.5, 0.5], np.float32),
    "flat": np.array([0, -1]),
    "k3": np.ones((2, 3, 3, 3), np.float32),
}


def field_of(body: str, shape: str, folder: Path, *, size: int = 8) -> ReceptiveField | None:
    """Return the receptive field of ``y`` in a model of ONNX text."""
    text = (
        f'<ir_version: 8, opset_import: ["" : 18]> g (float[n, 3, {size}, {size}] x) => (float{shape} y) {{ {body} }}'
    )
    model = parser.parse_model(text)
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in WEIGHTS.items() if name in used
    )
    return {layer.name: layer for layer in read(model, folder).layers}["y"].receptive_field


@pytest.mark.parametrize(
    ("body", "shape", "expected"),
    [
        ("y = MatMul (x, square)", "[n, 3, 8, 8]", ReceptiveField(1, 1, 0)),
        ("y = Softmax <axis = 3> (x)", "[n, 3, 8, 8]", ReceptiveField(1, 1, 0)),
        ("y = LayerNormalization <axis = 3> (x, w)", "[n, 3, 8, 8]", ReceptiveField(1, 1, 0)),
        ("y = ReduceMean <keepdims = 0> (x, axis3)", "[n, 3, 8]", ReceptiveField(1, 1, 0)),
        ('y = Resize <mode = "nearest"> (x, , twice)', "[n, 3, 16, 16]", ReceptiveField(1, 0.5, -0.25)),
        ("y = SpaceToDepth <blocksize = 2> (x)", "[n, 12, 4, 4]", ReceptiveField(2, 2, 0.5)),
        ('y = Conv <auto_pad = "VALID"> (x, k3)', "[n, 2, 6, 6]", ReceptiveField(3, 1, 1)),
        ("y = Slice (x, one, many, axis3)", "[n, 3, 8, 7]", ReceptiveField(1, 1, 0)),
        ("y = Slice (x, one, many, axis2)", "[n, 3, 7, 8]", ReceptiveField(1, 1, 1)),
        ("y = Pad (x, pads)", "[n, 3, 12, 8]", ReceptiveField(1, 1, -2)),
    ],
)
def test_the_field_is_known(body: str, shape: str, expected: ReceptiveField, tmp_path: Path) -> None:
    assert field_of(body, shape, tmp_path) == expected


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ("y = MatMul (square, x)", "[n, 3, 8, 8]"),
        ("y = Softmax <axis = 2> (x)", "[n, 3, 8, 8]"),
        ("y = ReduceMean <keepdims = 0> (x, axis2)", "[n, 3, 8]"),
        ('y = Resize <mode = "nearest"> (x, , half)', "[n, 3, 4, 4]"),
        ("y = Slice (x, minus, many, axis2)", "[n, 3, 1, 8]"),
        ("t = Transpose <perm = [0, 1, 3, 2]> (x) y = Add (x, t)", "[n, 3, 8, 8]"),
        ("t = Transpose <perm = [0, 1, 3, 2]> (x) y = Conv (t, k3)", "[n, 2, 6, 6]"),
        ("t = Transpose <perm = [0, 1, 3, 2]> (x) y = SpaceToDepth <blocksize = 2> (t)", "[n, 12, 4, 4]"),
        ("t = Transpose <perm = [0, 1, 3, 2]> (x) y = DepthToSpace <blocksize = 1> (t)", "[n, 3, 8, 8]"),
        ("y = Reshape (x, flat)", "[n, 192]"),
        ("y = Pad (x, pads2, , axis2)", "[n, 3, 12, 8]"),
    ],
)
def test_no_field_is_known(body: str, shape: str, tmp_path: Path) -> None:
    assert field_of(body, shape, tmp_path) is None
