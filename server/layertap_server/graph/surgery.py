"""Replacing and inserting blocks in a finished model, when it is loaded.

A replaced or inserted block keeps the layer's name for its result, so that selectors, stages and whatever reads the
layer stay as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from layertap import blocks
from layertap.blocks import BoundBlock
from layertap.errors import ShapeMismatchError
from layertap.types import Block, Value
from layertap_server.blocks import Builder, Tensor, emit_head
from layertap_server.graph.model_graph import ModelGraph

_POOLS = {
    "kernel_shape": "kernel",
    "strides": "stride",
    "dilations": "dilation",
    "pads": "padding",
}
"""Attributes of ONNX's pools -> parameters of ours."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One change: the head takes the place of what makes the layer, or comes behind it."""

    layer: str
    head: tuple[Block, ...]
    replaces: bool
    text: str
    """The head as it was written, for the report."""


def operate(graph: ModelGraph, operations: Sequence[Operation]) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The changed model, and a line for each change.

    Raises:
        ShapeMismatchError: a head does not fit, or would change the layer's shape or dtype.
        BadParameterError, UnknownBlockError: what is wrong with a block.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    report = [_operate(graph, proto.graph, operation, number) for number, operation in enumerate(operations)]
    return proto, tuple(report)


def _operate(graph: ModelGraph, proto: onnx.GraphProto, operation: Operation, number: int) -> str:
    index = next(index for index, node in enumerate(proto.node) if operation.layer in node.output)
    node, layer = proto.node[index], graph.types[operation.layer]
    builder = Builder(graph.opset, prefix=f"surgery/{number}")
    if operation.replaces:
        if sum(map(bool, node.output)) > 1:
            message = f"{node.op_type} gives more than {operation.layer!r}, so a block cannot take its place"
            raise ShapeMismatchError(message, layer=operation.layer)
        source = graph.types[node.input[0]]
        head = tuple(_like(node, block) for block in operation.head)
        result = emit_head(builder, source, head)
        kept = list(proto.node[:index])
        done = f"{operation.layer}: {node.op_type} became {operation.text}"
    else:
        before = builder.fresh("before")
        renamed = onnx.NodeProto()
        renamed.CopyFrom(node)
        renamed.name = before
        renamed.output[:] = [before if name == operation.layer else name for name in node.output]
        source = Tensor(before, layer.dtype, layer.shape, layer.layout)
        result = emit_head(builder, source, tuple(blocks.bind(block) for block in operation.head))
        kept = [*proto.node[:index], renamed]
        done = f"{operation.layer}: {operation.text} inserted behind {node.op_type}"
    if (result.shape[1:], result.dtype) != (layer.shape[1:], layer.dtype):
        message = f"{operation.text} gives {result.shape_text} where {operation.layer!r} is {layer.shape_text}"
        raise ShapeMismatchError(message, got=result.shape_text, expected=layer.shape_text)
    handed_on = onnx.helper.make_node("Identity", [result.name], [operation.layer], name=node.name)
    replacement = [*kept, *builder.nodes, handed_on, *proto.node[index + 1 :]]
    del proto.node[:]
    proto.node.extend(replacement)
    proto.initializer.extend(builder.initializers)
    return done


def _like(node: onnx.NodeProto, block: Block) -> BoundBlock:
    """The block, with kernel, stride, dilation and padding of the pool that it replaces where it says none itself."""
    spec = blocks.get(block.name)
    known = {parameter.name for parameter in spec.parameters}
    inherited: dict[str, Value] = {
        _POOLS[attribute.name]: tuple(attribute.ints)
        for attribute in node.attribute
        if attribute.name in _POOLS and _POOLS[attribute.name] in known
    }
    if "stride" in known and "kernel" in inherited and "stride" not in inherited:
        inherited["stride"] = 1  # ONNX's default; ours is the kernel
    if "ceil" in known:
        inherited["ceil"] = any(attribute.name == "ceil_mode" and attribute.i == 1 for attribute in node.attribute)
    return spec.bind(Block(block.name, {**inherited, **block.parameters}))
