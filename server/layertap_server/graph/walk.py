"""Graph traversal: what a node reads, which tensors depend on others, and which nodes a tensor needs."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import onnx
from onnx import helper


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names of the tensors that a node reads, including those that its bodies (If, Loop, Scan) capture."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs):
            own = {name for inner in body.node for name in inner.output} | {value.name for value in body.input}
            for inner in body.node:
                yield from (name for name in reads(inner) if name not in own)
            yield from (value.name for value in body.output if value.name not in own)


def metadata_of(node: onnx.NodeProto, key: str) -> str:
    """Return the value of a key of a node's metadata, or "" if the node does not have it."""
    return next((entry.value for entry in node.metadata_props if entry.key == key), "")


def attribute_of(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Return an attribute of a node, with bytes decoded to text, or the default if the node does not have it."""
    value = next((helper.get_attribute_value(item) for item in node.attribute if item.name == name), default)
    return value.decode() if isinstance(value, bytes) else value


def depends_on(graph: onnx.GraphProto, sources: Collection[str]) -> frozenset[str]:
    """Return every tensor that depends on one of ``sources``, including the sources.

    The nodes of the graph must be in execution order.
    """
    changed = set(sources)
    for node in graph.node:
        if any(name in changed for name in reads(node)):
            changed.update(name for name in node.output if name)
    return frozenset(changed)


def needed_nodes(
    graph: onnx.GraphProto, targets: Collection[str], given: Collection[str] = ()
) -> tuple[list[onnx.NodeProto], frozenset[str]]:
    """Return the nodes that are needed to compute the targets, in execution order.

    Args:
        graph: the graph.
        targets: names of the tensors to compute.
        given: names of tensors whose values are known, so that nothing is needed to compute them.

    Returns:
        The nodes, and the names of the targets and of all tensors that the nodes read, without the given ones.
    """
    needed = set(targets).difference(given)
    kept = []
    for node in reversed(graph.node):
        if any(name in needed for name in node.output):
            kept.append(node)
            needed.update(name for name in reads(node) if name not in given)
    return kept[::-1], frozenset(needed)


def written_types(graph: onnx.GraphProto) -> Iterator[onnx.TypeProto.Tensor]:
    """Yield the tensor types that a graph and its bodies declare, including those inside sequences.

    The types of the graph's own inputs are left out.
    """
    for value in (*graph.value_info, *graph.output):
        type_ = value.type
        while type_.WhichOneof("value") in {"sequence_type", "optional_type"}:
            type_ = getattr(type_, type_.WhichOneof("value")).elem_type
        if type_.HasField("tensor_type"):
            yield type_.tensor_type
    for node in graph.node:
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from (value.type.tensor_type for value in body.input if value.type.HasField("tensor_type"))
                yield from written_types(body)


def tensors_of(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield every constant of a graph and its bodies: initializers and tensor attributes of nodes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for body in (attribute.g, *attribute.graphs):
                yield from tensors_of(body)


def bodies(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names of the tensors computed inside the bodies of a node (If, Loop, Scan), nested bodies included."""
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs):
            for inner in body.node:
                yield from bodies(inner)
                yield from (name for name in inner.output if name)
