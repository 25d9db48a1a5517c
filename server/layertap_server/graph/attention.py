"""Detection of attention: the softmax of a product of queries and keys, which weights values.

The probabilities are the result of a Softmax whose input comes from a product of two computed tensors (queries and
keys), by way of scales, biases and masks, and whose result enters another product of two computed tensors (the values).
Operators that compute the whole attention in one node have no tensor of probabilities.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import onnx

from layertap_server.graph.walk import reads

PRODUCTS = frozenset({"MatMul", "Einsum"})
"""Operators that multiply two tensors as matrices."""
STORAGE = frozenset({"Identity", "Cast", "Dropout", "Reshape", "QuantizeLinear", "DequantizeLinear"})
"""Operators between a product and the softmax that do not change values."""
SCORING = STORAGE | {"Add", "Sub", "Mul", "Div", "Where", "Max", "Clip", "Neg", "Transpose"}
"""Operators between the product of queries and keys and the softmax."""
WEIGHTING = STORAGE | {"Mul", "Where", "Transpose"}
"""Operators between the softmax and the product with the values."""
MOST_STEPS = 12
"""Maximum number of nodes between the softmax and a product."""


def attentions_of(graph: onnx.GraphProto, fed: Collection[str]) -> Mapping[str, int]:
    """Return the number, from 1 and in execution order, of each tensor that holds attention probabilities.

    Args:
        graph: The graph, its nodes in execution order.
        fed: Names of the tensors that depend on the graph's inputs.
    """
    producers = {name: node for node in graph.node for name in node.output if name}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in reads(node):
            readers.setdefault(name, []).append(node)
    found = [
        node.output[0]
        for node in graph.node
        if node.op_type == "Softmax"
        and any(_is_product(one, fed) for one in _before(node, producers))
        and any(_is_product(one, fed) for one in _after(node, readers))
    ]
    return {name: number for number, name in enumerate(found, 1)}


def _is_product(node: onnx.NodeProto, fed: Collection[str]) -> bool:
    """Return whether a node multiplies two tensors that both depend on the graph's inputs."""
    return node.op_type in PRODUCTS and sum(name in fed for name in node.input) > 1


def _before(node: onnx.NodeProto, producers: Mapping[str, onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Yield the nodes before a softmax, as far as operators of `SCORING` lead."""
    near = [node]
    for _ in range(MOST_STEPS):
        near = [producers[name] for one in near for name in one.input if name in producers]
        yield from near
        near = [one for one in near if one.op_type in SCORING]


def _after(node: onnx.NodeProto, readers: Mapping[str, Sequence[onnx.NodeProto]]) -> Iterator[onnx.NodeProto]:
    """Yield the nodes after a softmax, as far as operators of `WEIGHTING` lead."""
    near = [node]
    for _ in range(MOST_STEPS):
        near = [reader for one in near for name in one.output for reader in readers.get(name, ())]
        yield from near
        near = [one for one in near if one.op_type in WEIGHTING]
