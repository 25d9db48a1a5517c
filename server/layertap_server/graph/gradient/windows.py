"""Rules of convolutions and window pools.

The cotangent of a convolution's input is a convolution with the same weights in the other direction: stride 1 needs
``Conv`` with rotated weights, which is twice as fast as ``ConvTranspose``; other strides need ``ConvTranspose``
(Dumoulin and Visin 2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from layertap.types import Array
from layertap_server.blocks.windows import Side, same_padding
from layertap_server.graph.gradient.elementwise import Cotangents, Rule, unary
from layertap_server.graph.gradient.step import Step, StepError, Value

SPATIAL = 2
"""Index of the first axis of positions."""
NOT_FIXED = "the height and width of its input or output are not fixed"
"""Reason why windows whose number of values depends on the size have no rule."""


def _sides(step: Step, kernel: Sequence[int]) -> list[Side]:
    """Return the windows of a node along each axis of positions, without their number.

    Raises:
        StepError: the padding depends on a size that is not fixed.
    """
    count = len(kernel)
    strides, dilations = (step.attribute(name, [1] * count) for name in ("strides", "dilations"))
    mode = step.attribute("auto_pad", "NOTSET")
    pads = step.attribute("pads", [0] * (2 * count)) if mode == "NOTSET" else [0] * (2 * count)
    windows = zip(step.shape_of(0)[SPATIAL:], kernel, strides, dilations, pads[:count], pads[count:], strict=True)
    sides = [
        Side(size, width, stride, dilation, before, after, overhang=0, output="")
        for size, width, stride, dilation, before, after in windows
    ]
    return [_pad_same(side, is_lower=mode == "SAME_LOWER") for side in sides] if mode.startswith("SAME") else sides


def _pad_same(side: Side, *, is_lower: bool) -> Side:
    """Return the windows with the padding of ``auto_pad``.

    Raises:
        StepError: the size is not fixed.
    """
    if isinstance(side.size, str):
        raise StepError(NOT_FIXED)
    before, after = same_padding(side.size, side.span, side.stride, is_lower=is_lower)
    return replace(side, before=before, after=after)


def _fixed(step: Step, index: int) -> list[int]:
    """Return the shape of an input whose sizes are all fixed.

    Raises:
        StepError: one is not.
    """
    sizes = step.sizes_of(step.node.input[index], range(len(step.shape_of(index))))
    if sizes is None:
        raise StepError("the shape of its weights is not fixed")
    return sizes


def _conv(step: Step) -> Cotangents:
    shape = _fixed(step, 1)
    sides = _sides(step, shape[SPATIAL:])
    group = step.attribute("group", 1)
    pads = [side.span - 1 - side.before for side in sides] + [side.span - 1 - side.after for side in sides]
    if any(side.stride > 1 for side in sides) or min(pads) < 0:
        return (_transposed(step, step.g, step.input(1), sides, group),)
    weights = _rotated(step.input(1), shape, group)
    return (step.g.op("Conv", weights, dilations=[side.dilation for side in sides], group=group, pads=pads),)


def _rotated(weights: Value, shape: list[int], group: int) -> Value:
    """Emit weights rotated by 180°, with input and output channels exchanged inside each group."""
    outputs, inputs, *kernel = shape
    axes = list(range(SPATIAL, len(shape)))
    backwards = weights.op(
        "Slice",
        *(weights.integers([number] * len(axes)) for number in (-1, np.iinfo(np.int64).min)),
        weights.integers(axes),
        weights.integers([-1] * len(axes)),
    )
    grouped = backwards.reshape([group, outputs // group, inputs, *kernel])
    order = [0, 2, 1, *range(3, len(shape) + 1)]
    return grouped.transpose(order).reshape([group * inputs, outputs // group, *kernel])


def _transposed(step: Step, g: Value, weights: Value, sides: Sequence[Side], group: int = 1) -> Value:
    """Emit the transposed convolution of a cotangent, cut to the size of the node's input.

    The full result begins ``before`` positions before the input. Positions that no window covers are 0.
    """
    axes = range(SPATIAL, SPATIAL + len(sides))
    strides, dilations = [side.stride for side in sides], [side.dilation for side in sides]
    full = g.op("ConvTranspose", weights, strides=strides, dilations=dilations, group=group)
    uncovered = [side.stride - 1 + max(side.after, 0) for side in sides]
    padded = full.op("Pad", full.integers([0] * (2 * SPATIAL + len(sides)) + uncovered))
    starts = full.integers([side.before for side in sides])
    return padded.op("Slice", starts, step.x.shape(SPATIAL) + starts, full.integers(axes))


def _conv_transpose(step: Step) -> Cotangents:
    """Emit the convolution with the same weights; the output may have positions that no input reaches."""
    kernel = _fixed(step, 1)[SPATIAL:]
    if step.attribute("auto_pad", "NOTSET") != "NOTSET" or step.attribute("output_shape"):
        raise StepError("it has automatic padding or a given output shape")
    sides = _sides(step, kernel)
    more = step.attribute("output_padding", [0] * len(kernel))
    ends = [side.after - extra for side, extra in zip(sides, more, strict=True)]
    g = step.g
    for axis, end in enumerate(ends, SPATIAL):
        if end < 0:
            g = g.slice(axis, 0, end)
    result = g.op(
        "Conv",
        step.input(1),
        strides=[side.stride for side in sides],
        dilations=[side.dilation for side in sides],
        group=step.attribute("group", 1),
        pads=[side.before for side in sides] + [max(end, 0) for end in ends],
    )
    return (result,)


def _max_pool(step: Step) -> Value:
    """Add each value of the cotangent at the position of its maximum; the first one among equal values."""
    if step.attribute("storage_order", 0):
        raise StepError("it counts positions by columns")
    names = ("kernel_shape", "strides", "dilations", "pads", "auto_pad", "ceil_mode")
    given = {name: step.attribute(name) for name in names}
    _, places = step.builder.outputs("MaxPool", step.x.name, count=2, **given)
    indices = Value(places, "int64", step.builder).reshape([-1])
    size = step.x.shape().reduce("ReduceProd", [0])
    g = step.g.widened()
    flat = step.zeros(size, g.dtype).op("ScatterElements", indices, g.reshape([-1]), axis=0, reduction="add")
    return flat.reshape(step.x.shape()).cast(step.g.dtype)


def _average_pool(step: Step) -> Value:
    """Divide by the number of values of each window, and add each quotient to all values of its window."""
    sides = _sides(step, step.attribute("kernel_shape"))
    outputs = step.type_of(step.node.output[0]).shape[SPATIAL:]
    divisor = np.ones(())
    for side, output in zip(sides, outputs, strict=True):
        divisor = divisor[..., None] * _counts(step, replace(side, output=output))
    share = (step.g / step.constant(divisor, step.g.dtype)).reshape([-1, 1, *divisor.shape])
    ones = step.constant(np.ones((1, 1, *(side.kernel for side in sides))), step.g.dtype)
    return _transposed(step, share, ones, sides).reshape(step.x.shape())


def _lp_pool(step: Step) -> Value:
    """Differentiate (Σ|x|^p)^(1/p): sign(x)·|x|^(p−1)·Σ g·y^(1−p), and 0 where the result is 0."""
    p = float(step.attribute("p", 2))
    sides = _sides(step, step.attribute("kernel_shape"))
    is_zero = step.y.op("Equal", 0.0)
    scaled = is_zero.choose(0.0, step.g * is_zero.choose(1.0, step.y, step.g.dtype).op("Pow", 1 - p), step.g.dtype)
    planes = scaled.shape(SPATIAL)
    flat = scaled.reshape(scaled.integers([-1, 1]).op("Concat", planes, axis=0))
    ones = step.constant(np.ones((1, 1, *(side.kernel for side in sides))), step.g.dtype)
    spread = _transposed(step, flat, ones, sides).reshape(step.x.shape())
    return spread * step.x.op("Sign") * step.x.op("Abs").op("Pow", p - 1)


def _counts(step: Step, side: Side) -> Array:
    """Return the number of values by which each window along one axis is divided.

    Raises:
        StepError: the size is not fixed.
    """
    if isinstance(side.size, str) or isinstance(side.output, str):
        raise StepError(NOT_FIXED)
    inside = side.inside(padding=bool(step.attribute("count_include_pad", 0)))
    return np.asarray(np.maximum(inside.sum(axis=1), 1), np.float64)


RULES: dict[str, Rule] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MaxPool": unary(_max_pool),
    "AveragePool": unary(_average_pool),
    "LpPool": unary(_lp_pool),
}
"""Rules by operator."""
