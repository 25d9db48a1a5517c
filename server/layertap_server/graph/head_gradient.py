"""Compilation of the gradient of a head on a tensor that the caller sends, without a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from layertap.blocks import BoundBlock
from layertap.types import Array, Layout
from layertap_server.blocks import Builder, emit_head
from layertap_server.graph.compile import BATCH, HEAD_INPUT, HEAD_IR_VERSION, HEAD_OPSET, CompiledPlan, remove_unread
from layertap_server.graph.gradient import add_gradients, type_of_info, type_of_weight
from layertap_server.graph.native import InProcess
from layertap_server.tensor import Tensor, value_info

COTANGENT = "layertap/cotangent"
"""Name of the input that holds the gradient with respect to the head's result."""


def compile_head_gradient(dtype: str, sizes: Sequence[int], layout: Layout, head: Iterable[BoundBlock]) -> CompiledPlan:
    """Compile a model that computes the vector-Jacobian product of a head: Σ_j c_j ∂y_j/∂x of x, N×sizes.

    The plan takes the cotangent c, of the shape of the result y, as the input `COTANGENT`.

    Raises:
        ShapeMismatchError: a block cannot be applied to the tensor before it.
        GradientError: a block has no derivative, or the result does not depend on the tensor.
    """
    builder = Builder(HEAD_OPSET)
    given = Tensor(HEAD_INPUT, dtype, (BATCH, *sizes), layout)
    result = emit_head(builder, given, head)
    inputs = [given.info, value_info(COTANGENT, result.dtype, result.shape)]
    product = builder.op("Mul", result.name, COTANGENT)
    constants = {tensor.name: tensor for tensor in builder.initializers}

    def constant_of(name: str) -> Array | None:
        return np.asarray(numpy_helper.to_array(constants[name])) if name in constants else None

    names = add_gradients(
        builder, list(builder.nodes), _types(builder, inputs, product), constant_of, product, [HEAD_INPUT]
    )
    output = value_info(names[HEAD_INPUT], dtype, given.shape)
    graph = helper.make_graph(builder.nodes, "gradient", inputs, [output], builder.initializers)
    remove_unread(graph)
    opset = helper.make_opsetid("", HEAD_OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=HEAD_IR_VERSION)
    return CompiledPlan(
        model.SerializeToString(), HEAD_INPUT, (output.name,), weight_bytes=0, other_inputs=(COTANGENT,)
    )


def _types(builder: Builder, inputs: Sequence[onnx.ValueInfoProto], output: str) -> Mapping[str, Tensor]:
    """Return the types of all tensors of a head, by name."""
    body = helper.make_graph(builder.nodes, "head", inputs, [onnx.ValueInfoProto(name=output)], builder.initializers)
    opset = helper.make_opsetid("", HEAD_OPSET)
    inferred = InProcess().infer_types(helper.make_model(body, opset_imports=[opset], ir_version=HEAD_IR_VERSION))
    weights = {tensor.name: type_of_weight(tensor) for tensor in builder.initializers}
    return {**weights, **{value.name: type_of_info(value) for value in inferred}}
