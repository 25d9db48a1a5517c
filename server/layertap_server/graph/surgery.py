"""Replacement and insertion of blocks in a model when it is loaded.

The result of a replaced or inserted block gets the name of the layer, so that selectors, stages and the nodes that read
the layer need no change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from layertap import blocks
from layertap.blocks import BoundBlock
from layertap.errors import BadParameterError, ShapeMismatchError
from layertap.types import Block, Value
from layertap_server.blocks import BLOCK, INNER, Builder, emit_head
from layertap_server.graph.model_graph import ModelGraph
from layertap_server.graph.module_path import copy_scopes, path_of
from layertap_server.graph.tapped import emit_batch_at, emit_batch_first
from layertap_server.graph.walk import metadata_of
from layertap_server.tensor import Tensor

_POOLS = {
    "kernel_shape": "kernel",
    "strides": "stride",
    "dilations": "dilation",
    "pads": "padding",
}
"""Parameters of pooling blocks by attribute of ONNX's pooling operators."""
_AUTO_PADS = {b"SAME_UPPER": "same", b"SAME_LOWER": "same_lower", b"VALID": "valid"}
"""Values of the parameter ``padding`` by value of ONNX's attribute ``auto_pad``."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One change of a model: a head that replaces the node that computes a layer, or is inserted after it."""

    layer: str
    """Name of the layer."""
    head: tuple[Block, ...]
    """Blocks of the head."""
    replaces: bool
    """Whether the head replaces the node; otherwise it is inserted after it."""
    text: str
    """The head as text, for the report."""


def operate(
    graph: ModelGraph, operations: Sequence[Operation], first_number: int
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Apply changes to a copy of a model.

    Args:
        graph: The model.
        operations: The changes, each at a different layer.
        first_number: Number of the first change. Names of emitted nodes contain it, so it must be new for the model.

    Returns:
        The changed model, and a line of text for each change.

    Raises:
        ShapeMismatchError: A head cannot be applied, or would change the layer's shape or dtype.
        BadParameterError: A parameter of a block is not valid.
        UnknownBlockError: A block does not exist.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    report = [
        _operate(graph, proto.graph, operation, number) for number, operation in enumerate(operations, first_number)
    ]
    return proto, tuple(report)


def _operate(graph: ModelGraph, proto: onnx.GraphProto, operation: Operation, number: int) -> str:
    """Apply one change to ``proto`` and return the line that reports it."""
    index = next(index for index, node in enumerate(proto.node) if operation.layer in node.output)
    node, layer = proto.node[index], graph.tapped(operation.layer)
    made_of = metadata_of(node, BLOCK)
    if operation.replaces and made_of:
        message = (
            f"{operation.layer!r} is a {made_of} of several nodes; change the block in the layers of model.yaml instead"
        )
        raise ShapeMismatchError(message, layer=operation.layer)
    builder = Builder(graph.opset, prefix=f"layertap/surgery/{number}")
    if operation.replaces:
        head = tuple(_per_image(_like(node, block)) for block in operation.head)
        data = _data(graph, node, operation.layer)
        axis = graph.batch_axes.get(data.name, 0)
        result = emit_head(builder, emit_batch_first(builder, data, axis), head)
        kept = list(proto.node[:index])
        done = f"{operation.layer}: {_operator(graph, node, operation.layer)} became {operation.text}"
    else:
        before = builder.fresh("before")
        renamed = onnx.NodeProto()
        renamed.CopyFrom(node)
        renamed.name = before
        renamed.metadata_props.add(key=INNER, value=node.name)
        renamed.output[:] = [before if name == operation.layer else name for name in node.output]
        axis = graph.batch_axes.get(operation.layer, 0)
        source = emit_batch_first(builder, Tensor(before, layer.dtype, layer.shape, layer.layout), axis)
        result = emit_head(builder, source, tuple(_per_image(blocks.bind(block)) for block in operation.head))
        kept = [*proto.node[:index], renamed]
        done = f"{operation.layer}: {operation.text} inserted after {_operator(graph, node, operation.layer)}"
    if result.quantization is not None:
        raise BadParameterError(
            "quantize must be the last block of a head; it cannot be used inside a model", block="quantize"
        )
    if not _same_type(result, layer):
        message = (
            f"{operation.text} results in {result.shape_text}, but layer {operation.layer!r} has {layer.shape_text}"
        )
        raise ShapeMismatchError(message, got=result.shape_text, expected=layer.shape_text)
    result = emit_batch_at(builder, result, axis)
    node_name = node.name or operation.layer
    builder.name_result(0, result, operation.layer, node=node_name, block=operation.head[-1].name, path=path_of(node))
    copy_scopes(node, next(made for made in builder.nodes if operation.layer in made.output))
    replacement = [*kept, *builder.nodes, *proto.node[index + 1 :]]
    del proto.node[:]
    proto.node.extend(replacement)
    proto.initializer.extend(builder.initializers)
    return done


def _operator(graph: ModelGraph, node: onnx.NodeProto, layer: str) -> str:
    """Return the name of the activation of several nodes that computes a layer, or the node's operator."""
    activation = graph.activations.get(layer)
    return activation.name if activation is not None and activation.is_composite else node.op_type


def _same_type(result: Tensor, layer: Tensor) -> bool:
    """Return whether two tensors have the same rank, dtype and sizes; a symbolic size equals any size."""
    known = [
        (here, there)
        for here, there in zip(result.shape[1:], layer.shape[1:], strict=False)
        if isinstance(here, int) and isinstance(there, int)
    ]
    same_rank = (result.rank, result.dtype) == (layer.rank, layer.dtype)
    return same_rank and all(here == there for here, there in known)


def _data(graph: ModelGraph, node: onnx.NodeProto, layer: str) -> Tensor:
    """Return the tensor that an activation is applied to, or the only input of a node that is not a weight.

    Raises:
        ShapeMismatchError: The node has several such inputs, or several outputs.
    """
    activation = graph.activations.get(layer)
    if activation is not None and activation.source in graph.types:
        return graph.tapped(activation.source)
    inputs = [name for name in node.input if name in graph.types and name not in graph.weights]
    if len(inputs) != 1 or sum(map(bool, node.output)) > 1:
        message = (
            f"{node.op_type} computes {layer!r} from {len(inputs)} layers; a block can only replace a node with one"
        )
        raise ShapeMismatchError(message, layer=layer, got=", ".join(inputs))
    return graph.tapped(inputs[0])


def _per_image(block: BoundBlock) -> BoundBlock:
    """Return the block if it computes each image alone, since a batch can hold images of several requests.

    Raises:
        BadParameterError: The block combines the images of a request.
    """
    if blocks.get(block.name).looks_across_images(block):
        message = f"{block.name} combines the images of a request; it can be used in a head, not inside a model"
        raise BadParameterError(message, block=block.name)
    return block


def _like(node: onnx.NodeProto, block: Block) -> BoundBlock:
    """Bind a block. Its missing kernel, stride, dilation and padding are those of the pool that it replaces."""
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
