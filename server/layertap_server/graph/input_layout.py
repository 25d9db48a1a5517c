"""Layout of a model's four-dimensional inputs, by the first operators that tell the channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from layertap.types import Layout
from layertap_server.graph.walk import attribute_of

CHANNELS_AT_1 = frozenset(
    {"Conv", "ConvInteger", "QLinearConv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "FusedConv"}
)
"""Operators that read channels at axis 1."""
IN_PLACE = frozenset(
    {
        *(
            "Identity",
            "Cast",
            "Add",
            "Sub",
            "Mul",
            "Div",
            "Pow",
            "Clip",
            "Relu",
            "Neg",
            "Pad",
            "Resize",
            "Slice",
            "Concat",
        ),
        *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MaxPool", "AveragePool", "Split", "Sqrt"),
    }
)
"""Operators whose result has the axes of their first input."""
MOST_NODES = 64
"""Maximum number of nodes that are followed from an input."""
LAYOUTS = {1: Layout.NCHW, 3: Layout.NHWC}
"""Layout of an image input by the axis of its channels."""


def layout_by_use(graph: onnx.GraphProto, name: str) -> Layout | None:
    """Return the layout of an input of four axes, by the first convolution or normalization that reads it.

    Only operators that keep the axes, or permute them, are followed. Returns None if none of them leads to one.
    """
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for given in node.input[:1] if node.op_type not in {"Concat", "Add", "Mul"} else node.input:
            readers.setdefault(given, []).append(node)
    axis = _channel_axis(readers, name)
    return LAYOUTS.get(axis) if axis is not None else None


def _channel_axis(readers: Mapping[str, Sequence[onnx.NodeProto]], name: str) -> int | None:
    """Return the axis of the input ``name`` that becomes axis 1 of the first convolution; None if there is none."""
    waiting: list[tuple[str, tuple[int, ...]]] = [(name, (0, 1, 2, 3))]
    for _ in range(MOST_NODES):
        if not waiting:
            return None
        tensor, order = waiting.pop(0)
        for node in readers.get(tensor, ()):
            if node.op_type in CHANNELS_AT_1:
                return order[1]
            if node.op_type == "Transpose":
                perm = attribute_of(node, "perm", [3, 2, 1, 0])
                waiting.append((node.output[0], tuple(order[axis] for axis in perm)))
            elif node.op_type in IN_PLACE:
                waiting += [(output, order) for output in node.output]
    return None
