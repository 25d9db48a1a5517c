"""Saturation thresholds of layers. A value is saturated near a bound of its activation, where the derivative vanishes.

The catalogue of blocks states which functions saturate on both sides, and their ranges. An ONNX operator is the block
of the same name. There are three rules, by the operator that produces the layer:

- Squashing function (sigmoid, hard sigmoid, tanh, softsign, erf): values within `NEAR` of the range from either bound.
- Clip (relu6, hard_tanh): the same, except at a bound that is also the value for an input of 0. There a rectifier is
  off, which the fraction of zeros reports. With only one bound, values at that bound.
- Softmax: all values of a distribution whose largest probability is at least ``1 - NEAR``. A small probability alone is
  not saturated, since most of 1,000 classes have one.

No other operator saturates. LogSoftmax keeps the gradient that softmax loses. Gated activations (swish, gelu, mish) and
one-sided ones (relu, elu, softplus) have one bound, where the unit is off. Hardmax has no derivative at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from layertap import blocks
from layertap_server.graph.model_graph import ModelGraph
from layertap_server.graph.walk import attribute_of

NEAR = 0.01
"""Distance from a bound that counts as saturated, as a fraction of the range."""
_SOFTMAX = frozenset({"softmax", "softmin"})
"""Blocks that are a softmax; the distribution saturates, not the single value."""
_CLIPS = frozenset({"clip", "relu6", "hard_tanh"})
"""Blocks that are emitted as a Clip, whose bounds are inputs of the node."""
_BOUNDS: Mapping[str, tuple[float, float]] = {"relu6": (0, 6), "hard_tanh": (-1, 1)}
"""Bounds of the blocks that have no others."""


@dataclass(frozen=True, slots=True)
class Saturation:
    """Saturation thresholds of a layer; None for a side where it cannot saturate."""

    low: float | None = None
    """Threshold at or below which values are saturated."""
    high: float | None = None
    """Threshold at or above which values are saturated."""
    axis: int | None = None
    """Axis of a softmax. All values along it are saturated if one of them reaches ``high``."""


NONE = Saturation()
"""Thresholds of a layer that cannot saturate."""


def saturation_of(graph: ModelGraph, layer: str) -> Saturation:
    """Return the saturation thresholds of a layer, by the operator or block that produces it."""
    info = next((info for info in graph.layers if info.name == layer), None)
    if info is None:
        return NONE
    block = _block_of(info.op_type)
    if block in _SOFTMAX:
        axis = int(attribute_of(_producer(graph, layer), "axis", -1)) % graph.types[layer].rank
        return Saturation(high=1 - NEAR, axis=axis + (axis < graph.batch_axes.get(layer, 0)))
    if block in _CLIPS:
        return _of_clip(*_clip_bounds(graph, layer, block))
    bounds = _squashing_range(block)
    return _near_both(*bounds) if bounds else NONE


def _block_of(operator: str) -> str:
    """Return the name that the catalogue has for an operator: ``hard_sigmoid`` for HardSigmoid; a block's own name."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operator).lower()


def _squashing_range(block: str) -> tuple[float, float] | None:
    """Return the range of a block that saturates on both sides according to the catalogue, else None."""
    spec = blocks.find(block)
    if spec is None or spec.properties.get("saturates") != "both sides":
        return None
    low, high = re.findall(r"-?\d+(?:\.\d+)?", spec.properties["range"])
    return float(low), float(high)


def _near_both(low: float, high: float) -> Saturation:
    """Return thresholds near both ends of a range."""
    near = NEAR * (high - low)
    return Saturation(low + near, high - near)


def _of_clip(low: float | None, high: float | None) -> Saturation:
    """Return the thresholds of a clip; a bound is None if it is absent."""
    if low is not None and high is not None and low >= high:
        return NONE  # the clip's result is constant
    ends = Saturation(low, high) if low is None or high is None else _near_both(low, high)
    is_off_below, is_off_above = low is not None and low >= 0, high is not None and high <= 0
    return Saturation(None if is_off_below else ends.low, None if is_off_above else ends.high)


def _clip_bounds(graph: ModelGraph, layer: str, block: str) -> tuple[float | None, float | None]:
    """Return the bounds of a clip, each None if it is absent or not a constant.

    A clip that is written as several nodes has the bounds of its block, or none that are known.
    """
    node = _producer(graph, layer)
    if node.op_type != "Clip":
        return _BOUNDS.get(block, (None, None))
    low, high = [*node.input[1:3], "", ""][:2]
    return _constant(graph, low), _constant(graph, high)


def _constant(graph: ModelGraph, name: str) -> float | None:
    """Return the value of a scalar constant, or None if there is none or it is no real bound (the largest float32)."""
    weight = graph.weights.get(name)
    if weight is None:
        return None
    value = float(numpy_helper.to_array(weight).reshape(-1)[0])
    return value if abs(value) < np.finfo(np.float32).max else None


def _producer(graph: ModelGraph, layer: str) -> onnx.NodeProto:
    """Return the node that computes a layer."""
    return next(node for node in graph.proto.graph.node if layer in node.output)
