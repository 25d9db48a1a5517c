"""Test the backward pass over several nodes, and its errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, parser

from layertap_server.graph.gradient import NoRuleError, UnrelatedTargetError
from tests.server.graph.gradient.cases import CASES, MAP
from tests.server.graph.gradient.nodes import gradients, make_model

HEADER = '<ir_version: 8, opset_import: ["" : 17]>'


def parse(text: str) -> onnx.ModelProto:
    """Return the model of an ONNX text."""
    return parser.parse_model(f"{HEADER} g {text}")


def test_cotangents_of_a_tensor_that_is_used_twice_are_added() -> None:
    model = parse("(float[2, 3] x) => (float[2, 3] y) { a = Exp(x) b = Mul(a, x) y = Add(a, b) }")
    x = np.array([[0.1, -0.3, 2], [1, 0, -1]], np.float32)
    found = gradients(model, {"x": x}, "y", ("x", "a"))
    np.testing.assert_allclose(found["x"], np.exp(x) * (x + 2), rtol=1e-5)
    np.testing.assert_allclose(found["a"], 1 + x, rtol=1e-6)


def test_images_of_a_batch_have_gradients_of_their_own() -> None:
    model = parse("(float[N, 3] x) => (float[N, 3] y) { y = Softmax(x) }")
    model.graph.node.append(helper.make_node("Gather", ["y", "index"], ["target"], axis=1))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(1), "index"))
    model.graph.value_info.append(helper.make_tensor_value_info("target", onnx.TensorProto.FLOAT, ["N"]))
    batch = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    whole = gradients(model, {"x": batch})["x"]
    alone = [gradients(model, {"x": batch[index : index + 1]})["x"][0] for index in range(4)]
    np.testing.assert_allclose(whole, alone, atol=1e-6)


def test_a_layer_that_is_the_target_has_ones() -> None:
    model = parse("(float[2, 3] x) => (float[2, 3] y) { y = Exp(x) }")
    found = gradients(model, {"x": np.zeros((2, 3), np.float32)}, "y", ("y",))
    assert (found["y"] == 1).all()


@pytest.mark.parametrize("case", [case for case in CASES if case.inputs[0] == MAP], ids=lambda case: case.name)
def test_the_batch_may_be_free(case: Any) -> None:
    fixed, feeds = make_model(case, "float32", free_batch=False)
    free, _ = make_model(case, "float32", free_batch=True)
    for name, gradient in gradients(fixed, feeds).items():
        np.testing.assert_array_equal(gradients(free, feeds)[name], gradient)


@pytest.mark.parametrize(
    ("body", "wanted", "message"),
    [
        ("y = CumSum(x, one)", "x", "CumSum at 'y' cannot be differentiated: there is no rule for the operator"),
        ("a = Exp(x) y = com.example.Mine(a)", "x", "Mine at 'y' cannot be differentiated: there is no rule"),
        ("y = Pad(x, pads)", "x", "Pad at 'y' cannot be differentiated: it crops by negative pads"),
        ('y = ScatterND <reduction = "mul"> (x, places, x)', "x", "it combines values by mul"),
        ('y = Einsum <equation = "ii->i"> (square)', "square", "a repeated index"),
        ('y = Einsum <equation = "ij->i"> (x)', "x", "sums one input alone"),
        ("y = Conv(map, weights)", "weights", "Conv at 'y' cannot be differentiated: its rule has no derivative by"),
        ("a = Relu(one) y = Slice(x, a, a)", "x", "its input 'a' is not constant"),
        ('y = DepthToSpace <blocksize = 2, mode = "CRD"> (any)', "any", "its number of channels is not fixed"),
    ],
)
def test_a_node_without_a_rule_is_named(body: str, wanted: str, message: str) -> None:
    text = f"""(float[3, 3] x, float[3, 3] square, float[1, 2, 5, 5] map, float[N, C, 2, 2] any) => (float[M] y)
        <int64[1] one = {{1}}, int64[4] pads = {{-1, 0, 0, 0}}, int64[3, 1] places = {{0, 1, 2}},
         float[1, 2, 1, 1] weights = {{1, 2}}> {{ {body} }}"""
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17, "com.example" : 1]> g {text}')
    with pytest.raises(NoRuleError, match=message) as caught:
        gradients(model, {}, "y", (wanted,))
    assert caught.value.layer == "y"
    assert caught.value.operator in body


@pytest.mark.parametrize("body", ["y = Exp(other)", "a = ArgMax(x) b = Cast <to = 1> (a) y = Exp(b)", "y = Floor(x)"])
def test_a_target_that_does_not_depend_on_the_layer_is_refused(body: str) -> None:
    model = parse(f"(float[3, 3] x, float[3, 3] other) => (float[M, 3] y) {{ {body} }}")
    with pytest.raises(UnrelatedTargetError, match="the target 'y' does not depend on 'x'") as caught:
        gradients(model, {}, "y", ("x",))
    assert caught.value.layer == "x"
