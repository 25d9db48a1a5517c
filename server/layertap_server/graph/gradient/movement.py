"""Rules of operators that only move values: each passes the cotangent back by the inverse movement."""

from __future__ import annotations

import numpy as np

from layertap_server.graph.gradient.elementwise import Cotangents, Rule, unary
from layertap_server.graph.gradient.step import Step, StepError, Value


def add_along(step: Step, value: Value, axis: int, indices: Value, size: Value) -> Value:
    """Emit zeros of ``size`` along an axis, to which the slices of a tensor are added at ``indices``.

    Args:
        step: the step.
        value: the tensor.
        axis: the axis.
        indices: for each slice along the axis, its place in the result; a vector of int64.
        size: size of the result along the axis, a vector of one number.
    """
    rank = len(step.shape_of(0))
    order = [axis, *(other for other in range(rank) if other != axis)]
    moved = value.widened().transpose(order)
    start = step.zeros(size.op("Concat", moved.shape(1), axis=0), moved.dtype)
    places = indices.op("Unsqueeze", indices.integers([1]))
    added = start.op("ScatterND", places, moved, reduction="add")
    return added.transpose(np.argsort(order).tolist()).cast(value.dtype)


def _range(step: Step, axis: int) -> Value:
    """Emit the indices of the first input along an axis."""
    size = step.x.size(axis).op("Squeeze")
    return step.constant(0, "int64").op("Range", size, step.constant(1, "int64"))


def _reshaped(step: Step) -> Value:
    return step.g.reshape(step.x.shape())


def _transpose(step: Step) -> Value:
    rank = len(step.shape_of(0))
    order = step.attribute("perm") or list(range(rank))[::-1]
    return step.g.transpose(np.argsort(order).tolist())


def _concat(step: Step) -> Cotangents:
    count = len(step.node.input)
    axis = step.attribute("axis") % len(step.shape_of(0))
    sizes = [step.input(index).size(axis) for index in range(count)]
    lengths = sizes[0].op("Concat", *sizes[1:], axis=0)
    parts = step.builder.outputs("Split", step.g.name, lengths.name, count=count, axis=axis)
    return tuple(Value(part, step.g.dtype, step.builder) for part in parts)


def _split(step: Step) -> Value:
    """Join the cotangents of the parts, with zeros for parts that the target does not depend on."""
    dtype = step.x.dtype
    parts = [
        Value(given, dtype, step.builder) if given else step.zeros(Value(output, dtype, step.builder).shape(), dtype)
        for given, output in zip(step.cotangents, step.node.output, strict=True)
    ]
    return parts[0].op("Concat", *parts[1:], axis=step.attribute("axis", 0))


def _slice(step: Step) -> Value:
    starts, ends = step.constant_input(1), step.constant_input(2)
    axes, steps = step.constant_input(3), step.constant_input(4)
    if starts is None or ends is None:
        raise StepError("it has no starts and ends")
    rank = len(step.shape_of(0))
    axes = np.arange(len(starts)) if axes is None else axes
    steps = np.ones(len(starts), np.int64) if steps is None else steps
    result = step.g
    for start, end, axis, stride in zip(starts, ends, axes, steps, strict=True):
        index = int(axis) % rank
        indices = _range(step, index).slice(0, int(start), int(end), int(stride))
        result = add_along(step, result, index, indices, step.x.size(index))
    return result


def _pad(step: Step) -> Value:
    """Add each value of the cotangent to the one that it was copied from; values of the border have none."""
    mode, pads, axes = step.attribute("mode", "constant"), step.constant_input(1), step.constant_input(3)
    rank = len(step.shape_of(0))
    if pads is None or (pads < 0).any():
        raise StepError("it crops by negative pads")
    places = list(range(rank)) if axes is None else [int(axis) % rank for axis in axes]
    result = step.g
    for number, axis in enumerate(places):
        before, after = int(pads[number]), int(pads[number + len(places)])
        if not before and not after:
            continue
        if mode == "constant":
            end = -after if after else np.iinfo(np.int64).max
            result = result.slice(axis, before, end)
            continue
        indices = _range(step, axis).op("Pad", step.x.integers([before, after]), mode=mode)
        result = add_along(step, result, axis, indices, step.x.size(axis))
    return result


def _tile(step: Step) -> Value:
    repeats = step.constant_input(1)
    if repeats is None:
        raise StepError("it has no repeats")
    result = step.g
    for axis, count in enumerate(repeats):
        if count != 1:
            indices = _range(step, axis).op("Tile", step.x.integers([int(count)]))
            result = add_along(step, result, axis, indices, step.x.size(axis))
    return result


def _gather(step: Step) -> Value:
    """Add the cotangent of each gathered slice at its index."""
    axis = step.attribute("axis", 0) % len(step.shape_of(0))
    size = step.x.size(axis)
    indices = step.input(1).cast("int64").reshape([-1])
    indices = (indices.op("Less", 0)).choose(indices + size, indices, "int64")
    merged = step.x.shape(end=axis).op("Concat", size.integers([-1]), step.x.shape(axis + 1), axis=0)
    return add_along(step, step.g.reshape(merged), axis, indices, size)


def _gather_elements(step: Step) -> Value:
    g = step.g.widened()
    zeros = step.zeros(step.x.shape(), g.dtype)
    added = zeros.op("ScatterElements", step.input(1), g, axis=step.attribute("axis", 0), reduction="add")
    return added.cast(step.g.dtype)


def _top_k(step: Step) -> Value:
    """Add the cotangent of the chosen values at their positions."""
    g = step.g.widened()
    zeros, axis = step.zeros(step.x.shape(), g.dtype), step.attribute("axis", -1)
    places = Value(step.node.output[1], "int64", step.builder)
    return zeros.op("ScatterElements", places, g, axis=axis, reduction="add").cast(step.g.dtype)


def _scatter_nd(step: Step) -> Cotangents:
    """Pass the cotangent to the data where nothing was written, and to the updates where they were written."""
    reduction = step.attribute("reduction", "none")
    if reduction not in {"none", "add"}:
        raise StepError(f"it combines values by {reduction}")
    places = step.input(1)
    updates = step.g.op("GatherND", places)
    data = step.g if reduction == "add" else step.g.op("ScatterND", places, step.zeros(updates.shape(), step.g.dtype))
    return data, None, updates


def _depth_to_space(step: Step) -> Value:
    """Take each block apart again; in the mode CRD the channels come before the places of a block."""
    size = step.attribute("blocksize")
    result = step.g.op("SpaceToDepth", blocksize=size)
    if step.attribute("mode", "DCR") == "DCR":
        return result
    grouped = result.reshape([0, size * size, step.channels // size**2, -1])
    return grouped.transpose([0, 2, 1, 3]).reshape(step.x.shape())


RULES: dict[str, Rule] = {
    "Reshape": unary(_reshaped),
    "Flatten": unary(_reshaped),
    "Squeeze": unary(_reshaped),
    "Unsqueeze": unary(_reshaped),
    "Transpose": unary(_transpose),
    "Expand": unary(lambda step: step.sum_to(step.g, 0)),
    "Concat": _concat,
    "Split": unary(_split),
    "Slice": unary(_slice),
    "Pad": unary(_pad),
    "Tile": unary(_tile),
    "Gather": unary(_gather),
    "GatherElements": unary(_gather_elements),
    "ScatterND": _scatter_nd,
    "TopK": unary(_top_k),
    "DepthToSpace": unary(_depth_to_space),
    "SpaceToDepth": unary(lambda step: step.g.op("DepthToSpace", blocksize=step.attribute("blocksize"))),
}
"""Rules by operator."""
