"""Preprocessing nodes of an image plan: they convert uint8 pixels to the model's own input.

Pixels as bytes take a quarter of the memory bandwidth of floats, and the arithmetic is cheap inside the session.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, ValueInfoProto, helper

from layertap.types import Layout, TensorInfo
from layertap_server.blocks import Builder

IMAGES = "layertap/images"
"""Name of the plan's image input: uint8, N×H×W×3 in RGB order or N×H×W×1."""


@dataclass(frozen=True, slots=True)
class Normalization:
    """Normalization of pixels to the value range of training: ``(pixel - mean) / std`` for each channel."""

    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    bgr: bool = False
    """Whether the model takes channels in BGR order; ``mean`` and ``std`` are then in BGR order too."""


def images_input(batch: int | None, size: tuple[int, int], channels: int) -> ValueInfoProto:
    """Return the image input of a plan for images of height and width ``size``; the batch is free if None."""
    return helper.make_tensor_value_info(IMAGES, TensorProto.UINT8, [batch or "N", *size, channels])


def emit_preprocessing(builder: Builder, normalization: Normalization, main_input: TensorInfo) -> str:
    """Emit the preprocessing nodes and return the name of the tensor to use as the model's input."""
    name = IMAGES
    if normalization.bgr:
        name = builder.op("Gather", name, builder.constant([2, 1, 0], "int64"), axis=3)
    # Transpose bytes, not floats: it moves a quarter of the data, and the arithmetic runs on contiguous channels.
    planes = main_input.layout is not Layout.NHWC
    if planes:
        name = builder.op("Transpose", name, perm=[0, 3, 1, 2])
    # Compute in float32 for every input dtype: float16 would lose precision with a large mean.
    name = builder.op("Cast", name, to=TensorProto.FLOAT)
    if any(normalization.mean):
        name = builder.op("Sub", name, _channel_values(builder, normalization.mean, planes=planes))
    if any(value != 1 for value in normalization.std):
        name = builder.op("Div", name, _channel_values(builder, normalization.std, planes=planes))
    if main_input.dtype != "float32":
        name = builder.op("Cast", name, to=helper.np_dtype_to_tensor_dtype(np.dtype(main_input.dtype)))
    return name


def _channel_values(builder: Builder, values: tuple[float, ...], *, planes: bool) -> str:
    """Return a constant of one value per channel that broadcasts over C×H×W (``planes``) or H×W×C."""
    if len(set(values)) == 1:
        return builder.constant(values[0], "float32")
    return builder.constant(np.array(values).reshape(-1, 1, 1) if planes else values, "float32")
