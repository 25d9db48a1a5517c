"""A node of the graph with the facts about its inputs, as the rules use it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import onnx
from onnx import numpy_helper

from layertap.types import Array
from layertap_server.graph.batch_axis.facts import Axis, Fact, Mixing, Verdict
from layertap_server.graph.model_graph import ModelGraph
from layertap_server.graph.walk import attribute_of, reads

LARGEST_READ = 4096
"""Maximum number of values of a constant that the rules read; shapes, axes and indices are small."""


class Known:
    """A graph with the facts that the walk has established so far."""

    def __init__(self, graph: ModelGraph) -> None:
        """Start without facts."""
        self.opset = graph.opset
        self.functions = {
            ("" if function.domain in {"", "ai.onnx"} else function.domain, function.name)
            for function in graph.proto.functions
        }
        self.facts: dict[str, Fact] = {}
        self._types = graph.types
        self._weights = graph.weights
        size = graph.types[graph.main_input.name].shape[0]
        self.symbol = size if isinstance(size, str) else None
        """Symbol of the number of images in shapes; None if the model fixes the number."""

    def shape(self, name: str) -> tuple[int | str, ...] | None:
        """Return the shape of a tensor by name; None if it is not known."""
        if name in self._weights:
            return tuple(self._weights[name].dims)
        tensor = self._types.get(name)
        return None if tensor is None else tensor.shape

    def constant(self, name: str) -> Array | None:
        """Return the value of a constant of at most ``LARGEST_READ`` values in the model file; None for any other."""
        weight = self._weights.get(name)
        if weight is None or weight.data_location == onnx.TensorProto.EXTERNAL:
            return None
        return numpy_helper.to_array(weight) if math.prod(weight.dims) <= LARGEST_READ else None


class Node:
    """One node with the facts about its inputs."""

    def __init__(self, known: Known, proto: onnx.NodeProto) -> None:
        """Look up the facts about the inputs of a node."""
        self.known = known
        self.proto = proto
        self.op = proto.op_type
        facts = [known.facts.get(name) if name else None for name in proto.input]
        self.facts = [None if fact is not None and fact.of_run else fact for fact in facts]
        """Fact about each input; None for a constant, and for one value of the whole batch, which all images share."""
        names = dict.fromkeys(reads(proto))
        self.fed = [known.facts[name] for name in names if name in known.facts]
        """Facts about the tensors that the node and its bodies read, as far as they depend on the images."""

    @property
    def key(self) -> tuple[str, str]:
        """Domain (empty for ONNX's own) and operator, the key of the rules."""
        domain = "" if self.proto.domain in {"", "ai.onnx"} else self.proto.domain
        return domain, self.op

    @property
    def has_bodies(self) -> bool:
        """Whether the node has bodies (If, Loop, Scan)."""
        return any(attribute.HasField("g") or attribute.graphs for attribute in self.proto.attribute)

    @property
    def is_of_sizes(self) -> bool:
        """Whether all inputs that depend on the images are lists of sizes."""
        return all(fact.sizes is not None for fact in self.fed)

    @property
    def is_random(self) -> bool:
        """Whether the node, or a node in one of its bodies, draws at random."""
        return draws_at_random(self.proto) or (self.op == "Dropout" and self._may_train)

    @property
    def _may_train(self) -> bool:
        """Whether input 2, the ``training_mode`` of a Dropout, is true or not known."""
        mode = self.constant(2)
        return bool(self.name(2)) and (mode is None or bool(mode.any()))

    @property
    def is_function(self) -> bool:
        """Whether the model defines the operator as a function, perhaps under the name of an operator of ONNX."""
        return self.key in self.known.functions

    @property
    def is_of_values(self) -> bool:
        """Whether an input after the first is computed from the values of the images, not from their sizes."""
        return any(fact is not None and fact.sizes is None for fact in self.facts[1:])

    @property
    def title(self) -> str:
        """Operator and name of the node, for messages."""
        return f"{self.op} {self.proto.name or self.proto.output[0]}"

    @property
    def doubt(self) -> Verdict:
        """Verdict that the graph does not determine whether the node keeps images independent."""
        return Verdict(Mixing.UNKNOWN, f"the graph does not determine whether {self.title} keeps images independent")

    @property
    def pinned(self) -> Verdict:
        """Verdict that the node accepts only one image."""
        return Verdict(Mixing.ONE, f"{self.title} accepts only one image")

    @property
    def axis(self) -> Axis | None:
        """Batch axis of the first input that has one; None if none has."""
        return next((fact.axis for fact in self.facts if fact is not None and fact.axis), None)

    def unsure(self, fact: Fact | None = None) -> Fact:
        """Return a fact with the verdict ``doubt`` added."""
        return (fact or Fact()).worse(self.doubt)

    def mixes(self, how: str, fact: Fact | None = None) -> Fact:
        """Return a fact with the verdict that the node combines images; ``how`` is the predicate of the message."""
        return (fact or Fact()).worse(Verdict(Mixing.REQUEST, f"{self.title} {how}"))

    def along(self, fact: Fact | None = None) -> Fact:
        """Return a fact with the verdict that the node computes along the batch axis."""
        return self.mixes("computes along the batch axis", fact)

    def attribute(self, name: str, default: Any) -> Any:
        """Return an attribute of the node, or the default if the node does not have it."""
        return attribute_of(self.proto, name, default)

    def name(self, index: int) -> str:
        """Return the name of an input; an empty text if it is absent."""
        return self.proto.input[index] if index < len(self.proto.input) else ""

    def fact(self, index: int) -> Fact | None:
        """Return the fact about an input, as in ``facts``; None if the input is absent."""
        return self.facts[index] if index < len(self.facts) else None

    def shape(self, index: int) -> tuple[int | str, ...] | None:
        """Return the shape of an input; None if it is absent or not known."""
        return self.known.shape(self.name(index)) if self.name(index) else None

    @property
    def output_shape(self) -> tuple[int | str, ...] | None:
        """Shape of the first output; None if it is not known."""
        return self.known.shape(self.proto.output[0])

    def rank(self, index: int) -> int | None:
        """Return the number of axes of an input; None if it is absent or not known."""
        shape = self.shape(index)
        return None if shape is None else len(shape)

    def constant(self, index: int) -> Array | None:
        """Return the value of an input that is a small constant; None for any other input."""
        return self.known.constant(self.name(index)) if self.name(index) else None

    def integers(self, index: int, attribute: str) -> list[int] | None:
        """Return integers that are an attribute in one opset and an input in another; None if absent or not known."""
        given = self.attribute(attribute, None)
        if given is not None:
            return list(given)
        value = self.constant(index)
        return None if value is None else [int(item) for item in value.reshape(-1)]

    def along_axis(self, axis: int, index: int = 0) -> int | None:
        """Return an axis of an input counted from 0; None if the input has no such axis."""
        rank = self.rank(index)
        if rank is None:
            return axis if axis >= 0 else None
        return axis % rank if -rank <= axis < rank else None


RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}
"""Operators that draw random numbers."""


def draws_at_random(proto: onnx.NodeProto) -> bool:
    """Return whether a node, or a node in its bodies, is an operator that draws at random."""
    bodies = (body for attribute in proto.attribute for body in (attribute.g, *attribute.graphs))
    return proto.op_type in RANDOM or any(draws_at_random(node) for body in bodies for node in body.node)


def product(sizes: Sequence[int | str]) -> int | None:
    """Return the product of sizes; None if one is symbolic."""
    known = [size for size in sizes if isinstance(size, int)]
    return math.prod(known) if len(known) == len(sizes) else None


Rule: TypeAlias = Callable[[Node], Fact | list[Fact]]
"""Function that returns the fact about all outputs of a node, or one fact for each output."""
