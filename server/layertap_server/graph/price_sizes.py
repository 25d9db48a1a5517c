"""Sizes of the tensors of one image, with bounds where they are known only at run time, for the prices of nodes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import onnx
from onnx import helper
from onnx.numpy_helper import to_array

from layertap_server.graph.batch_axis.facts import Fact
from layertap_server.graph.model_graph import ModelGraph
from layertap_server.tensor import Dim

PARTLY_UNKNOWN = 2**20
"""Assumed number of values per image of a tensor with sizes that are known only at run time, such as of tokens."""
WHOLLY_UNKNOWN = 2**24
"""Assumed number of values per image of a tensor whose sizes are all known only at run time."""
UNKNOWN_SIDE = 4096
"""Maximum assumed size of an axis, and assumed number of iterations of a Loop, that is known only at run time."""


class Sizes:
    """Numbers of values of a graph's tensors, and sizes of their axes, for one image."""

    def __init__(self, graph: ModelGraph, facts: Mapping[str, Fact], inside: Mapping[str, int] | None = None) -> None:
        """Read the sizes from a graph.

        Args:
            graph: The graph.
            facts: Facts about the batch axis of the graph's tensors, by name.
            inside: In a body, the number of values of each tensor that the body computes, by name.
        """
        self._graph = graph
        self._facts = facts
        self._inside = inside or {}
        self._constants = {one.output[0]: one for one in graph.proto.graph.node if one.op_type == "Constant"}
        image = graph.types[graph.main_input.name].shape
        self._is_sized = all(isinstance(size, int) for size in image[1:])
        self._batch = image[0]

    def inside(self, body: onnx.GraphProto, values: int) -> Sizes:
        """Return the sizes inside a body, where each tensor is assumed to have ``values`` values."""
        made = [*(name for node in body.node for name in node.output), *(value.name for value in body.input)]
        return Sizes(self._graph, self._facts, {**self._inside, **dict.fromkeys(made, values)})

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of the part of a tensor that belongs to one image.

        An unknown size is replaced by a bound, or by 1 if the height or width of the image is not known.
        """
        if name in self._inside:
            return (self._inside[name],)
        if name in self._graph.weights:
            return tuple(self._graph.weights[name].dims)
        tensor, fact = self._graph.types.get(name), self._facts.get(name)
        if tensor is None:
            return (self._bound((), 2),) * 2
        known: list[Dim | None] = [1 if size == self._batch else size for size in tensor.shape]
        if fact is not None and fact.axis is not None and fact.axis.index < len(known):
            known[fact.axis.index] = fact.axis.multiple
        sizes = [size for size in known if isinstance(size, int)]
        bound = self._bound(sizes, len(known) - len(sizes))
        return tuple(size if isinstance(size, int) else bound for size in known)

    def _bound(self, sizes: Sequence[int], unknown: int) -> int:
        """Return the size assumed for each of ``unknown`` unknown sizes of a tensor that has the known ``sizes``."""
        if not (self._is_sized and unknown):
            return 1
        known = max(math.prod(sizes), 1)
        room = WHOLLY_UNKNOWN if known == 1 else PARTLY_UNKNOWN / known
        return min(max(math.ceil(math.pow(room, 1 / unknown)), 1), UNKNOWN_SIDE)

    def values(self, name: str) -> int:
        """Return the number of values of a tensor that belong to one image."""
        return math.prod(self.shape(name))

    def dtype(self, name: str) -> str:
        """Return the element type, ``object`` for text; an empty text if it is not known."""
        tensor = self._graph.types.get(name)
        return tensor.dtype if tensor is not None else ""

    def constant(self, name: str) -> int | None:
        """Return the single number that a constant holds; None for any other tensor."""
        if name in self._constants:
            given = helper.get_attribute_value(self._constants[name].attribute[0])
            return given if isinstance(given, int) else _number(given) if isinstance(given, onnx.TensorProto) else None
        weight = self._graph.weights.get(name)
        return None if weight is None else _number(weight)


def _number(tensor: onnx.TensorProto) -> int | None:
    """Return the tensor's single number; None if it holds more than one or its data is in another file."""
    is_here = tensor.data_location != onnx.TensorProto.EXTERNAL
    return int(to_array(tensor).reshape(-1)[0]) if is_here and math.prod(tensor.dims) == 1 else None
