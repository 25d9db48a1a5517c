"""Activation blocks as ONNX nodes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from layertap.blocks import BoundBlock
from layertap.errors import BadParameterError, ShapeMismatchError
from layertap_server.blocks import noise
from layertap_server.blocks.builder import Builder, Emitter, elementwise, maximum_with_nan, require_channel_axis
from layertap_server.blocks.layouts import require_spatial_axes
from layertap_server.tensor import Dim, Tensor


class Terms:
    """Writer of a formula over one tensor. Each method emits a term and returns the name of its tensor."""

    def __init__(self, builder: Builder, tensor: Tensor) -> None:
        """Write formulas of ``tensor``, whose name is `x`, with nodes of ``builder``."""
        self.x = tensor.name
        self._builder = builder
        self._dtype = tensor.dtype

    def op(self, op_type: str, *terms: str | float, alpha: float | None = None) -> str:
        """Emit a node. Numbers among its inputs become constants of the tensor's dtype."""
        names = [term if isinstance(term, str) else self._builder.constant(term, self._dtype) for term in terms]
        return self._builder.op(op_type, *names, alpha=alpha)

    def add(self, a: str | float, b: str | float) -> str:
        """Emit ``a + b``."""
        return self.op("Add", a, b)

    def sub(self, a: str | float, b: str | float) -> str:
        """Emit ``a - b``."""
        return self.op("Sub", a, b)

    def mul(self, a: str | float, b: str | float) -> str:
        """Emit ``a * b``."""
        return self.op("Mul", a, b)

    def div(self, a: str | float, b: str | float) -> str:
        """Emit ``a / b``."""
        return self.op("Div", a, b)

    def clip(self, a: str, low: float, high: float) -> str:
        """Emit ``min(max(a, low), high)``."""
        return self.op("Clip", a, low, high)

    def sigmoid(self, a: str) -> str:
        """Emit ``1 / (1 + exp(-a))``.

        onnxruntime's Sigmoid is an approximation: it is 7 % off at -14 and 0 below -18. float16 cannot hold the
        exponential, so there the operator is used.
        """
        if self._dtype == "float16":
            return self.op("Sigmoid", a)
        return self.op("Reciprocal", self.add(self.op("Exp", self.op("Neg", a)), 1.0))

    def where(self, condition: str, a: str | float, b: str | float) -> str:
        """Emit ``a`` where the condition holds and ``b`` elsewhere, which includes NaN: it fails every comparison."""
        return self.op("Where", condition, a, b)


Formula = Callable[[Terms, BoundBlock], str]
"""Function that writes a block's formula and returns the name of its result."""


def _by(formula: Formula) -> Emitter:
    """Return the emitter of a block that applies a formula to each value."""

    def emit(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
        return replace(tensor, name=formula(Terms(builder, tensor), block))

    return emit


def _identity(_builder: Builder, tensor: Tensor, _block: BoundBlock) -> Tensor:
    """Return the tensor itself."""
    return tensor


def _hard_sigmoid(t: Terms, block: BoundBlock) -> str:
    """Write ``clip(alpha * x + beta, 0, 1)``."""
    return t.clip(t.add(t.mul(t.x, block.number("alpha")), block.number("beta")), 0.0, 1.0)


def _clip(t: Terms, block: BoundBlock) -> str:
    """Write ``clip(x, low, high)``."""
    low, high = block.number("low"), block.number("high")
    if low > high:
        message = f"{block.name}: expected low at most high, got low {low:g} and high {high:g}"
        raise BadParameterError(message, block=block.name, parameter="low", expected=f"at most {high:g}", got=low)
    return t.clip(t.x, low, high)


def _thresholded_relu(t: Terms, block: BoundBlock) -> str:
    """Write ``x if x > threshold else 0``."""
    return t.where(t.op("LessOrEqual", t.x, block.number("threshold")), 0.0, t.x)


def _half_wave(t: Terms, block: BoundBlock) -> str:
    """Write ``max(x - threshold, 0)``."""
    return t.op("Relu", t.sub(t.x, block.number("threshold")))


def _leaky_relu(t: Terms, block: BoundBlock) -> str:
    """Write ``x if x >= 0 else slope * x``."""
    return t.op("LeakyRelu", t.x, alpha=block.number("slope"))


def _celu(t: Terms, block: BoundBlock) -> str:
    """Write ``alpha * elu(x / alpha)``."""
    alpha = block.number("alpha")
    return t.mul(t.op("Elu", t.div(t.x, alpha)), alpha)


def _softplus(t: Terms, block: BoundBlock) -> str:
    """Write ``log(1 + exp(beta * x)) / beta``."""
    beta = block.number("beta")
    return t.div(t.op("Softplus", t.mul(t.x, beta)), beta)


def _softshrink(t: Terms, block: BoundBlock) -> str:
    """Write ``sign(x) * max(abs(x) - lambd, 0)``."""
    lambd = block.number("lambd")
    shrunk = t.sub(t.x, t.mul(t.op("Sign", t.x), lambd))
    return t.where(t.op("LessOrEqual", t.op("Abs", t.x), lambd), 0.0, shrunk)


def _hardshrink(t: Terms, block: BoundBlock) -> str:
    """Write ``x if abs(x) > lambd else 0``."""
    return t.where(t.op("LessOrEqual", t.op("Abs", t.x), block.number("lambd")), 0.0, t.x)


def _swish(t: Terms, block: BoundBlock) -> str:
    """Write ``x * sigmoid(beta * x)``."""
    return t.mul(t.x, t.sigmoid(t.mul(t.x, block.number("beta"))))


def _gelu(t: Terms, block: BoundBlock) -> str:
    """Write ``x * Phi(x)`` with the normal distribution Phi, or its tanh approximation (Hendrycks and Gimpel 2016)."""
    if block.word("approximate") == "tanh":
        cubic = t.mul(t.mul(t.mul(t.x, t.x), t.x), 0.044715)
        gate = t.op("Tanh", t.mul(t.add(t.x, cubic), math.sqrt(2 / math.pi)))
    else:
        gate = t.op("Erf", t.div(t.x, math.sqrt(2)))
    return t.mul(t.mul(t.x, 0.5), t.add(gate, 1.0))


def _along_axis(op_type: str, *, negated: bool = False) -> Emitter:
    """Return the emitter of a block that is one operator along an axis, of the negated input with ``negated``."""

    def emit(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
        name = builder.op("Neg", tensor.name) if negated else tensor.name
        return replace(tensor, name=builder.op(op_type, name, axis=tensor.axis(block.integer("axis"))))

    return emit


def _prelu(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit a PRelu with one slope, or one for each channel."""
    slope = builder.per_channel(block, "slope", tensor)
    return replace(tensor, name=builder.op("PRelu", tensor.name, slope))


def _rrelu(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit a leaky ReLU whose slope is the mean of a range, or drawn from it for each value."""
    divides = block.word("form") == "divisor"
    lower, upper = (3.0, 8.0) if divides else (1 / 8, 1 / 3)
    lower = lower if block["lower"] is None else block.number("lower")
    upper = upper if block["upper"] is None else block.number("upper")
    if lower > upper or (divides and lower <= 0):
        message = f"rrelu: expected lower at most upper, and divisors above 0; got {lower:g} and {upper:g}"
        raise BadParameterError(message, block="rrelu", parameter="lower", got=lower)
    t = Terms(builder, tensor)
    slope: str | float = (lower + upper) / 2
    if block.word("mode") == "sample":
        drawn = noise.uniform(builder, tensor.name, block.integer("seed"), tensor.dtype)
        slope = t.add(t.mul(drawn, upper - lower), lower)
    leaked = t.div(t.x, slope) if divides else t.mul(t.x, slope)
    return replace(tensor, name=t.where(t.op("Less", t.x, 0.0), leaked, t.x))


def _srelu(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit a piecewise linear function with two knees and two outer slopes (Jin et al. 2016)."""
    t = Terms(builder, tensor)
    knees = {name: builder.per_channel(block, name, tensor) for name in ("t_right", "a_right", "t_left", "a_left")}
    right = t.add(knees["t_right"], t.mul(knees["a_right"], t.sub(t.x, knees["t_right"])))
    left = t.add(knees["t_left"], t.mul(knees["a_left"], t.sub(t.x, knees["t_left"])))
    above = t.where(t.op("GreaterOrEqual", t.x, knees["t_right"]), right, t.x)
    return replace(tensor, name=t.where(t.op("LessOrEqual", t.x, knees["t_left"]), left, above))


def _both_phases(path: Callable[[Terms, str, BoundBlock], str]) -> Emitter:
    """Return the emitter of a block that concatenates ``path(x)`` and ``path(-x)`` along the channels."""

    def emit(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
        t = Terms(builder, tensor)
        axis = require_channel_axis(tensor, block)
        name = builder.op("Concat", path(t, t.x, block), path(t, t.op("Neg", t.x), block), axis=axis)
        channels = tensor.shape[axis]
        doubled: Dim = channels * 2 if isinstance(channels, int) else f"2·{channels}"
        return tensor.with_axis(name, axis, doubled)

    return emit


def _rectified_square(t: Terms, x: str, _block: BoundBlock) -> str:
    """Write ``max(x, 0)**2``."""
    rectified = t.op("Relu", x)
    return t.mul(rectified, rectified)


def _group(builder: Builder, tensor: Tensor, block: BoundBlock, size: int) -> Tensor:
    """Emit a split of the channels into groups of ``size``, along a new axis after the channel axis."""
    axis = require_channel_axis(tensor, block)
    channels = tensor.shape[axis]
    if not isinstance(channels, int) or channels % size:
        message = f"{block.name}: {channels} channels do not make groups of {size}; {tensor.describe()}"
        raise ShapeMismatchError(message, block=block.name, got=tensor.shape_text, expected=f"a multiple of {size}")
    sizes = [0] * axis + [channels // size, size]
    shape = builder.constant(sizes, "int64")
    if axis + 1 < tensor.rank:
        rest = builder.op("Shape", tensor.name, start=axis + 1)
        shape = builder.op("Concat", shape, rest, axis=0)
    # A 0 in Reshape's shape keeps the axis as it is.
    return tensor.with_axis(builder.op("Reshape", tensor.name, shape), axis, channels // size)


def _modulus(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit the Euclidean norm of each group of channels."""
    groups = _group(builder, tensor, block, block.integer("groups_of"))
    norm = builder.reduce("ReduceL2", groups.name, [tensor.channel_axis + 1], keepdims=False)
    return replace(groups, name=norm)


def _maxout(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit the maximum of each group of channels."""
    groups = _group(builder, tensor, block, block.integer("pieces"))
    axes = [tensor.channel_axis + 1]
    name = maximum_with_nan(builder, groups, lambda x: builder.reduce("ReduceMax", x, axes, keepdims=False))
    return replace(groups, name=name)


def _glu(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit the first half of the channels times the sigmoid of the second half."""
    axis = require_channel_axis(tensor, block)
    channels = tensor.shape[axis]
    if not isinstance(channels, int) or channels % 2:
        message = f"glu needs an even number of channels, and {tensor.describe()}"
        raise ShapeMismatchError(message, block=block.name, got=tensor.shape_text, expected="an even number")
    values = builder.slice(tensor.name, axis, 0, channels // 2)
    gates = builder.slice(tensor.name, axis, channels // 2, channels)
    name = builder.op("Mul", values, Terms(builder, tensor).sigmoid(gates))
    return tensor.with_axis(name, axis, channels // 2)


def _simam(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit each value times its importance among the spatial positions (Yang et al. 2021)."""
    t = Terms(builder, tensor)
    axes = require_spatial_axes(tensor, block)
    difference = t.sub(t.x, builder.reduce("ReduceMean", t.x, axes, keepdims=True))
    square = t.mul(difference, difference)
    variance = t.div(builder.reduce("ReduceSum", square, axes, keepdims=True), builder.count(tensor, axes, less=1))
    importance = t.div(square, t.mul(t.add(variance, block.number("e_lambda")), 4.0))
    return replace(tensor, name=t.mul(t.x, t.sigmoid(t.add(importance, 0.5))))


EMITTERS: dict[str, Emitter] = {
    "identity": _identity,
    "sigmoid": _by(lambda t, _: t.sigmoid(t.x)),
    "hard_sigmoid": _by(_hard_sigmoid),
    "hard_logistic": _by(_hard_sigmoid),
    "tanh": elementwise("Tanh"),
    "hard_tanh": _by(_clip),
    "relu": elementwise("Relu"),
    "relu6": _by(lambda t, _: t.clip(t.x, 0.0, 6.0)),
    "clip": _by(_clip),
    "thresholded_relu": _by(_thresholded_relu),
    "half_wave": _by(_half_wave),
    "leaky_relu": _by(_leaky_relu),
    "prelu": _prelu,
    "rrelu": _rrelu,
    "elu": _by(lambda t, block: t.op("Elu", t.x, alpha=block.number("alpha"))),
    "selu": elementwise("Selu"),
    "celu": _by(_celu),
    "srelu": _srelu,
    "crelu": _both_phases(lambda t, x, _: t.op("Relu", x)),
    "two_path": _both_phases(lambda t, x, block: t.op("Relu", t.sub(x, block.number("threshold")))),
    "half_square": _by(lambda t, block: _rectified_square(t, t.x, block)),
    "two_path_square": _both_phases(_rectified_square),
    "abs": elementwise("Abs"),
    "square": _by(lambda t, _: t.mul(t.x, t.x)),
    "modulus": _modulus,
    "softplus": _by(_softplus),
    "softsign": _by(lambda t, _: t.div(t.x, t.add(t.op("Abs", t.x), 1.0))),
    "softshrink": _by(_softshrink),
    "hardshrink": _by(_hardshrink),
    "tanhshrink": _by(lambda t, _: t.sub(t.x, t.op("Tanh", t.x))),
    "log_sigmoid": _by(lambda t, _: t.op("Neg", t.op("Softplus", t.op("Neg", t.x)))),
    "erf": elementwise("Erf"),
    "softmax": _along_axis("Softmax"),
    "log_softmax": _along_axis("LogSoftmax"),
    "softmin": _along_axis("Softmax", negated=True),
    "swish": _by(_swish),
    "hard_swish": _by(lambda t, _: t.mul(t.x, t.clip(t.add(t.div(t.x, 6.0), 0.5), 0.0, 1.0))),
    "mish": _by(lambda t, _: t.mul(t.x, t.op("Tanh", t.op("Softplus", t.x)))),
    "gelu": _by(_gelu),
    "quick_gelu": _by(lambda t, _: t.mul(t.x, t.sigmoid(t.mul(t.x, 1.702)))),
    "maxout": _maxout,
    "glu": _glu,
    "simam": _simam,
}
"""Emitters by block name."""
