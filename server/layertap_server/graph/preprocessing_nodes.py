"""The front of an image plan: uint8 pixels -> the model's own input, as nodes.

Bytes are four times smaller to move than floats, and the arithmetic costs the session next to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, ValueInfoProto, helper

from layertap.types import Layout, TensorInfo
from layertap_server.blocks import Builder

IMAGES = "layertap/images"
"""The plan's input: uint8 N×H×W×3, in RGB, or N×H×W×1."""


@dataclass(frozen=True, slots=True)
class Normalization:
    """How bytes become the numbers that the model was trained on: ``(pixel - mean) / std`` for each channel."""

    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    bgr: bool = False
    """The model takes blue first; mean and std are then in that order."""


def front_input(batch: int | None, size: tuple[int, int], channels: int) -> ValueInfoProto:
    """What the plan takes: images of this height and width."""
    return helper.make_tensor_value_info(IMAGES, TensorProto.UINT8, [batch or "N", *size, channels])


def emit_front(builder: Builder, normalization: Normalization, image_input: TensorInfo) -> str:
    """Appends the nodes; returns the tensor that stands for the model's input."""
    name = IMAGES
    if normalization.bgr:
        name = builder.op("Gather", name, builder.constant([2, 1, 0], "int64"), axis=3)
    # Turned while they are bytes: a quarter to move, and arithmetic is fast where a channel's values lie side by side.
    planes = image_input.layout is not Layout.NHWC
    if planes:
        name = builder.op("Transpose", name, perm=[0, 3, 1, 2])
    # In float32 whatever the model takes: float16 has no room for a mean of large numbers.
    name = builder.op("Cast", name, to=TensorProto.FLOAT)
    if any(normalization.mean):
        name = builder.op("Sub", name, _channel_values(builder, normalization.mean, planes=planes))
    if any(value != 1 for value in normalization.std):
        name = builder.op("Div", name, _channel_values(builder, normalization.std, planes=planes))
    if image_input.dtype != "float32":
        name = builder.op("Cast", name, to=helper.np_dtype_to_tensor_dtype(np.dtype(image_input.dtype)))
    return name


def _channel_values(builder: Builder, values: tuple[float, ...], *, planes: bool) -> str:
    if len(set(values)) == 1:
        return builder.constant(values[0], "float32")
    return builder.constant(np.array(values).reshape(-1, 1, 1) if planes else values, "float32")
