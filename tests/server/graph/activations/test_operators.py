"""Tests of the evaluation of operators against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from layertap_server.graph.activations.operators import OPERATORS

X = np.linspace(-4, 4, 33).astype(np.float32)
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "Gelu": {"approximate": "tanh"}, "Elu": {"alpha": 0.7}, "Celu": {"alpha": 2.0},
    "Shrink": {"lambd": 0.3, "bias": 0.1},
    "HardSigmoid": {"alpha": 0.3, "beta": 0.4}, "LeakyRelu": {"alpha": 0.2}, "ThresholdedRelu": {"alpha": 0.5},
    "Selu": {"alpha": 1.5, "gamma": 1.1},
}  # fmt: skip
UNARY = (
    "Abs", "Celu", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Mish", "Neg",
    "Relu", "Selu", "Shrink", "Sigmoid", "Sign", "Softplus", "Softsign", "Tanh", "ThresholdedRelu",
)  # fmt: skip


def compute(node: onnx.NodeProto, given: dict[str, np.ndarray]) -> np.ndarray:
    """Return the result of a node in onnxruntime."""
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in given.items()
    ]
    output = helper.make_empty_tensor_value_info("y")
    opset = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(helper.make_graph([node], "g", inputs, [output]), opset_imports=opset, ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, given)
    return np.asarray(result)


@pytest.mark.parametrize("operator", UNARY)
def test_unary_operators(operator: str) -> None:
    node = helper.make_node(operator, ["x"], ["y"], **ATTRIBUTES.get(operator, {}))
    np.testing.assert_allclose(OPERATORS[operator](node, [X.astype(float)]), compute(node, {"x": X}), atol=1e-5)


@pytest.mark.parametrize(
    "operator", ["Add", "Sub", "Mul", "Div", "Max", "Min", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "PRelu"]
)
def test_binary_operators(operator: str) -> None:
    other = np.asarray([0.25], np.float32)
    node = helper.make_node(operator, ["x", "o"], ["y"])
    got = OPERATORS[operator](node, [X.astype(float), other.astype(float)])
    np.testing.assert_allclose(got, compute(node, {"x": X, "o": other}), atol=1e-5)


def test_clip_without_a_bound() -> None:
    node = helper.make_node("Clip", ["x", "", "high"], ["y"])
    got = OPERATORS["Clip"](node, [X.astype(float), np.empty(0), np.asarray(1.5)])
    np.testing.assert_allclose(got, compute(node, {"x": X, "high": np.asarray(1.5, np.float32)}))


def test_fused_operators_of_onnxruntime() -> None:
    node = helper.make_node("QuickGelu", ["x"], ["y"], domain="com.microsoft", alpha=1.702)
    np.testing.assert_allclose(OPERATORS["QuickGelu"](node, [X.astype(float)]), compute(node, {"x": X}), atol=1e-5)
