"""Test the folding of constant integers."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

from layertap_server.graph.folding import fold_integers


def folded(nodes: str, initializers: str = "") -> tuple[list[str], dict[str, list[int]]]:
    """Return the operators that are left in a graph, and the values of its initializers."""
    text = (
        f"<ir_version: 8, opset_import: ['' : 17]> g (float[1,3,8,8] x) => (float[n] y) <{initializers}> {{ {nodes} }}"
    )
    model = parser.parse_model(text.replace("'", '"'))
    fold_integers(model)
    values = {tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in model.graph.initializer}
    return [node.op_type for node in model.graph.node], values


def test_chains_of_integers_become_constants() -> None:
    left, values = folded(
        "m = Mod(two, three) r = Reshape(m, one) s = Add(r, one) y = ReduceSum(x, s)",
        "int64[1] two = {2}, int64[1] three = {3}, int64[1] one = {1}",
    )
    assert left == ["ReduceSum"]
    assert values["s"] == [3]


def test_floats_and_what_depends_on_inputs_are_kept() -> None:
    left, _ = folded(
        "h = Add(half, half) s = Shape(x) t = Mul(s, two) y = Mul(x, h)", "float half = {0.5}, int64[1] two = {2}"
    )
    assert left == ["Add", "Shape", "Mul", "Mul"]


def test_outputs_of_the_graph_are_kept() -> None:
    left, _ = folded("y = Add(two, two)", "int64[1] two = {2}")
    assert left == ["Add"]


@pytest.mark.parametrize(
    "node",
    [
        "b = ConstantOfShape(huge)",
        "b = Range(zero, huge0, one)",
        "b = Range(zero, one, zero)",
        "b = Div(one, zero)",
        "b = Reshape(one, huge)",
        "b = Gather(one, huge)",
    ],
)
def test_nodes_that_fail_or_make_much_are_kept(node: str) -> None:
    constants = "int64[1] huge = {99999999999}, int64 huge0 = {99999999999}, int64 zero = {0}, int64 one = {1}"
    left, _ = folded(f"{node} y = Relu(x)", constants)
    assert len(left) == 2


def test_division_rounds_as_onnx_does() -> None:
    _, values = folded("b = Div(a, two) y = Relu(x)", "int64[2] a = {-7, 7}, int64[1] two = {2}")
    graph = "g (int64[2] a) => (int64[2] b) <int64[1] two = {2}> { b = Div(a, two) }"
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {graph}')
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert values["b"] == session.run(None, {"a": np.array([-7, 7])})[0].tolist()


def test_a_constant_that_callers_may_replace_is_not_folded() -> None:
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1] x, int64[1] k) => (float[1] y) <int64[1] two = {2}>'
        " { b = Add(k, two) y = Relu(x) }"
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "k"))
    fold_integers(model)
    assert [node.op_type for node in model.graph.node] == ["Add", "Relu"]
    onnx.checker.check_model(model)
