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
from layertap.errors import BadParameterError, ShapeMismatchError
from layertap.types import Block, Value
from layertap_server.blocks import BLOCK, INNER, Builder, Tensor, emit_head
from layertap_server.graph.model_graph import ModelGraph
from layertap_server.graph.module_path import path_of
from layertap_server.graph.walk import told

_POOLS = {
    "kernel_shape": "kernel",
    "strides": "stride",
    "dilations": "dilation",
    "pads": "padding",
}
"""Attributes of ONNX's pools -> parameters of ours."""
_AUTO_PADS = {b"SAME_UPPER": "same", b"SAME_LOWER": "same_lower", b"VALID": "valid"}


@dataclass(frozen=True, slots=True)
class Operation:
    """One change: the head takes the place of what makes the layer, or comes behind it."""

    layer: str
    head: tuple[Block, ...]
    replaces: bool
    text: str
    """The head as it was written, for the report."""


def operate(
    graph: ModelGraph, operations: Sequence[Operation], first_number: int
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The changed model, and a line for each change.

    ``first_number`` counts the changes that the model has behind it: the names of what is emitted hold the number.

    Raises:
        ShapeMismatchError: a head does not fit, or would change the layer's shape or dtype.
        BadParameterError, UnknownBlockError: what is wrong with a block.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    report = [
        _operate(graph, proto.graph, operation, number) for number, operation in enumerate(operations, first_number)
    ]
    return proto, tuple(report)


def _operate(graph: ModelGraph, proto: onnx.GraphProto, operation: Operation, number: int) -> str:
    index = next(index for index, node in enumerate(proto.node) if operation.layer in node.output)
    node, layer = proto.node[index], graph.types[operation.layer]
    made_of = told(node, BLOCK)
    if operation.replaces and made_of:
        message = f"{operation.layer!r} is a {made_of} of several nodes; write another block where model.yaml makes it"
        raise ShapeMismatchError(message, layer=operation.layer)
    builder = Builder(graph.opset, prefix=f"layertap/surgery/{number}")
    if operation.replaces:
        head = tuple(_alone(_like(node, block)) for block in operation.head)
        result = emit_head(builder, _data(graph, node, operation.layer), head)
        kept = list(proto.node[:index])
        done = f"{operation.layer}: {node.op_type} became {operation.text}"
    else:
        before = builder.fresh("before")
        renamed = onnx.NodeProto()
        renamed.CopyFrom(node)
        renamed.name = before
        renamed.metadata_props.add(key=INNER, value=node.name)
        renamed.output[:] = [before if name == operation.layer else name for name in node.output]
        source = Tensor(before, layer.dtype, layer.shape, layer.layout)
        result = emit_head(builder, source, tuple(_alone(blocks.bind(block)) for block in operation.head))
        kept = [*proto.node[:index], renamed]
        done = f"{operation.layer}: {operation.text} inserted behind {node.op_type}"
    if result.quantization is not None:
        raise BadParameterError("quantize ends a head; it has no place inside a model", block="quantize")
    if not _same_type(result, layer):
        message = f"{operation.text} gives {result.shape_text} where {operation.layer!r} is {layer.shape_text}"
        raise ShapeMismatchError(message, got=result.shape_text, expected=layer.shape_text)
    node_name = node.name or operation.layer
    builder.name_result(0, result, operation.layer, node=node_name, block=operation.head[-1].name, path=path_of(node))
    replacement = [*kept, *builder.nodes, *proto.node[index + 1 :]]
    del proto.node[:]
    proto.node.extend(replacement)
    proto.initializer.extend(builder.initializers)
    return done


def _same_type(result: Tensor, layer: Tensor) -> bool:
    """Whether one can stand for the other, as far as the sizes are known."""
    known = [
        (here, there)
        for here, there in zip(result.shape[1:], layer.shape[1:], strict=False)
        if isinstance(here, int) and isinstance(there, int)
    ]
    same_rank = (result.rank, result.dtype) == (layer.rank, layer.dtype)
    return same_rank and all(here == there for here, there in known)


def _data(graph: ModelGraph, node: onnx.NodeProto, layer: str) -> Tensor:
    """The one tensor that the node computes from; its weights do not count.

    Raises:
        ShapeMismatchError: it joins several, or gives several.
    """
    inputs = [name for name in node.input if name in graph.types and name not in graph.weights]
    if len(inputs) != 1 or sum(map(bool, node.output)) > 1:
        message = f"{node.op_type} makes {layer!r} of {len(inputs)} layers; a block takes the place of one that has one"
        raise ShapeMismatchError(message, layer=layer, got=", ".join(inputs))
    return graph.types[inputs[0]]


def _alone(block: BoundBlock) -> BoundBlock:
    """The block, which must not look across images: inside a model it cannot know which belong to one request."""
    if blocks.get(block.name).looks_across_images(block):
        message = f"{block.name} looks across the images of a request; that works in a head, not inside a model"
        raise BadParameterError(message, block=block.name)
    return block


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
    for attribute in node.attribute:
        if attribute.name == "auto_pad" and "padding" in known and attribute.s in _AUTO_PADS:
            inherited["padding"] = _AUTO_PADS[attribute.s]
    if "ceil" in known:
        inherited["ceil"] = any(attribute.name == "ceil_mode" and attribute.i == 1 for attribute in node.attribute)
    return spec.bind(Block(block.name, {**inherited, **block.parameters}))
