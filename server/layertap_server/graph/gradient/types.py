"""Types and values of the tensors between which gradients are taken, as far as a graph does not have them yet."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from layertap.types import Array, Layout
from layertap_server.graph.folding import MOST_VALUES
from layertap_server.graph.native import Native
from layertap_server.tensor import Tensor


def infer_types(
    nodes: Sequence[onnx.NodeProto],
    constants: Sequence[onnx.TensorProto],
    inputs: Sequence[onnx.ValueInfoProto],
    opsets: Sequence[onnx.OperatorSetIdProto],
    ir_version: int,
    native: Native,
) -> dict[str, Tensor]:
    """Return the types of the tensors that emitted nodes compute, and of the inputs, by name.

    Args:
        nodes: the nodes, in execution order.
        constants: constants that they read.
        inputs: types of the other tensors that they read.
        opsets: operator sets of the nodes.
        ir_version: ONNX IR version.
        native: runner of shape inference.

    Raises:
        GraphError: the types cannot be inferred.
    """
    outputs = [onnx.ValueInfoProto(name=name) for node in nodes[-2:] for name in node.output]
    body = helper.make_graph(nodes, "emitted", inputs, outputs, constants)
    model = helper.make_model(body, opset_imports=opsets, ir_version=ir_version)
    return {value.name: _type_of(value) for value in native.infer_types(model)}


def type_of_weight(tensor: onnx.TensorProto) -> Tensor:
    """Return the type of an initializer."""
    dtype = str(helper.tensor_dtype_to_np_dtype(tensor.data_type))
    return Tensor(tensor.name, dtype, tuple(tensor.dims), Layout.OTHER)


def value_of(tensor: onnx.TensorProto) -> Array | None:
    """Return the value of an initializer of few values; None for any other."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL or math.prod(tensor.dims) > MOST_VALUES:
        return None
    return np.asarray(numpy_helper.to_array(tensor))


def _type_of(value: onnx.ValueInfoProto) -> Tensor:
    """Return the type that shape inference found."""
    type_ = value.type.tensor_type
    dims = tuple(dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or "?") for dim in type_.shape.dim)
    return Tensor(value.name, str(helper.tensor_dtype_to_np_dtype(type_.elem_type)), dims, Layout.OTHER)
