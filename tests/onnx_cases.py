"""Translate ONNX's operator test cases to heads, for operators that are blocks; other cases get a reason."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx.backend.test.case.node import collect_testcases

from layertap.types import Array


class NotExpressible(Exception):
    """The case cannot be written as a head; the message is the reason."""


@dataclass(frozen=True)
class OnnxCase:
    """A test case of ONNX."""

    name: str
    """Name of the case."""
    op_type: str
    """Operator."""
    head: str
    """The head; empty if the case cannot be written as one."""
    reason: str
    """Reason why it cannot."""
    input: Array
    """Input."""
    expected: Array
    """Expected output."""


Attributes = dict[str, Any]
"""Attributes of a node by name."""
Translate = Callable[[Attributes, list[Array], Array], str]
"""Function from attributes, inputs and expected output to a head."""


def _plain(head: str) -> Translate:
    """Translate to a head without parameters."""
    return lambda _attributes, _inputs, _expected: head


def _parameters(block: str, **names: str) -> Translate:
    """Translate to a block whose parameters are the operator's attributes under other names."""

    def translate(attributes: Attributes, _inputs: list[Array], _expected: Array) -> str:
        given = [f"{ours}={attributes[theirs]}" for theirs, ours in names.items() if theirs in attributes]
        return f"{block}({', '.join(given)})" if given else block

    return translate


def _elu_like(block: str, default: float) -> Translate:
    """Translate to a block with the parameter alpha."""
    return lambda attributes, _inputs, _expected: f"{block}({attributes.get('alpha', default)})"


def _selu(attributes: Attributes, _inputs: list[Array], _expected: Array) -> str:
    """Translate Selu."""
    if attributes.get("alpha", 1.67326) not in {1.67326, 1.6732631921768188}:
        raise NotExpressible("selu uses the constants of torch.nn")
    return "selu"


def _shrink(attributes: Attributes, _inputs: list[Array], _expected: Array) -> str:
    """Translate Shrink."""
    bias, lambd = attributes.get("bias", 0.0), attributes.get("lambd", 0.5)
    if bias not in {0.0, lambd}:
        raise NotExpressible("the bias must be 0 (hardshrink) or lambd (softshrink)")
    return f"{'hardshrink' if bias == 0 else 'softshrink'}({lambd})"


def _softmax(block: str) -> Translate:
    """Translate to a block with the parameter axis."""

    def translate(attributes: Attributes, inputs: list[Array], _expected: Array) -> str:
        axis = attributes.get("axis", -1)
        if axis % inputs[0].ndim == 0:
            raise NotExpressible("the first axis is the batch")
        return f"{block}(axis={axis})"

    return translate


def _clip(_attributes: Attributes, inputs: list[Array], _expected: Array) -> str:
    """Translate Clip."""
    if len(inputs) != 3 or any(array.size == 0 for array in inputs):
        raise NotExpressible("clip needs both bounds")
    return f"clip({float(inputs[1])}, high={float(inputs[2])})"


def _pads(attributes: Attributes) -> str:
    """Return the padding."""
    auto = attributes.get("auto_pad", "NOTSET")
    named = {"SAME_UPPER": "same", "SAME_LOWER": "same_lower", "VALID": "valid"}
    if auto in named:
        return named[auto]
    return f"[{', '.join(map(str, attributes['pads']))}]" if any(attributes.get("pads", [])) else "valid"


def _pool(block: str) -> Translate:
    """Translate a window pool."""

    def translate(attributes: Attributes, inputs: list[Array], _expected: Array) -> str:
        if inputs[0].ndim != 4:
            raise NotExpressible("windows must be two-dimensional")
        if attributes.get("storage_order"):
            raise NotExpressible("indices in column-major order are not supported")
        given = [
            f"[{', '.join(map(str, attributes['kernel_shape']))}]",
            f"stride=[{', '.join(map(str, attributes.get('strides', [1, 1])))}]",
            f"dilation=[{', '.join(map(str, attributes.get('dilations', [1, 1])))}]",
            f"padding={_pads(attributes)}",
            f"ceil={'true' if attributes.get('ceil_mode') else 'false'}",
        ]
        given += ["count_include_pad=true"] if attributes.get("count_include_pad") else []
        given += [f"p={attributes.get('p', 2)}"] if block == "lp_pool" else []
        return f"{block}({', '.join(given)})"

    return translate


def _global(block: str) -> Translate:
    """Translate a global pool."""

    def translate(_attributes: Attributes, _inputs: list[Array], expected: Array) -> str:
        return f"{block} | reshape([{', '.join(map(str, expected.shape[1:]))}])"

    return translate


def _per_channel(values: Array) -> str:
    """Return values as a list."""
    return f"[{', '.join(map(str, values.ravel().tolist()))}]"


def _prelu(_attributes: Attributes, inputs: list[Array], _expected: Array) -> str:
    """Translate PRelu."""
    slope = inputs[1]
    if slope.size not in {1, inputs[0].shape[1]} or (slope.size > 1 and slope.shape[-1] != 1):
        raise NotExpressible("slopes must be per channel, not per value")
    return f"prelu({_per_channel(slope)})"


def _batch_norm(attributes: Attributes, inputs: list[Array], _expected: Array) -> str:
    """Translate BatchNormalization."""
    if attributes.get("training_mode"):
        raise NotExpressible("training mode also returns new running statistics")
    scale, bias, mean, variance = map(_per_channel, inputs[1:])
    eps = attributes.get("epsilon", 1e-5)
    return f"batch_norm({mean}, variance={variance}, scale={scale}, bias={bias}, eps={eps})"


def _instance_norm(attributes: Attributes, inputs: list[Array], _expected: Array) -> str:
    """Translate InstanceNormalization."""
    scale, bias = map(_per_channel, inputs[1:])
    return f"instance_norm({scale}, bias={bias}, eps={attributes.get('epsilon', 1e-5)})"


def _lrn(attributes: Attributes, _inputs: list[Array], _expected: Array) -> str:
    """Translate LRN."""
    given = {"alpha": 1e-4, "beta": 0.75, "bias": 1.0, **attributes}
    return f"lrn({given['size']}, alpha={given['alpha']}, beta={given['beta']}, k={given['bias']})"


def _mvn(attributes: Attributes, _inputs: list[Array], _expected: Array) -> str:
    """Translate MeanVarianceNormalization."""
    return f"mean_variance([{', '.join(map(str, attributes.get('axes', [0, 2, 3])))}])"


def _lp_norm(attributes: Attributes, inputs: list[Array], _expected: Array) -> str:
    """Translate LpNormalization."""
    axis = attributes.get("axis", -1)
    if axis % inputs[0].ndim == 0:
        raise NotExpressible("the first axis is the batch")
    return f"l{attributes.get('p', 2)}(axis={axis})"


def _flatten(attributes: Attributes, _inputs: list[Array], _expected: Array) -> str:
    """Translate Flatten."""
    if attributes.get("axis", 1) != 1:
        raise NotExpressible("flatten keeps only the batch axis")
    return "flatten"


def _transpose(attributes: Attributes, inputs: list[Array], _expected: Array) -> str:
    """Translate Transpose."""
    perm = attributes.get("perm", list(range(inputs[0].ndim))[::-1])
    if perm[0] != 0:
        raise NotExpressible("the batch must stay the first axis")
    return f"transpose([{', '.join(map(str, perm))}])"


def _gelu(attributes: Attributes, _inputs: list[Array], _expected: Array) -> str:
    """Translate Gelu."""
    return f"gelu({attributes.get('approximate', 'none')})"


OPERATORS: dict[str, Translate] = {
    "Identity": _plain("identity"),
    "Relu": _plain("relu"),
    "Sigmoid": _plain("sigmoid"),
    "Tanh": _plain("tanh"),
    "Softsign": _plain("softsign"),
    "Softplus": _plain("softplus"),
    "HardSwish": _plain("hard_swish"),
    "Mish": _plain("mish"),
    "Abs": _plain("abs"),
    "Erf": _plain("erf"),
    "Gelu": _gelu,
    "Swish": _parameters("swish", alpha="beta"),
    "HardSigmoid": lambda attributes, _inputs, _expected: (
        f"hard_sigmoid({attributes.get('alpha', 0.2)}, beta={attributes.get('beta', 0.5)})"
    ),
    "LeakyRelu": _elu_like("leaky_relu", 0.01),
    "Elu": _elu_like("elu", 1.0),
    "Celu": _elu_like("celu", 1.0),
    "ThresholdedRelu": _elu_like("thresholded_relu", 1.0),
    "Selu": _selu,
    "Shrink": _shrink,
    "Clip": _clip,
    "PRelu": _prelu,
    "Softmax": _softmax("softmax"),
    "LogSoftmax": _softmax("log_softmax"),
    "MaxPool": _pool("max_pool"),
    "AveragePool": _pool("average_pool"),
    "LpPool": _pool("lp_pool"),
    "GlobalAveragePool": _global("gap"),
    "GlobalMaxPool": _global("gmp"),
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "LRN": _lrn,
    "MeanVarianceNormalization": _mvn,
    "LpNormalization": _lp_norm,
    "Flatten": _flatten,
    "Transpose": _transpose,
}
"""Translation of each operator."""


def onnx_cases() -> Iterator[OnnxCase]:
    """Yield every case of these operators with one node; expanded functions repeat the same cases and are skipped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some cases overflow on purpose
        cases = collect_testcases(None)
    for case in cases:
        if case.model is None or not case.data_sets or "_expanded" in case.name or len(case.model.graph.node) != 1:
            continue
        node = case.model.graph.node[0]
        if node.op_type not in OPERATORS or node.domain not in {"", "ai.onnx"}:
            continue
        inputs, outputs = case.data_sets[0]
        if all(isinstance(array, np.ndarray) for array in [*inputs, outputs[0]]):
            yield _translated(case.name, node, list(inputs), outputs[0])


def _translated(name: str, node: onnx.NodeProto, inputs: list[Array], expected: Array) -> OnnxCase:
    """Return a case with its head or its reason."""
    if inputs[0].ndim == 1:  # a vector becomes a batch of one
        inputs[0], expected = inputs[0][None], expected[None]
    head, reason = "", ""
    try:
        _check_input(inputs[0])
        head = OPERATORS[node.op_type](_attributes(node), inputs, expected)
    except NotExpressible as error:
        reason = str(error)
    return OnnxCase(name, node.op_type, head, reason, inputs[0], expected)


def _check_input(array: Array) -> None:
    """Refuse inputs that no head can have."""
    if array.dtype not in {np.dtype(np.float32), np.dtype(np.float16)}:
        raise NotExpressible(f"blocks compute in float32 and float16, got {array.dtype}")
    if array.ndim == 0:
        raise NotExpressible("a scalar has no batch axis")


def _attributes(node: onnx.NodeProto) -> Attributes:
    """Return the attributes of a node."""
    values = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}
