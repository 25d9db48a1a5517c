"""Test targets and the gradients of layers in compiled plans, against differences in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper, parser

from layertap import blocks
from layertap.expression import parse_head
from layertap.types import Array, Layout
from layertap_server.blocks import Builder
from layertap_server.graph import ModelGraph, compile_plan, read
from layertap_server.graph.gradient import (
    TARGET_INDEX,
    Gradient,
    NoRuleError,
    Target,
    UnrelatedTargetError,
    differentiate,
    target_size,
)
from layertap_server.tensor import Tensor
from tests.models import branching
from tests.server.graph.gradient.networks import layer_gradient

LAYERS = ("image", "conv", "down", "left", "joined", "mean", "vector", "scores")
"""Layers of the branching model, without the rectified one, whose zeros tie in the pool and have no derivative."""
SEQUENCE = """
<ir_version: 8, opset_import: ["" : 17]>
sequence (float[batch, 3, 4] x) => (float[batch, 5] scores) {
    turned = Transpose <perm = [1, 0, 2]> (x)
    inner = MatMul (turned, w)
    curved = Tanh (inner)
    mean = ReduceMean <axes = [0], keepdims = 0> (curved)
    scores = MatMul (mean, v)
}
"""


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> ModelGraph:
    """Return the graph of the branching test model."""
    return read(branching(), tmp_path_factory.mktemp("weights"))


def run(graph: ModelGraph, target: Target, layers: tuple[str, ...], images: Array, index: list[int]) -> list[Array]:
    """Return the gradients with respect to layers, then the target's indices and values."""
    heads = [(Gradient(layer), ()) for layer in layers]
    plan = compile_plan(graph, heads, normalization=None, image_size=None, target=target)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(graph.weights_folder))
    session = onnxruntime.InferenceSession(plan.model, options, providers=["CPUExecutionProvider"])
    feeds = {plan.input_name: images, TARGET_INDEX: np.array(index, np.int64)}
    return list(session.run([*plan.output_names, *plan.target_outputs], feeds))


def head(text: str) -> tuple[blocks.BoundBlock, ...]:
    """Parse and bind a head."""
    return tuple(blocks.bind(block) for block in parse_head(text))


def test_gradients_equal_differences_for_each_image_and_its_index(graph: ModelGraph) -> None:
    images = np.random.default_rng(1).normal(size=(3, 3, 8, 8)).astype(np.float32)
    *found, chosen, values = run(graph, Target("scores"), LAYERS, images, [2, 0, -1])
    scores = onnxruntime.InferenceSession(branching().SerializeToString()).run(["scores"], {"image": images})[0]
    expected = [2, 0, int(scores[2].argmax())]
    assert chosen.reshape(-1).tolist() == expected
    np.testing.assert_allclose(values.reshape(-1), scores[np.arange(3), expected], rtol=1e-6)
    for number, index in enumerate(expected):
        for layer, gradient in zip(LAYERS, found, strict=True):
            exact = layer_gradient(branching(), {"image": images[number : number + 1]}, layer, "scores", index)
            np.testing.assert_allclose(gradient[number : number + 1], exact, atol=1e-4 * max(np.abs(exact).max(), 1e-3))


def test_a_head_makes_the_target(graph: ModelGraph) -> None:
    images = np.random.default_rng(2).normal(size=(2, 3, 8, 8)).astype(np.float32)
    gradient, chosen, values = run(graph, Target("joined", head("select([1]) | gap")), ("joined",), images, [-1, -1])
    assert gradient.shape == (2, 6, 4, 4)
    np.testing.assert_allclose(gradient[:, 1], 1 / 16, rtol=1e-6)
    assert not gradient[:, [0, 2, 3, 4, 5]].any()
    assert chosen.tolist() == [[0], [0]]
    assert values.shape == (2, 1)


def test_layers_whose_batch_is_second_have_gradients_batch_first(tmp_path: Path) -> None:
    model = parser.parse_model(SEQUENCE)
    random = np.random.default_rng(3)
    for name, shape in (("w", (4, 4)), ("v", (4, 5))):
        model.graph.initializer.append(numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name))
    x = random.normal(size=(2, 3, 4)).astype(np.float32)
    inner, outer, *_ = run(read(model, tmp_path), Target("scores"), ("inner", "x"), x, [4, 1])
    assert inner.shape == (2, 3, 4)
    for number, index in enumerate((4, 1)):
        one = {"x": x[number : number + 1]}
        exact = layer_gradient(model, one, "inner", "scores", index)
        np.testing.assert_allclose(inner[number : number + 1], exact.transpose(1, 0, 2), atol=1e-5)
        np.testing.assert_allclose(
            outer[number : number + 1], layer_gradient(model, one, "x", "scores", index), atol=1e-5
        )


GUIDED = """
<ir_version: 8, opset_import: ["" : 17]>
guided (float[batch, 5] x) => (float[batch, 3] scores) {
    zero = Constant <value = float {0.0}> ()
    six = Constant <value = float {6.0}> ()
    first = MatMul (x, w1)
    bounded = Clip (first, zero, six)
    second = MatMul (bounded, w2)
    rectified = Relu (second)
    scores = MatMul (rectified, w3)
}
"""


def test_relus_of_a_guided_target_pass_positive_gradients_only(tmp_path: Path) -> None:
    model, random = parser.parse_model(GUIDED), np.random.default_rng(6)
    weights = [random.normal(size=shape) for shape in ((5, 8), (8, 8), (8, 3))]
    for number, weight in enumerate(weights, 1):
        model.graph.initializer.append(numpy_helper.from_array(weight.astype(np.float32), f"w{number}"))
    x = random.normal(size=(4, 5)) * 2
    first = x @ weights[0]
    second = np.clip(first, 0, 6) @ weights[1]
    expected = {}
    for is_guided in (False, True):
        passed = np.tile(weights[2][:, 1], (4, 1))
        for before, weight in ((second, weights[1]), (first, weights[0])):
            inside = (before > 0) & ((before < 6) if before is first else True)
            passed = (np.maximum(passed, 0) if is_guided else passed) * inside @ weight.T
        expected[is_guided] = passed
    graph = read(model, tmp_path)
    for is_guided, wanted in expected.items():
        found, *_ = run(graph, Target("scores", guided=is_guided), ("x",), x.astype(np.float32), [1] * 4)
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert np.abs(expected[True] - expected[False]).max() > 0.1


def test_a_target_of_float16_has_its_largest_value(tmp_path: Path) -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float16[n, 3] x) => (float16[n, 3] y) { y = Mul(x, x) }'
    x = np.array([[1, -3, 2], [0, 1, 0.5]], np.float16)
    gradient, chosen, values = run(read(parser.parse_model(text), tmp_path), Target("y"), ("x",), x, [-1, -1])
    assert chosen.reshape(-1).tolist() == [1, 1]
    assert values.reshape(-1).tolist() == [9, 1]
    np.testing.assert_array_equal(gradient, np.array([[0, -6, 0], [0, 2, 0]], np.float16))


def test_layers_without_a_gradient_have_a_reason_and_others_their_gradient(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[n, 3] x) => (float[n, 3] y)
        { a = Exp(x) b = CumSum(a, one) c = Tanh(b) d = Relu(b) y = Add(c, a) }"""
    model = parser.parse_model(text)
    model.graph.initializer.append(numpy_helper.from_array(np.array(1), "one"))
    graph = read(model, tmp_path)
    made = differentiate(Builder(graph.opset), graph, Target("y"), ("x", "a", "b", "c", "d"))
    assert set(made.gradients) == {"b", "c"}
    assert isinstance(made.errors["x"], NoRuleError), (
        "a path without CumSum exists, and the gradient would lack the other"
    )
    assert isinstance(made.errors["a"], NoRuleError)
    assert isinstance(made.errors["d"], UnrelatedTargetError)
    with pytest.raises(NoRuleError, match="CumSum at 'b'"):
        compile_plan(graph, [(Gradient("x"), ())], normalization=None, image_size=None, target=Target("y"))
    with pytest.raises(ValueError, match="grad:x needs a target"):
        compile_plan(graph, [(Gradient("x"), ())], normalization=None, image_size=None)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        (("n",), 1),
        (("n", 1), 1),
        (("n", 7), 7),
        (("n", 7, 1, 1), 7),
        (("n", "c"), "c"),
        (("n", 7, 2), None),
        ((), None),
    ],
)
def test_a_target_is_a_number_or_a_vector(shape: tuple[int | str, ...], size: int | str | None) -> None:
    assert target_size(Tensor("y", "float32", shape, Layout.OTHER)) == size


def test_a_large_weight_may_be_stored_beside_the_model(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 64]) for name in ("x", "y")]
    body = helper.make_graph([node], "g", values[:1], values[1:], [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    gradient, *_ = run(read(model, tmp_path), Target("y"), ("x",), np.zeros((1, 64), np.float32), [5])
    np.testing.assert_array_equal(gradient[0], weights[:, 5])
