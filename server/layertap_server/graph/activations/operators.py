"""Evaluation of elementwise ONNX operators in float64, to compare sub-graphs with the formulas of activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import onnx

from layertap.types import Array
from layertap_server.graph.walk import attribute_of

Operator: TypeAlias = Callable[[onnx.NodeProto, Sequence[Array]], Array]
"""Function that evaluates a node for the values of its inputs."""

DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})
"""Operator domains in which `OPERATORS` are defined."""
SELU = (1.67326319217681884765625, 1.05070102214813232421875)
"""Default alpha and gamma of Selu in the ONNX specification."""
QUICK_GELU = 1.702
"""Factor of x in the sigmoid of QuickGelu."""


def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(x / 2)))


def softplus(x: Array) -> Array:
    """Return ln(1 + exp(x)), without overflow."""
    return np.logaddexp(0.0, x)


def erf(x: Array) -> Array:
    """Return the error function of each value."""
    return np.asarray([math.erf(value) for value in np.ravel(x)]).reshape(np.shape(x))


def gelu(x: Array, approximate: str = "none") -> Array:
    """Return the Gaussian error linear unit of each value, by the error function or by tanh."""
    if approximate == "tanh":
        return np.asarray(x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))
    return np.asarray(x / 2 * (1 + erf(x / math.sqrt(2))))


def _number(node: onnx.NodeProto, name: str, default: float) -> float:
    """Return a number attribute of a node."""
    return float(attribute_of(node, name, default))


def _clip(node: onnx.NodeProto, given: Sequence[Array]) -> Array:
    """Evaluate Clip; the bounds are inputs, or attributes before opset 11."""
    low, high = (
        given[index] if index < len(given) and given[index].size else np.asarray(_number(node, name, bound))
        for index, name, bound in ((1, "min", -np.inf), (2, "max", np.inf))
    )
    return np.minimum(np.maximum(given[0], low), high)


def _gelu(node: onnx.NodeProto, given: Sequence[Array]) -> Array:
    """Evaluate Gelu."""
    return gelu(given[0], attribute_of(node, "approximate", "none"))


def _elu(node: onnx.NodeProto, given: Sequence[Array]) -> Array:
    """Evaluate Elu."""
    return np.where(given[0] >= 0, given[0], _number(node, "alpha", 1.0) * np.expm1(np.minimum(given[0], 0)))


def _celu(node: onnx.NodeProto, given: Sequence[Array]) -> Array:
    """Evaluate Celu."""
    alpha = _number(node, "alpha", 1.0)
    return np.maximum(given[0], 0) + alpha * np.expm1(np.minimum(given[0], 0) / alpha)


def _selu(node: onnx.NodeProto, given: Sequence[Array]) -> Array:
    """Evaluate Selu."""
    alpha, gamma = _number(node, "alpha", SELU[0]), _number(node, "gamma", SELU[1])
    return gamma * np.where(given[0] > 0, given[0], alpha * np.expm1(np.minimum(given[0], 0)))


def _shrink(node: onnx.NodeProto, given: Sequence[Array]) -> Array:
    """Evaluate Shrink."""
    threshold, bias = _number(node, "lambd", 0.5), _number(node, "bias", 0.0)
    x = given[0]
    return np.where(x < -threshold, x + bias, np.where(x > threshold, x - bias, 0.0))


def _hard_sigmoid(node: onnx.NodeProto, given: Sequence[Array]) -> Array:
    """Evaluate HardSigmoid."""
    return np.clip(_number(node, "alpha", 0.2) * given[0] + _number(node, "beta", 0.5), 0, 1)


def _swish(node: onnx.NodeProto, given: Sequence[Array]) -> Array:
    """Evaluate Swish, or QuickGelu of onnxruntime."""
    alpha = _number(node, "alpha", QUICK_GELU if node.op_type == "QuickGelu" else 1.0)
    return np.asarray(given[0] * sigmoid(alpha * given[0]))


def _leaky(node: onnx.NodeProto, given: Sequence[Array]) -> Array:
    """Evaluate LeakyRelu."""
    return np.where(given[0] < 0, _number(node, "alpha", 0.01) * given[0], given[0])


def _thresholded(node: onnx.NodeProto, given: Sequence[Array]) -> Array:
    """Evaluate ThresholdedRelu."""
    return np.where(given[0] > _number(node, "alpha", 1.0), given[0], 0.0)


def _plain(function: Callable[..., Array]) -> Operator:
    """Return the operator that applies a function to its inputs."""

    def evaluate(_node: onnx.NodeProto, given: Sequence[Array]) -> Array:
        return np.asarray(function(*given), np.float64)

    return evaluate


def _folded(function: Callable[[Array, Array], Array]) -> Operator:
    """Return the operator that combines any number of inputs by a function of two."""

    def evaluate(_node: onnx.NodeProto, given: Sequence[Array]) -> Array:
        result = given[0]
        for other in given[1:]:
            result = function(result, other)
        return np.asarray(result)

    return evaluate


def _first(_node: onnx.NodeProto, given: Sequence[Array]) -> Array:
    """Return the first input: the node does not change its values, but their type or storage."""
    return given[0]


OPERATORS: Mapping[str, Operator] = {
    **dict.fromkeys(("Identity", "Cast", "CastLike", "Dropout", "QuantizeLinear", "DequantizeLinear"), _first),
    "Add": _plain(np.add),
    "Sub": _plain(np.subtract),
    "Mul": _plain(np.multiply),
    "Div": _plain(np.divide),
    "Pow": _plain(np.power),
    "Neg": _plain(np.negative),
    "Reciprocal": _plain(np.reciprocal),
    "Abs": _plain(np.abs),
    "Sign": _plain(np.sign),
    "Sqrt": _plain(np.sqrt),
    "Exp": _plain(np.exp),
    "Log": _plain(np.log),
    "Erf": _plain(erf),
    "Max": _folded(np.maximum),
    "Min": _folded(np.minimum),
    "Sum": _folded(np.add),
    "Greater": _plain(np.greater),
    "GreaterOrEqual": _plain(np.greater_equal),
    "Less": _plain(np.less),
    "LessOrEqual": _plain(np.less_equal),
    "Not": _plain(np.logical_not),
    "Where": _plain(np.where),
    "Relu": _plain(lambda x: np.maximum(x, 0)),
    "Sigmoid": _plain(sigmoid),
    "Tanh": _plain(np.tanh),
    "Softplus": _plain(softplus),
    "Softsign": _plain(lambda x: x / (1 + np.abs(x))),
    "Mish": _plain(lambda x: x * np.tanh(softplus(x))),
    "HardSwish": _plain(lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    "PRelu": _plain(lambda x, slope: np.where(x < 0, slope * x, x)),
    "FastGelu": _plain(lambda x: gelu(x, "tanh")),
    **dict.fromkeys(("Swish", "QuickGelu"), _swish),
    "Clip": _clip,
    "Gelu": _gelu,
    "Elu": _elu,
    "Celu": _celu,
    "Selu": _selu,
    "Shrink": _shrink,
    "HardSigmoid": _hard_sigmoid,
    "LeakyRelu": _leaky,
    "ThresholdedRelu": _thresholded,
}
"""Elementwise operators that can be part of an activation."""
FIRST_ONLY = frozenset({"QuantizeLinear", "DequantizeLinear", "CastLike", "Dropout"})
"""Operators of which only the first input counts."""
SHAPED = frozenset({"Reshape", "Unsqueeze", "Squeeze", "Expand", "Identity", "Cast", "CastLike", "Flatten"})
"""Operators that keep the values of a constant and change at most its shape or type."""
