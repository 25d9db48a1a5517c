"""Tests of receptive fields, against the rows of a layer that change when one row of the image is changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from layertap.types import Array, LayerInfo, ReceptiveField, TokenGrid
from layertap_server.graph import read
from tests.models import vision_transformer

SIDE = 40
"""Height and width of the image in pixels."""
BORDER = 8
"""Distance from the border below which cropping and padding can shrink a field, in pixels."""


class Net:
    """Builder of a network with positive weights, so that every change of the image reaches the result."""

    def __init__(self) -> None:
        """Start without nodes."""
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [name], **attributes))
        return name

    def weight(self, value: Array) -> str:
        """Add an initializer and return its name."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def filters(self, *shape: int) -> str:
        """Add filters of ones and return their name."""
        return self.weight(np.ones(shape, np.float32))

    def model(self, output: str) -> onnx.ModelProto:
        """Return the network as a model."""
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 2, SIDE, SIDE])
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "net", [image], [result], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def conv(net: Net, x: str, size: int, **attributes: object) -> str:
    """Add a convolution of height ``size``."""
    return net.add("Conv", x, net.filters(2, 2, size, 3), kernel_shape=[size, 3], **attributes)


@st.composite
def networks(draw: st.DrawFn) -> tuple[Net, str]:
    """Draw a network and the name of its output."""
    net, x, rows = Net(), "image", SIDE
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["conv", "same", "pool", "residual", "inception", "pad", "slice", "shuffle"]))
        size, stride = draw(st.integers(1, 4)), draw(st.integers(1, 2))
        if rows < 8:
            break
        if kind == "conv":
            pad, dilation = draw(st.integers(0, 2)), draw(st.integers(1, 2))
            attributes = {"strides": [stride, 1], "pads": [pad, 1, 0, 1], "dilations": [dilation, 1]}
            x = conv(net, x, size, **attributes)
            rows = (rows + pad - dilation * (size - 1) - 1) // stride + 1
        elif kind == "same":
            x = conv(net, x, size, strides=[stride, 1], auto_pad=draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER"])))
            rows = -(-rows // stride)
        elif kind == "pool":
            x = net.add("AveragePool", x, kernel_shape=[size, 1], strides=[stride, 1])
            rows = (rows - size) // stride + 1
        elif kind == "residual":
            x = net.add("Add", x, conv(net, x, 3, pads=[1, 1, 1, 1]))
        elif kind == "inception":
            branches = [conv(net, x, 1, pads=[0, 1, 0, 1]), conv(net, x, 5, pads=[2, 1, 2, 1])]
            joined = net.add("Concat", *branches, axis=1)
            x = net.add("Conv", joined, net.filters(2, 4, 1, 1))
        elif kind == "pad":
            pads = net.weight(np.array([0, 0, 2, 0, 0, 0, 1, 0], np.int64))
            x, rows = net.add("Pad", x, pads), rows + 3
        elif kind == "slice":
            starts, ends, axes = (net.weight(np.array([value], np.int64)) for value in (1, 1000, 2))
            steps = net.weight(np.array([stride], np.int64))
            x, rows = net.add("Slice", x, starts, ends, axes, steps), -(-(rows - 1) // stride)
        else:
            split = net.weight(np.array([0, 2, 1, rows, -1], np.int64))
            x = net.add("Transpose", net.add("Reshape", x, split), perm=[0, 2, 1, 3, 4])
            x = net.add("Reshape", x, net.weight(np.array([0, 2, rows, -1], np.int64)))
    return net, net.add("Relu", x)


def rows_seen(model: onnx.ModelProto) -> list[set[int]]:
    """Return for each row of the result the rows of the image that change it."""
    options = onnxruntime.SessionOptions()
    # onnxruntime 1.31 fuses a Pad into a pool that then rejects the padding.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    images = np.ones((SIDE + 1, 2, SIDE, SIDE), np.float32)
    images[np.arange(SIDE), :, np.arange(SIDE)] = 2
    (maps,) = session.run(None, {"image": images})
    moved = (maps[:SIDE] > maps[SIDE:] * (1 + 1e-6)).any(axis=(1, 3))
    return [set(np.flatnonzero(moved[:, row])) for row in range(maps.shape[2])]


@given(networks())
def test_the_field_is_what_moves_the_layer(tmp_path_factory: pytest.TempPathFactory, drawn: tuple[Net, str]) -> None:
    net, output = drawn
    seen = rows_seen(net.model(output))
    field = field_of(net, output, tmp_path_factory.mktemp("w"))
    assert field is not None
    for row, rows in enumerate(seen):
        centre = field.offset + row * field.stride
        inside = range(int(centre - (field.size - 1) / 2), int(centre + (field.size - 1) / 2) + 1)
        assert rows <= set(inside)
        if inside[0] >= BORDER and inside[-1] < SIDE - BORDER:
            assert {inside[0], inside[-1]} <= rows  # the field is exact at both ends


def field_of(net: Net, output: str, folder: Path) -> ReceptiveField | None:
    """Return the receptive field of a network's output."""
    return next(layer for layer in read(net.model(output), folder).layers if layer.name == output).receptive_field


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [("ConvTranspose", {"strides": [2, 2], "pads": [1, 1, 1, 1]}), ("ConvTranspose", {"strides": [2, 2]})],
)
def test_after_an_upsampling_the_field_holds_what_moves_it(
    op_type: str, attributes: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    net = Net()
    output = net.add("Relu", net.add(op_type, conv(net, "image", 3), net.filters(2, 2, 4, 4), **attributes))
    field = field_of(net, output, tmp_path_factory.mktemp("w"))
    assert field is not None
    assert (field.stride, field.size) == (0.5, 4)
    for row, rows in enumerate(rows_seen(net.model(output))):
        centre = field.offset + row * field.stride
        assert all(abs(other - centre) <= field.size / 2 for other in rows)


@pytest.mark.parametrize("kind", ["GlobalAveragePool", "InstanceNormalization", "gate", "unaligned"])
def test_what_sees_the_whole_image_has_no_field(kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    net = Net()
    maps = conv(net, "image", 3, pads=[1, 1, 1, 1])
    if kind == "GlobalAveragePool":
        output = net.add(kind, maps)
    elif kind == "InstanceNormalization":
        output = net.add(kind, maps, net.filters(2), net.filters(2))
    elif kind == "gate":
        output = net.add("Mul", maps, net.add("Sigmoid", net.add("GlobalAveragePool", maps)))
    else:
        strided = conv(net, maps, 3, strides=[2, 1], pads=[1, 1, 1, 1])
        upwards = net.add("AveragePool", maps, kernel_shape=[21, 1])
        output = net.add("Add", strided, upwards)
    assert field_of(net, output, tmp_path_factory.mktemp("w")) is None


def test_the_fields_of_a_known_network(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Check the fields of VGG's five stages against Araujo et al.: 212 after the last pool of VGG-16."""
    net, x = Net(), "image"
    for convolutions in (2, 2, 3, 3, 3):
        for _ in range(convolutions):
            x = net.add("Conv", x, net.filters(2, 2, 3, 3), pads=[1, 1, 1, 1])
        x = net.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    field = field_of(net, x, tmp_path_factory.mktemp("w"))
    assert field is not None
    assert (field.size, field.stride) == (212, 32)


def test_a_transformers_tokens_have_a_grid(tmp_path_factory: pytest.TempPathFactory) -> None:
    layers: dict[str, LayerInfo] = {
        layer.name: layer for layer in read(vision_transformer(), tmp_path_factory.mktemp("w")).layers
    }
    assert layers["tokens"].tokens == TokenGrid(1, 3, 4)
    assert layers["tokens"].stride == 8
    assert layers["places"].tokens == TokenGrid(0, 3, 4)
    assert layers["patches"].receptive_field == ReceptiveField(8, 8, 3.5)
    assert layers["attended"].receptive_field is None
    assert layers["cls"].tokens is None
