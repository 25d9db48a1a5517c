"""Rules of convolutions and window pools.

The cotangent of a convolution's input is a convolution with the same weights in the other direction: stride 1 needs
``Conv`` with rotated weights, which is twice as fast as ``ConvTranspose``; other strides need ``ConvTranspose``
(Dumoulin and Visin 2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from layertap.types import Array
from layertap_server.graph.gradient.elementwise import Cotangents, Rule, unary
from layertap_server.graph.gradient.step import Step, StepError, Value

SPATIAL = 2
"""Index of the first axis of positions."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of a convolution or pool, one number for each axis of positions."""

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    begins: list[int]
    """Padding before."""
    ends: list[int]
    """Padding after."""

    @property
    def extents(self) -> list[int]:
        """Number of positions from the first to the last of a window."""
        return [(size - 1) * dilation + 1 for size, dilation in zip(self.kernel, self.dilations, strict=True)]


def _windows(step: Step, kernel: Sequence[int]) -> Windows:
    """Return the windows of a node."""
    count = len(kernel)
    strides = list(step.attribute("strides", [1] * count))
    dilations = list(step.attribute("dilations", [1] * count))
    pads = list(step.attribute("pads", [0] * (2 * count)))
    windows = Windows(list(kernel), strides, dilations, pads[:count], pads[count:])
    auto = step.attribute("auto_pad", "NOTSET")
    if not auto.startswith("SAME"):
        return windows if auto == "NOTSET" else Windows(list(kernel), strides, dilations, [0] * count, [0] * count)
    begins, ends = [], []
    for size, stride, extent in zip(_positions(step), strides, windows.extents, strict=True):
        total = max((-(-size // stride) - 1) * stride + extent - size, 0)
        less, more = total // 2, total - total // 2
        begins.append(less if auto == "SAME_UPPER" else more)
        ends.append(more if auto == "SAME_UPPER" else less)
    return Windows(list(kernel), strides, dilations, begins, ends)


def _positions(step: Step) -> list[int]:
    """Return the sizes of the axes of positions of the input.

    Raises:
        StepError: one is not fixed.
    """
    sizes = step.sizes_of(step.node.input[0], range(SPATIAL, len(step.shape_of(0))))
    if sizes is None:
        raise StepError("the height and width of its input are not fixed")
    return sizes


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
    windows = _windows(step, shape[SPATIAL:])
    group = step.attribute("group", 1)
    pads = [extent - 1 - begin for extent, begin in zip(windows.extents, windows.begins, strict=True)]
    ends = [extent - 1 - end for extent, end in zip(windows.extents, windows.ends, strict=True)]
    if set(windows.strides) != {1} or min(pads + ends) < 0:
        return (transposed(step, step.g, step.input(1), windows, group),)
    weights = _rotated(step.input(1), shape, group)
    return (step.g.op("Conv", weights, dilations=windows.dilations, group=group, pads=pads + ends),)


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


def transposed(step: Step, g: Value, weights: Value, windows: Windows, group: int = 1) -> Value:
    """Emit the transposed convolution of a cotangent, cut to the size of the node's input.

    The full result begins ``begins`` positions before the input. Positions that no window covers are 0.
    """
    count = len(windows.kernel)
    full = g.op("ConvTranspose", weights, strides=windows.strides, dilations=windows.dilations, group=group)
    padded = full.op("Pad", full.integers([0] * (SPATIAL + count) + [0, 0] + _uncovered(windows)))
    sizes = Value(step.builder.op("Shape", step.x.name, start=SPATIAL), "int64", step.builder)
    starts = full.integers(windows.begins)
    return padded.op("Slice", starts, sizes + starts, full.integers(range(SPATIAL, SPATIAL + count)))


def _uncovered(windows: Windows) -> list[int]:
    """Return the maximum numbers of positions after the last window, for each axis."""
    return [stride - 1 + max(end, 0) for stride, end in zip(windows.strides, windows.ends, strict=True)]


def _conv_transpose(step: Step) -> Cotangents:
    """Emit the convolution with the same weights; the output may have positions that no input reaches."""
    kernel = _fixed(step, 1)[SPATIAL:]
    if step.attribute("auto_pad", "NOTSET") != "NOTSET" or step.attribute("output_shape"):
        raise StepError("it has automatic padding or a given output shape")
    windows = _windows(step, kernel)
    more = step.attribute("output_padding", [0] * len(kernel))
    ends = [end - extra for end, extra in zip(windows.ends, more, strict=True)]
    g = step.g
    if min(ends) < 0:
        axes = range(SPATIAL, SPATIAL + len(kernel))
        cuts = [min(end, 0) or np.iinfo(np.int64).max for end in ends]
        g = g.op("Slice", g.integers([0] * len(kernel)), g.integers(cuts), g.integers(axes))
    pads = windows.begins + [max(end, 0) for end in ends]
    result = g.op(
        "Conv",
        step.input(1),
        strides=windows.strides,
        dilations=windows.dilations,
        group=step.attribute("group", 1),
        pads=pads,
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
    size = Value(step.builder.op("Size", step.x.name), "int64", step.builder).reshape([1])
    g = step.g.widened()
    flat = step.zeros(size, g.dtype).op("ScatterElements", indices, g.reshape([-1]), axis=0, reduction="add")
    result = flat.reshape(step.x.shape())
    return result if result.dtype == step.g.dtype else result.cast(step.g.dtype)


def _average_pool(step: Step) -> Value:
    """Divide by the number of values of each window, and add each quotient to all values of its window."""
    windows = _windows(step, step.attribute("kernel_shape"))
    counts = [_counts(size, axis, windows, step) for axis, size in enumerate(_positions(step))]
    divisor = counts[0]
    for count in counts[1:]:
        divisor = divisor[..., None] * count
    share = step.g / Value(step.builder.constant(divisor, step.g.dtype), step.g.dtype, step.builder)
    one_channel = share.reshape([-1, 1, *divisor.shape])
    ones = Value(step.builder.constant(np.ones((1, 1, *windows.kernel)), step.g.dtype), step.g.dtype, step.builder)
    return transposed(step, one_channel, ones, windows).reshape(step.x.shape())


def _counts(size: int, axis: int, windows: Windows, step: Step) -> Array:
    """Return the number of values by which each window along one axis is divided."""
    results = step.sizes_of(step.node.output[0], [SPATIAL + axis])
    if results is None:
        raise StepError("the height and width of its output are not fixed")
    begin, end = windows.begins[axis], windows.ends[axis]
    low, high = (-begin, size + end) if step.attribute("count_include_pad", 0) else (0, size)
    starts = np.arange(results[0]) * windows.strides[axis] - begin
    places = starts[:, None] + np.arange(windows.kernel[axis]) * windows.dilations[axis]
    inside = (places >= low) & (places < high)
    return np.asarray(np.maximum(inside.sum(axis=1), 1), np.float64)


RULES: dict[str, Rule] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MaxPool": unary(_max_pool),
    "AveragePool": unary(_average_pool),
}
"""Rules by operator."""
