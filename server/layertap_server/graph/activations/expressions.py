"""Elementwise sub-graphs of one input, and their values."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
from onnx import numpy_helper

from layertap.types import Array
from layertap_server.graph.activations.operators import DOMAINS, FIRST_ONLY, OPERATORS, SHAPED
from layertap_server.graph.walk import attribute_of, depends_on, reads

MOST_NODES = 24
"""Maximum number of nodes of a sub-graph; the longest known activation has 14."""
MOST_VALUES = 256
"""Maximum number of values of a constant that is read to see whether they are all equal."""
SAMPLES = 3
"""Number of values that stand for a constant of several values, such as the slope of each channel."""
NOTHING = np.empty(0)
"""Value of an optional input that is absent."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A tensor as a function of one other tensor."""

    source: str
    """Name of the tensor that it is a function of."""
    nodes: tuple[onnx.NodeProto, ...]
    """The nodes between the two, in execution order."""


class Expressions:
    """Index of a graph's nodes, to find and evaluate elementwise expressions."""

    def __init__(self, proto: onnx.ModelProto, inputs: Sequence[str]) -> None:
        """Index a model whose nodes are in execution order. ``inputs`` are the names of its inputs."""
        graph = proto.graph
        self._order = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
        self._nodes = graph.node
        self._fed = depends_on(graph, inputs)
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._functions = {(function.domain, function.name): function for function in proto.functions}
        self._constants: dict[str, Array | None] = {}

    @cached_property
    def readers(self) -> Mapping[str, Sequence[onnx.NodeProto]]:
        """Nodes that read each tensor."""
        readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self._nodes:
            for name in reads(node):
                readers.setdefault(name, []).append(node)
        return readers

    def producer(self, name: str) -> onnx.NodeProto | None:
        """Return the node that computes a tensor; None for inputs and initializers."""
        return self._nodes[self._order[name]] if name in self._order else None

    def is_elementwise(self, node: onnx.NodeProto) -> bool:
        """Return whether a node computes each value of its result from one value of each input."""
        known = node.op_type in OPERATORS and node.domain in DOMAINS
        return known or (node.domain, node.op_type) in self._functions

    def expressions(self, name: str) -> Iterator[Expression]:
        """Yield the tensor as a function of each single tensor that it depends on elementwise, the nearest first."""
        nodes: list[onnx.NodeProto] = []
        open_names = {name}
        while len(nodes) < MOST_NODES:
            latest = max(open_names, key=self._position)
            node = self.producer(latest)
            if node is None or not self.is_elementwise(node) or latest != node.output[0]:
                return
            nodes.append(node)
            open_names = (open_names - {latest}) | {one for one in _inputs(node) if one in self._fed}
            if len(open_names) == 1:
                yield Expression(next(iter(open_names)), tuple(nodes[::-1]))
            if not open_names:
                return

    def _position(self, name: str) -> int:
        """Return the position of the node that computes a tensor; -1 for inputs."""
        return self._order.get(name, -1)

    def values(self, expression: Expression, at: Array) -> Mapping[str, Array] | None:
        """Return the values of every tensor of an expression for the values ``at`` of its source.

        Returns:
            Values by name, with one row for each of `SAMPLES` if a constant has several values; None if a node or a
            constant cannot be evaluated, or if a result is not finite.
        """
        known = {expression.source: at}
        with np.errstate(all="ignore"):
            for node in expression.nodes:
                value = self._evaluate(node, [self._value(name, known) for name in _inputs(node)])
                if value is None or not np.isfinite(value).all():
                    return None
                known[node.output[0]] = value
        return known

    def _value(self, name: str, known: Mapping[str, Array]) -> Array | None:
        """Return the value of a node's input: one that is known, a constant, or `NOTHING`; None if not known."""
        if not name:
            return NOTHING
        return known[name] if name in known else self.constant(name)

    def _evaluate(self, node: onnx.NodeProto, given: Sequence[Array | None]) -> Array | None:
        """Return the result of an elementwise node; None if it cannot be evaluated."""
        values = [value for value in given if value is not None]
        if len(values) < len(given):
            return None
        function = self._functions.get((node.domain, node.op_type))
        if function is not None:
            return self._call(function, values)
        if node.op_type not in OPERATORS or node.domain not in DOMAINS:
            return None
        try:
            return OPERATORS[node.op_type](node, values)
        except (ValueError, TypeError, IndexError):  # constants whose shapes do not fit the samples
            return None

    def _call(self, function: onnx.FunctionProto, values: Sequence[Array]) -> Array | None:
        """Return the result of a function of the model that consists of elementwise nodes and constants."""
        known = dict(zip(function.input, values, strict=False))
        for node in function.node:
            if any(attribute.ref_attr_name for attribute in node.attribute):
                return None
            value = _constant_node(node) if node.op_type == "Constant" else None
            if value is None:
                value = self._evaluate(node, [known.get(name, NOTHING) if name else NOTHING for name in _inputs(node)])
            if value is None:
                return None
            known[node.output[0]] = value
        return known.get(function.output[0]) if len(function.output) == 1 else None

    def constant(self, name: str) -> Array | None:
        """Return a constant: a number if all its values are equal, else `SAMPLES` rows; None if it is not known."""
        if name not in self._constants:
            self._constants[name] = None  # ends the recursion if the graph has a cycle
            self._constants[name] = self._constant(name)
        return self._constants[name]

    def _constant(self, name: str) -> Array | None:
        """Return a constant that is an initializer or computed from initializers."""
        if name in self._weights:
            return _weight(self._weights[name])
        node = self.producer(name)
        if node is None or name in self._fed:
            return None
        if node.op_type in SHAPED:
            return self.constant(node.input[0])
        return self._evaluate(node, [self.constant(one) if one else NOTHING for one in _inputs(node)])


def _inputs(node: onnx.NodeProto) -> Sequence[str]:
    """Return the inputs of a node that its result depends on."""
    return node.input[:1] if node.op_type in FIRST_ONLY else node.input


def _weight(tensor: onnx.TensorProto) -> Array | None:
    """Return an initializer as `Expressions.constant` does, without reading large ones."""
    if tensor.data_type in {onnx.TensorProto.STRING, onnx.TensorProto.UNDEFINED}:
        return None
    count = int(np.prod(tensor.dims, dtype=np.int64))
    if count <= MOST_VALUES and tensor.data_location != onnx.TensorProto.EXTERNAL:
        values = np.asarray(numpy_helper.to_array(tensor), np.float64).ravel()
        if values.size and (values == values[0]).all():
            return np.asarray(values[0])
    # What holds for these values holds for any others, since no formula fits them by chance.
    generator = np.random.default_rng(zlib.crc32(tensor.name.encode()))
    return np.asarray(generator.uniform(0.05, 0.95, (SAMPLES, 1)))


def _constant_node(node: onnx.NodeProto) -> Array | None:
    """Return the value of a Constant node that holds a number; None for any other."""
    tensor = attribute_of(node, "value", None)
    if isinstance(tensor, onnx.TensorProto):
        return _weight(tensor)
    number = attribute_of(node, "value_float", attribute_of(node, "value_int", None))
    return None if number is None else np.asarray(float(number))
