"""Counts and moments of the values along one axis as ONNX nodes; NaN and infinite values are counted and left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layertap_server.blocks.builder import Builder


@dataclass(frozen=True, slots=True)
class Moments:
    """Names of the statistics of a float32 tensor along one axis, which keeps size 1."""

    is_finite: str
    """Mask of the finite values, of the tensor's shape."""
    known: str
    """The values, with 0 for those that are not finite."""
    centred: str
    """The finite values minus their mean, and 0 for the others."""
    high: str
    """The values, with minus infinity for those that are not finite."""
    finite: str
    """Number of finite values."""
    divisor: str
    """Number of finite values, but at least 1."""
    mean: str
    """Mean of the finite values; 0 without any, as is the variance."""
    variance: str
    """Mean squared difference from the mean, with the divisor n."""
    minimum: str
    """Smallest finite value; infinity without any."""
    maximum: str
    """Largest finite value; minus infinity without any."""
    zeros: str
    """Number of zeros."""
    nan: str
    """Number of NaN values."""
    inf: str
    """Number of infinite values."""


def emit_moments(builder: Builder, name: str, axis: int) -> Moments:
    """Emit the statistics of a float32 tensor along one axis."""

    def over(op_type: str, given: str) -> str:
        return builder.reduce(op_type, given, [axis], keepdims=True)

    zero, infinity = (builder.constant(value, "float32") for value in (0.0, np.inf))
    is_nan, is_inf = builder.op("IsNaN", name), builder.op("IsInf", name)
    is_finite = builder.op("Not", builder.op("Or", is_nan, is_inf))
    finite = count_true(builder, is_finite, axis)
    divisor = builder.op("Max", finite, builder.constant(1.0, "float32"))
    known = builder.op("Where", is_finite, name, zero)
    mean = builder.op("Div", over("ReduceSum", known), divisor)
    centred = builder.op("Where", is_finite, builder.op("Sub", known, mean), zero)
    high = builder.op("Where", is_finite, name, builder.op("Neg", infinity))
    return Moments(
        is_finite=is_finite,
        known=known,
        centred=centred,
        high=high,
        finite=finite,
        divisor=divisor,
        mean=mean,
        variance=builder.op("Div", over("ReduceSum", builder.op("Mul", centred, centred)), divisor),
        minimum=over("ReduceMin", builder.op("Where", is_finite, name, infinity)),
        maximum=over("ReduceMax", high),
        zeros=count_true(builder, builder.op("Equal", name, zero), axis),
        nan=count_true(builder, is_nan, axis),
        inf=count_true(builder, is_inf, axis),
    )


def count_true(builder: Builder, condition: str, axis: int) -> str:
    """Emit how often a condition is true along an axis, as float32."""
    return builder.reduce("ReduceSum", builder.cast(condition, "float32"), [axis], keepdims=True)
