"""Rules of reductions, global pools, softmax and the normalizations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from layertap_server.graph.gradient.elementwise import Cotangents, Rule, unary
from layertap_server.graph.gradient.step import Step, Value

SPATIAL = 2
"""Index of the first axis of positions in N×C×positions."""


def _expanded(step: Step, value: Value, axes: Sequence[int]) -> Value:
    """Emit a tensor of the output's shape with the reduced axes, of size 1."""
    return value if step.attribute("keepdims", 1) else value.op("Unsqueeze", value.integers(axes))


def reduction(derive: Callable[[Step, Value, Value, list[int]], Value]) -> Rule:
    """Return the rule of a reduction; ``derive`` receives cotangent and result with the reduced axes, and the axes."""

    def rule(step: Step) -> Cotangents:
        axes = step.axes()
        if not axes:
            return (step.g,)
        return (derive(step, _expanded(step, step.g, axes), _expanded(step, step.y, axes), axes),)

    return rule


def _count(step: Step, axes: Sequence[int]) -> Value:
    """Emit the number of values along axes."""
    sizes = step.x.shape().op("Gather", step.x.integers(axes))
    return sizes.reduce("ReduceProd", [0]).cast(step.g.dtype)


def _sum(step: Step, g: Value, _y: Value, _axes: list[int]) -> Value:
    return g.expand(step.x.shape())


def _mean(step: Step, g: Value, _y: Value, axes: list[int]) -> Value:
    return (g / _count(step, axes)).expand(step.x.shape())


def _share_among_ties(step: Step, g: Value, y: Value, axes: list[int]) -> Value:
    """Share the cotangent equally among the values that are the extreme one, as torch's ``amax`` does."""
    mask = step.x.op("Equal", y).choose(1.0, 0.0, g.dtype)
    return g * mask / mask.reduce("ReduceSum", axes)


def _l2(step: Step, g: Value, y: Value, _axes: list[int]) -> Value:
    """Emit g·x/‖x‖, and 0 where the norm is 0."""
    is_zero = y.op("Equal", 0.0)
    return g * step.x / is_zero.choose(1.0, y, g.dtype)


def _log_sum(step: Step, g: Value, y: Value, _axes: list[int]) -> Value:
    return (g / y.op("Exp")).expand(step.x.shape())


def _global_pool(derive: Callable[[Step, Value, Value, list[int]], Value]) -> Rule:
    """Return the rule of a global pool, which reduces all axes of positions."""
    return unary(lambda step: derive(step, step.g, step.y, list(range(SPATIAL, len(step.shape_of(0))))))


def _softmax(step: Step) -> Value:
    axis = step.attribute("axis", -1) % len(step.shape_of(0))
    return step.y * (step.g - (step.g * step.y).reduce("ReduceSum", [axis]))


def _log_softmax(step: Step) -> Value:
    axis = step.attribute("axis", -1) % len(step.shape_of(0))
    return step.g - step.y.op("Exp") * step.g.reduce("ReduceSum", [axis])


def standardization(x: Value, g: Value, axes: Sequence[int], epsilon: float) -> tuple[Value, Value]:
    """Emit the standardized tensor x̂ = (x − mean)/√(variance + ε), and the cotangent of x.

    It is (g − mean g − x̂ · mean(g·x̂))/√(variance + ε) (Ioffe and Szegedy 2015).
    """
    centred = x - x.reduce("ReduceMean", axes)
    deviation = ((centred * centred).reduce("ReduceMean", axes) + epsilon).op("Sqrt")
    normal = centred / deviation
    both = g.reduce("ReduceMean", axes) + normal * (g * normal).reduce("ReduceMean", axes)
    return normal, (g - both) / deviation


def _per_channel(step: Step, index: int) -> Value:
    """Emit a vector of channels in a shape that broadcasts to N×C×positions."""
    rank = len(step.shape_of(0))
    return step.input(index).cast(step.g.dtype).reshape([-1] + [1] * (rank - SPATIAL))


def _sum_per_channel(step: Step, value: Value) -> Value:
    """Emit the sum over all axes but the channels, as a vector."""
    axes = [axis for axis in range(len(step.shape_of(0))) if axis != 1]
    return value.reduce("ReduceSum", axes).reshape([-1])


def _batch_norm(step: Step) -> Cotangents:
    """Differentiate the form for inference, whose mean and variance are constants."""
    deviation = (_per_channel(step, 4) + step.number("epsilon", 1e-5)).op("Sqrt")
    normal = (step.x - _per_channel(step, 3)) / deviation
    x = step.g * (_per_channel(step, 1) / deviation)
    return x, _sum_per_channel(step, step.g * normal), _sum_per_channel(step, step.g)


def _instance_norm(step: Step) -> Cotangents:
    axes = list(range(SPATIAL, len(step.shape_of(0))))
    normal, x = standardization(step.x, step.g * _per_channel(step, 1), axes, step.number("epsilon", 1e-5))
    return x, _sum_per_channel(step, step.g * normal), _sum_per_channel(step, step.g)


def _group_norm(step: Step) -> Cotangents:
    """Differentiate the normalization of groups of channels (Wu and He 2018).

    Scale and bias have one value for each channel, or before opset 21 for each group.
    """
    groups, channels = int(step.attribute("num_groups")), step.channels
    scale = step.input(1)
    is_per_group = step.shape_of(1)[0] != channels
    if is_per_group:
        scale = scale.reshape([groups, 1]).expand(scale.integers([groups, channels // groups])).reshape([channels])
    scaled = step.g * scale.reshape([-1] + [1] * (len(step.shape_of(0)) - SPATIAL))
    normal, x = standardization(
        step.x.reshape([0, groups, -1]), scaled.reshape([0, groups, -1]), [2], step.number("epsilon", 1e-5)
    )
    shape = step.x.shape()
    sums = [_sum_per_channel(step, value) for value in (step.g * normal.reshape(shape), step.g)]
    if is_per_group:
        sums = [value.reshape([groups, -1]).reduce("ReduceSum", [1]).reshape([-1]) for value in sums]
    return x.reshape(shape), *sums


def _product(step: Step, g: Value, _y: Value, axes: list[int]) -> Value:
    """Emit g times the product of all other values, also where one of the values is 0."""
    is_zero = step.x.op("Equal", 0.0)
    others = is_zero.choose(1.0, step.x, g.dtype)
    product, zeros = others.reduce("ReduceProd", axes), is_zero.choose(1.0, 0.0, g.dtype)
    left = zeros.reduce("ReduceSum", axes) - zeros
    return left.op("Equal", 0.0).choose(g * product / others, 0.0, g.dtype)


def _trailing_axes(step: Step) -> list[int]:
    """Return the axes from the attribute ``axis`` to the last."""
    rank = len(step.shape_of(0))
    return list(range(step.attribute("axis", -1) % rank, rank))


def _layer_norm(step: Step) -> Cotangents:
    scaled = step.g * step.input(1)
    normal, x = standardization(step.x, scaled, _trailing_axes(step), step.number("epsilon", 1e-5))
    bias = (step.sum_to(step.g, 2),) if step.has_input(2) else ()
    return x, step.sum_to(step.g * normal, 1), *bias


def _rms_norm(step: Step) -> Cotangents:
    """Differentiate x·s/√(mean x² + ε) (Zhang and Sennrich 2019)."""
    axes = _trailing_axes(step)
    root = ((step.x * step.x).reduce("ReduceMean", axes) + step.number("epsilon", 1e-5)).op("Sqrt")
    normal, scaled = step.x / root, step.g * step.input(1)
    x = (scaled - normal * (scaled * normal).reduce("ReduceMean", axes)) / root
    return x, step.sum_to(step.g * normal, 1)


def _mean_variance(step: Step) -> Value:
    axes = list(step.attribute("axes", [0, 2, 3]))
    return standardization(step.x, step.g, axes, 1e-9)[1]


def _lp_norm(step: Step) -> Value:
    """Differentiate x/‖x‖ for p = 1 and p = 2; 0 where the norm is 0."""
    axis, p = [step.attribute("axis", -1) % len(step.shape_of(0))], step.attribute("p", 2)
    x = step.x
    norm = x.op("Abs").reduce("ReduceSum", axis) if p == 1 else (x * x).reduce("ReduceSum", axis).op("Sqrt")
    is_zero = norm.op("Equal", 0.0)
    norm = is_zero.choose(1.0, norm, step.g.dtype)
    direction = x.op("Sign") if p == 1 else step.y
    inner = (step.g * step.y).reduce("ReduceSum", axis)
    return is_zero.choose(0.0, (step.g - direction * inner) / norm, step.g.dtype)


def _lrn(step: Step) -> Value:
    """Differentiate x·s^−β with s = bias + α/size · Σ x² over neighbouring channels (Krizhevsky et al. 2012)."""
    size, beta = int(step.number("size", 1)), step.number("beta", 0.75)
    factor = step.number("alpha", 1e-4) / size
    before, after = (size - 1) // 2, size // 2
    s = _window_sum(step, step.x * step.x, size, (before, after)) * factor + step.number("bias", 1.0)
    power = s.op("Pow", -beta)
    others = _window_sum(step, step.g * step.x * power / s, size, (after, before))
    return step.g * power - step.x * others * (2 * factor * beta)


def _window_sum(step: Step, value: Value, size: int, pads: tuple[int, int]) -> Value:
    """Emit the sum of neighbouring channels, with ``pads`` of them before and after each."""
    flat = value.reshape([0, 1, step.channels, -1])
    mean = flat.op("AveragePool", kernel_shape=[size, 1], pads=[pads[0], 0, pads[1], 0], count_include_pad=1)
    return (mean * float(size)).reshape(step.x.shape())


RULES: dict[str, Rule] = {
    "ReduceSum": reduction(_sum),
    "ReduceMean": reduction(_mean),
    "ReduceProd": reduction(_product),
    "ReduceMax": reduction(_share_among_ties),
    "ReduceMin": reduction(_share_among_ties),
    "ReduceL1": reduction(lambda step, g, _y, _axes: g * step.x.op("Sign")),
    "ReduceL2": reduction(_l2),
    "ReduceSumSquare": reduction(lambda step, g, _y, _axes: g * step.x * 2.0),
    "ReduceLogSum": reduction(_log_sum),
    "ReduceLogSumExp": reduction(lambda step, g, y, _axes: g * (step.x - y).op("Exp")),
    "GlobalAveragePool": _global_pool(_mean),
    "GlobalMaxPool": _global_pool(_share_among_ties),
    "Softmax": unary(_softmax),
    "LogSoftmax": unary(_log_softmax),
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "GroupNormalization": _group_norm,
    "RMSNormalization": _rms_norm,
    "MeanVarianceNormalization": unary(_mean_variance),
    "LpNormalization": unary(_lp_norm),
    "LRN": unary(_lrn),
}
"""Rules by operator."""
