"""Rule of ``Resize``."""

from __future__ import annotations

import numpy as np

from layertap_server.graph.gradient.elementwise import Rule, unary
from layertap_server.graph.gradient.step import Step, StepError, Value

NAMES = ("mode", "coordinate_transformation_mode", "cubic_coeff_a", "exclude_outside", "nearest_mode")
"""Attributes that decide how values are interpolated."""


def _resize(step: Step) -> Value:
    """Multiply by the transposed matrix of the interpolation along each axis.

    Interpolation is linear in the values and separable. So its matrix along one axis is the resized identity matrix.
    """
    if step.attribute("antialias", 0) or step.attribute("coordinate_transformation_mode") == "tf_crop_and_resize":
        raise StepError("it resizes with antialiasing or crops")
    rank = len(step.shape_of(0))
    places = [int(axis) % rank for axis in step.attribute("axes", range(rank))]
    scales = step.constant_input(2)
    result = step.g
    for number, axis in enumerate(places):
        scale = float(scales[number]) if scales is not None and len(scales) else None
        before, after = (step.sizes_of(name, [axis]) for name in (step.node.input[0], step.node.output[0]))
        if before == after and scale in (None, 1.0) and (before is not None or axis == 0 or scale == 1.0):
            continue
        if before is None or after is None:
            raise StepError("the height and width of its input or output are not fixed")
        matrix = _interpolation(step, before[0], after[0], scale)
        order = [*(other for other in range(rank) if other != axis), axis]
        result = result.transpose(order).op("MatMul", matrix).transpose(np.argsort(order).tolist())
    return result


def _interpolation(step: Step, before: int, after: int, scale: float | None) -> Value:
    """Emit the matrix, after×before, that interpolates ``before`` values to ``after``."""
    builder, dtype = step.builder, step.g.dtype
    identity = step.constant(np.eye(before)[None, None], "float32")
    if scale is None:
        sizes = ["", "", builder.constant([1, 1, before, after], "int64")]
    else:
        sizes = ["", builder.constant([1, 1, 1, scale], "float32")]
    given = {name: step.attribute(name) for name in NAMES}
    resized = Value(builder.op("Resize", identity.name, *sizes, **given), "float32", builder)
    return resized.reshape([before, after]).transpose([1, 0]).cast(dtype)


RULES: dict[str, Rule] = {"Resize": unary(_resize)}
"""Rules by operator."""
