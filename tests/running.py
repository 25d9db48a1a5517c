"""Run heads without a server: a graph with one input and a head, in onnxruntime."""

from __future__ import annotations

import numpy as np
import onnxruntime
from onnx import helper

from layertap import blocks
from layertap.expression import parse_head
from layertap.types import Array, Layout
from layertap_server.blocks import Builder, emit_head
from layertap_server.tensor import Tensor

NAMES = "NCHW"
"""Letters of the axes."""


def layout_of(array: Array, layout: Layout | None) -> Layout:
    """Return the layout, by default from the number of axes."""
    return layout or {4: Layout.NCHW, 3: Layout.TOKENS, 2: Layout.VECTOR}.get(array.ndim, Layout.OTHER)


def apply_head(
    head: str, array: Array, *, layout: Layout | None = None, opset: int = 17, symbolic: str = "N"
) -> tuple[Array, Tensor]:
    """Return the head's result on the array, and the tensor type that the emitters predicted.

    ``symbolic`` contains the letters of the axes, out of N, C, H and W, whose size the graph does not know.
    """
    layout = layout_of(array, layout)
    order = {Layout.NHWC: "NHWC", Layout.TOKENS: "NHC", Layout.NCDHW: "NCDHW"}.get(layout, NAMES)[: array.ndim]
    shape = tuple(letter if letter in symbolic else size for letter, size in zip(order, array.shape, strict=True))
    builder = Builder(opset)
    result = emit_head(
        builder, Tensor("x", array.dtype.name, shape, layout), [blocks.bind(block) for block in parse_head(head)]
    )
    output = builder.op("Identity", result.name)
    graph = helper.make_graph(
        builder.nodes,
        "head",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(array.dtype), shape)],
        [helper.make_tensor_value_info(output, helper.np_dtype_to_tensor_dtype(np.dtype(result.dtype)), None)],
        builder.initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8 if opset < 19 else 10)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (value,) = session.run(None, {"x": array})
    return value, result
