"""Gradients of whole networks in float64, by central differences of ONNX's reference evaluator."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from layertap.types import Array

STEP = 1e-5
"""Distance of the differences."""


def as_double(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with float64 instead of float32 weights, inputs and casts."""
    double = onnx.ModelProto()
    double.CopyFrom(model)
    for index, tensor in enumerate(double.graph.initializer):
        if tensor.data_type == onnx.TensorProto.FLOAT:
            array = numpy_helper.to_array(tensor).astype(np.float64)
            double.graph.initializer[index].CopyFrom(numpy_helper.from_array(array, tensor.name))
    for item in (item for node in double.graph.node for item in node.attribute):
        if item.type == onnx.AttributeProto.TENSOR and item.t.data_type == onnx.TensorProto.FLOAT:
            item.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item.t).astype(np.float64)))
        if item.name == "to" and item.i == onnx.TensorProto.FLOAT:
            item.i = onnx.TensorProto.DOUBLE
    for value in (*double.graph.input, *double.graph.output):
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    del double.graph.value_info[:]
    return double


def layer_gradient(model: onnx.ModelProto, feeds: Mapping[str, Array], layer: str, output: str, index: int) -> Array:
    """Return the gradient of one value of a vector with respect to a layer, for one image, in float64.

    Args:
        model: the model, whose nodes compute the layer and the vector.
        feeds: values of the model's inputs.
        layer: name of the layer.
        output: name of the vector, 1×C.
        index: index of the value.
    """
    double = as_double(model)
    del double.graph.output[:]
    double.graph.output.extend(onnx.ValueInfoProto(name=name) for name in (layer, output))
    exact = {name: value.astype(np.float64) if value.dtype.kind == "f" else value for name, value in feeds.items()}
    start = exact.get(layer)
    if start is None:
        start = np.asarray(ReferenceEvaluator(double).run([layer], exact)[0])  # type: ignore[index]
    cut = cut_at(double, layer)
    gradient = np.zeros(start.size)
    for place in range(start.size):
        values = []
        for distance in (STEP, -STEP):
            moved = start.reshape(-1).copy()
            moved[place] += distance
            (vector,) = ReferenceEvaluator(cut).run([output], {**exact, layer: moved.reshape(start.shape)})
            values.append(float(np.reshape(vector, -1)[index]))
        gradient[place] = (values[0] - values[1]) / (2 * STEP)
    return gradient.reshape(start.shape)


def cut_at(model: onnx.ModelProto, layer: str) -> onnx.ModelProto:
    """Return the model with a layer as an input."""
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    kept = [node for node in model.graph.node if layer not in node.output]
    del cut.graph.node[:]
    cut.graph.node.extend(kept)
    if all(value.name != layer for value in cut.graph.input):
        cut.graph.input.append(onnx.helper.make_tensor_value_info(layer, onnx.TensorProto.DOUBLE, None))
    return cut
