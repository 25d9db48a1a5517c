"""Rules of operators that compute each value by itself, with broadcasting.

The derivatives follow those of torch where the function has a corner: 0 for ``Relu`` at 0, and 1 for ``Clip`` at its
bounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from layertap_server.graph.gradient.step import Step, Value

Cotangents = tuple[Value | None, ...]
"""Cotangents of a node's inputs, in order; None for one without."""
Rule = Callable[[Step], Cotangents]
"""Function that emits the cotangents of the inputs of a node."""
SELU = (1.67326319217681884765625, 1.05070102214813232421875)
"""Default alpha and gamma of ``Selu``."""
BEND = 3.0
"""Absolute value of the inputs at which ``HardSwish`` bends."""


def unary(derive: Callable[[Step], Value]) -> Rule:
    """Return the rule of an operator with one differentiable input."""

    def rule(step: Step) -> Cotangents:
        return (derive(step),)

    return rule


def _where(condition: Value, yes: Value | float, no: Value | float, step: Step) -> Value:
    """Emit a choice between cotangents of the first input."""
    return condition.choose(yes, no, step.g.dtype)


def _relu(step: Step) -> Value:
    # From the output, so that onnxruntime can fuse the relu with the convolution before it.
    return _where(step.y > 0.0, step.g, 0.0, step)


def _leaky_relu(step: Step) -> Value:
    return _where(step.x > 0.0, step.g, step.g * step.number("alpha", 0.01), step)


def _thresholded_relu(step: Step) -> Value:
    return _where(step.x > step.number("alpha", 1.0), step.g, 0.0, step)


def _elu(step: Step) -> Value:
    alpha = step.number("alpha", 1.0)
    return _where(step.x > 0.0, step.g, step.g * (step.y + alpha), step)


def _selu(step: Step) -> Value:
    alpha, gamma = step.number("alpha", SELU[0]), step.number("gamma", SELU[1])
    return _where(step.x > 0.0, step.g * gamma, step.g * (step.y + alpha * gamma), step)


def _celu(step: Step) -> Value:
    alpha = step.number("alpha", 1.0)
    return _where(step.x > 0.0, step.g, step.g * (step.x / alpha).op("Min", 0.0).op("Exp"), step)


def _hard_sigmoid(step: Step) -> Value:
    inside = (step.y > 0.0).op("And", (1.0 - step.y) > 0.0)
    return _where(inside, step.g * step.number("alpha", 0.2), 0.0, step)


def _hard_swish(step: Step) -> Value:
    middle = _where(step.x > BEND, step.g, step.g * (step.x / BEND + 0.5), step)
    return _where(step.x > -BEND, middle, 0.0, step)


def _gelu(step: Step) -> Value:
    """Differentiate x·Φ(x), or its approximation by tanh (Hendrycks and Gimpel 2016)."""
    x = step.x
    if step.attribute("approximate", "none") == "tanh":
        root, cubic = math.sqrt(2 / math.pi), 0.044715
        tanh = ((x + x * x * x * cubic) * root).op("Tanh")
        slope = (1.0 - tanh * tanh) * (x * x * (3 * cubic) + 1.0) * root
        return step.g * (tanh + 1.0 + x * slope) * 0.5
    density = (x * x * -0.5).op("Exp") * (1 / math.sqrt(2 * math.pi))
    return step.g * (((x / math.sqrt(2)).op("Erf") + 1.0) * 0.5 + x * density)


def _mish(step: Step) -> Value:
    tanh = step.x.op("Softplus").op("Tanh")
    return step.g * (tanh + step.x * step.x.op("Sigmoid") * (1.0 - tanh * tanh))


def _swish(step: Step) -> Value:
    alpha = step.number("alpha", 1.0)
    sigmoid = (step.x * alpha).op("Sigmoid")
    return step.g * (sigmoid + step.x * alpha * sigmoid * (1.0 - sigmoid))


def _softsign(step: Step) -> Value:
    divisor = step.x.op("Abs") + 1.0
    return step.g / (divisor * divisor)


def _clip(step: Step) -> Cotangents:
    """Pass the cotangent where the value is unchanged: inside the bounds and at them; the bounds have no gradient."""
    return (_where(step.x.op("Equal", step.y), step.g, 0.0, step),)


def _prelu(step: Step) -> Cotangents:
    is_positive = step.x > 0.0
    slope = _where(is_positive, 0.0, step.g * step.x, step)
    return _where(is_positive, step.g, step.g * step.input(1), step), step.sum_to(slope, 1)


def _add(step: Step) -> Cotangents:
    return tuple(step.sum_to(step.g, index) for index in range(len(step.node.input)))


def _sub(step: Step) -> Cotangents:
    return step.sum_to(step.g, 0), step.sum_to(-step.g, 1)


def _mul(step: Step) -> Cotangents:
    return step.sum_to(step.g * step.input(1), 0), step.sum_to(step.g * step.x, 1)


def _div(step: Step) -> Cotangents:
    divisor = step.input(1)
    return step.sum_to(step.g / divisor, 0), step.sum_to(-(step.g * step.y) / divisor, 1)


def _pow(step: Step) -> Cotangents:
    """Differentiate xᵉ; the derivative by e is 0 where x is not positive, as the logarithm is not defined there."""
    exponent = step.input(1).cast(step.g.dtype)
    is_zero = exponent.op("Equal", 0.0)
    lower = _where(is_zero, 0.0, exponent * step.x.op("Pow", exponent - 1.0), step)
    is_positive = step.x > 0.0
    logarithm = _where(is_positive, step.x, 1.0, step).op("Log")
    by_exponent = _where(is_positive, step.g * step.y * logarithm, 0.0, step)
    return step.sum_to(step.g * lower, 0), step.sum_to(by_exponent, 1).cast(step.dtype_of(step.node.input[1]))


def _extreme(step: Step) -> Cotangents:
    """Share the cotangent of ``Min`` or ``Max`` equally among the inputs that have the extreme value, as torch does."""
    count = len(step.node.input)
    masks = [step.input(index).op("Equal", step.y).choose(1.0, 0.0, step.g.dtype) for index in range(count)]
    total = masks[0]
    for mask in masks[1:]:
        total = total + mask
    share = step.g / total
    return tuple(step.sum_to(share * mask, index) for index, mask in enumerate(masks))


def _mean(step: Step) -> Cotangents:
    share = step.g / float(len(step.node.input))
    return tuple(step.sum_to(share, index) for index in range(len(step.node.input)))


def _choice(step: Step) -> Cotangents:
    """Pass the cotangent of ``Where`` to the input that was chosen."""
    yes, no = _where(step.x, step.g, 0.0, step), _where(step.x, 0.0, step.g, step)
    return None, step.sum_to(yes, 1), step.sum_to(no, 2)


RULES: dict[str, Rule] = {
    "Identity": unary(lambda step: step.g),
    "Dropout": unary(lambda step: step.g),
    "Cast": unary(lambda step: step.g.cast(step.x.dtype)),
    "Neg": unary(lambda step: -step.g),
    "Abs": unary(lambda step: step.g * step.x.op("Sign")),
    "Exp": unary(lambda step: step.g * step.y),
    "Log": unary(lambda step: step.g / step.x),
    "Sqrt": unary(lambda step: step.g * 0.5 / step.y),
    "Reciprocal": unary(lambda step: -(step.g * step.y * step.y)),
    "Sin": unary(lambda step: step.g * step.x.op("Cos")),
    "Cos": unary(lambda step: -(step.g * step.x.op("Sin"))),
    "Erf": unary(lambda step: step.g * (-(step.x * step.x)).op("Exp") * (2 / math.sqrt(math.pi))),
    "Sigmoid": unary(lambda step: step.g * step.y * (1.0 - step.y)),
    "Tanh": unary(lambda step: step.g * (1.0 - step.y * step.y)),
    "Softplus": unary(lambda step: step.g * step.x.op("Sigmoid")),
    "Softsign": unary(_softsign),
    "Relu": unary(_relu),
    "LeakyRelu": unary(_leaky_relu),
    "ThresholdedRelu": unary(_thresholded_relu),
    "Elu": unary(_elu),
    "Selu": unary(_selu),
    "Celu": unary(_celu),
    "HardSigmoid": unary(_hard_sigmoid),
    "HardSwish": unary(_hard_swish),
    "Gelu": unary(_gelu),
    "Mish": unary(_mish),
    "Swish": unary(_swish),
    "Clip": _clip,
    "PRelu": _prelu,
    "Add": _add,
    "Sum": _add,
    "Sub": _sub,
    "Mul": _mul,
    "Div": _div,
    "Pow": _pow,
    "Max": _extreme,
    "Min": _extreme,
    "Mean": _mean,
    "Where": _choice,
}
"""Rules by operator."""
