"""Compilation of heads, and of their gradients, on a tensor that the caller sends, without a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx
from onnx import helper

from layertap.blocks import BoundBlock
from layertap.types import Array, Layout
from layertap_server.blocks import Builder, emit_head
from layertap_server.graph.compile import (
    CompiledPlan,
    HeadType,
    as_output,
    quantization_of,
    quantization_outputs,
    remove_unread,
    type_of_head,
)
from layertap_server.graph.gradient import add_gradients, infer_types, type_of_weight, value_of
from layertap_server.graph.native import InProcess
from layertap_server.tensor import Tensor, value_info

OPSETS = [helper.make_opsetid("", 17)]
"""Operator set of models that consist of a head alone."""
IR_VERSION = 8
"""ONNX IR version of models that consist of a head alone."""
INPUT = "layertap/tensor"
"""Name of the input of a model that consists of a head alone."""
COTANGENT = "layertap/cotangent"
"""Name of the input that holds the gradient with respect to the head's result."""
BATCH = "N"
"""Symbolic size of the batch axis."""


def tensor_type(dtype: str, sizes: Sequence[int], layout: Layout, head: Iterable[BoundBlock]) -> HeadType:
    """Return the result type and the cost of a head on a tensor of shape N×sizes.

    Raises:
        ShapeMismatchError: A block cannot be applied to the tensor before it.
    """
    return type_of_head(_builder(), _input(dtype, sizes, layout), head)


def compile_head(dtype: str, sizes: Sequence[int], layout: Layout, head: Iterable[BoundBlock]) -> CompiledPlan:
    """Compile a model that applies a head to a tensor of shape N×sizes.

    Raises:
        ShapeMismatchError: A block cannot be applied to the tensor before it.
    """
    builder, given = _builder(), _input(dtype, sizes, layout)
    result = emit_head(builder, given, head)
    output = as_output(builder, result, is_input=result.name == INPUT)
    model = _model(builder, [given.info], [output, *quantization_outputs(result)])
    return CompiledPlan(model, INPUT, (output.name,), weight_bytes=0, quantization=quantization_of([result]))


def compile_head_gradient(dtype: str, sizes: Sequence[int], layout: Layout, head: Iterable[BoundBlock]) -> CompiledPlan:
    """Compile a model that computes the vector-Jacobian product of a head: Σ_j c_j ∂y_j/∂x of x, N×sizes.

    The plan takes the cotangent c, of the shape of the result y, as the input `COTANGENT`.

    Raises:
        ShapeMismatchError: A block cannot be applied to the tensor before it.
        GradientError: A block has no derivative, or the result does not depend on the tensor.
    """
    builder, given = _builder(), _input(dtype, sizes, layout)
    result = emit_head(builder, given, head)
    inputs = [given.info, value_info(COTANGENT, result.dtype, result.shape)]
    product = builder.op("Mul", result.name, COTANGENT)
    constants = {tensor.name: tensor for tensor in builder.initializers}
    weights = {name: type_of_weight(tensor) for name, tensor in constants.items()}
    types = infer_types(builder.nodes, builder.initializers, inputs, OPSETS, IR_VERSION, InProcess())

    def constant_of(name: str) -> Array | None:
        return value_of(constants[name]) if name in constants else None

    names = add_gradients(builder, list(builder.nodes), {**weights, **types}, constant_of, product, [INPUT])
    output = value_info(names[INPUT], dtype, given.shape)
    model = _model(builder, inputs, [output])
    return CompiledPlan(model, INPUT, (output.name,), weight_bytes=0, other_inputs=(COTANGENT,))


def _builder() -> Builder:
    """Return a builder for a head alone."""
    return Builder(OPSETS[0].version)


def _input(dtype: str, sizes: Sequence[int], layout: Layout) -> Tensor:
    """Return the input of a model that consists of a head alone, N×sizes."""
    return Tensor(INPUT, dtype, (BATCH, *sizes), layout)


def _model(builder: Builder, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]) -> bytes:
    """Return the serialized model of the builder's nodes."""
    graph = helper.make_graph(builder.nodes, "head", inputs, outputs, builder.initializers)
    remove_unread(graph)
    model = helper.make_model(graph, opset_imports=OPSETS, ir_version=IR_VERSION)
    return bytes(model.SerializeToString())
