"""Price of the model's own nodes for one image, in the operations of ``blocks.operations``."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import TypeAlias

import onnx

from layertap_server.blocks.operations import (
    ELEMENT,
    POWER,
    RESIZE,
    SAMPLE,
    SOFTMAX,
    VECTOR,
    multiply,
    sorting,
    window,
)
from layertap_server.graph.batch_axis import facts_of
from layertap_server.graph.model_graph import ModelGraph
from layertap_server.graph.walk import attribute_of, needed_nodes

_FREE = frozenset({"Constant", "Shape", "Size", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"})
"""Operators that copy no data, or little."""
BODY = 16
"""Assumed number of iterations of a Loop or Scan."""


class _Sizes:
    """Sizes of a graph's tensors for one image."""

    def __init__(self, graph: ModelGraph) -> None:
        """Follow the batch axis through the graph, to know its share of each tensor."""
        self._graph = graph
        self._facts = facts_of(graph)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of the part of a tensor that belongs to one image, with 1 for sizes that are not known."""
        if name in self._graph.weights:
            return tuple(self._graph.weights[name].dims)
        tensor, fact = self._graph.types.get(name), self._facts.get(name)
        sizes = [size if isinstance(size, int) else 1 for size in tensor.shape] if tensor else []
        if fact is not None and fact.axis is not None and fact.axis.index < len(sizes):
            sizes[fact.axis.index] = fact.axis.multiple
        return tuple(sizes)

    def values(self, name: str) -> int:
        """Return the number of values of a tensor that belong to one image."""
        return math.prod(self.shape(name))


Price: TypeAlias = Callable[[onnx.NodeProto, _Sizes], int]
"""Rule that computes the price of a node for one image."""


def prices_of(graph: ModelGraph) -> Mapping[str, int]:
    """Return the operations of each node for one image, by the name of its first output that has a name."""
    sizes = _Sizes(graph)
    return {_key(node): _price(node, sizes) for node in graph.proto.graph.node}


def price_of(graph: ModelGraph, prices: Mapping[str, int], layers: Collection[str]) -> int:
    """Return the operations for one image of all nodes that the layers need.

    ``prices`` is the result of `prices_of` for the same graph.
    """
    nodes, _ = needed_nodes(graph.proto.graph, layers)
    return sum(prices[_key(node)] for node in nodes)


def _key(node: onnx.NodeProto) -> str:
    """Return the name of a node's first named output."""
    return next((name for name in node.output if name), node.name)


def _price(node: onnx.NodeProto, sizes: _Sizes) -> int:
    """Return the operations of a node for one image, including its bodies (If, Loop, Scan)."""
    inner = [one for attribute in node.attribute for body in (attribute.g, *attribute.graphs) for one in body.node]
    rounds = 1 if node.op_type == "If" else BODY
    try:
        own = _PRICES.get(node.op_type, _elementwise)(node, sizes)
    except (ArithmeticError, LookupError, TypeError, ValueError):  # attributes that contradict the shapes
        own = _elementwise(node, sizes)
    return max(own, 0) + rounds * sum(_price(one, sizes) for one in inner)


def _values_moved(node: onnx.NodeProto, sizes: _Sizes) -> int:
    """Return the number of values of the largest input or of all outputs, whichever is more."""
    read = max((sizes.values(name) for name in node.input if name), default=0)
    return max(read, sum(sizes.values(name) for name in node.output if name))


def _elementwise(node: onnx.NodeProto, sizes: _Sizes) -> int:
    """Return the price of one pass over the values."""
    return ELEMENT * _values_moved(node, sizes)


def _each(operations: int) -> Price:
    """Return a rule of a fixed price per value."""
    return lambda node, sizes: operations * _values_moved(node, sizes)


def _convolution(weight: int) -> Price:
    """Return the rule of a convolution whose filters are the input of index ``weight``."""

    def price(node: onnx.NodeProto, sizes: _Sizes) -> int:
        filters = sizes.shape(node.input[weight])
        groups = max(attribute_of(node, "group", 1), 1)
        count = sizes.values(node.output[0]) * math.prod(filters[1:])
        return multiply(count, (filters[0] if filters else 1) // groups)

    return price


def _transposed_convolution(node: onnx.NodeProto, sizes: _Sizes) -> int:
    """Return the price of a ConvTranspose."""
    filters = sizes.shape(node.input[1])
    count = sizes.values(node.input[0]) * math.prod(filters[1:])
    return multiply(count, filters[1] if len(filters) > 1 else 1)


def _product(left: int, right: int) -> Price:
    """Return the rule of a matrix product of the inputs of index ``left`` and ``right``."""

    def price(node: onnx.NodeProto, sizes: _Sizes) -> int:
        a, b = sizes.shape(node.input[left]), sizes.shape(node.input[right])
        made = sizes.shape(node.output[0])
        rows = made[-2] if len(made) > 1 else 1
        length = b[-2] if len(b) > 1 else a[-1] if a else 1
        return math.prod(made) * length * (VECTOR if rows == 1 else 1)

    return price


def _gemm(node: onnx.NodeProto, sizes: _Sizes) -> int:
    """Return the price of a Gemm."""
    shape = sizes.shape(node.input[1])
    length = shape[1 if attribute_of(node, "transB", 0) else 0] if len(shape) > 1 else 1
    made = sizes.shape(node.output[0])
    return math.prod(made) * length * (VECTOR if made[:1] == (1,) else 1)


def _einsum(node: onnx.NodeProto, sizes: _Sizes) -> int:
    """Return the price of an Einsum: the product of all its axes."""
    terms = attribute_of(node, "equation", "").replace(" ", "").split("->")[0].split(",")
    lengths: dict[str, int] = {}
    for letters, name in zip(terms, node.input, strict=False):
        for letter, size in zip(letters, sizes.shape(name), strict=False):
            lengths[letter] = max(size, lengths.get(letter, 1))
    return VECTOR * math.prod(lengths.values())


def _pool(node: onnx.NodeProto, sizes: _Sizes) -> int:
    """Return the price of a window pool."""
    kernel = list(attribute_of(node, "kernel_shape", [1]))
    return sizes.values(node.output[0]) * (window(kernel) + ELEMENT)


def _sort(node: onnx.NodeProto, sizes: _Sizes) -> int:
    """Return the price of sorting the first input along its largest axis."""
    shape = sizes.shape(node.input[0])
    return sorting(math.prod(shape), max(shape, default=1))


def _resize(node: onnx.NodeProto, sizes: _Sizes) -> int:
    """Return the price of an interpolation, by its mode."""
    return RESIZE.get(attribute_of(node, "mode", "nearest"), RESIZE["linear"]) * _values_moved(node, sizes)


def _softmax(node: onnx.NodeProto, sizes: _Sizes) -> int:
    """Return the price of a softmax, which is lower along the last axis."""
    rank = len(sizes.shape(node.input[0]))
    is_last = attribute_of(node, "axis", -1) in {-1, rank - 1}
    return (2 * ELEMENT if is_last else SOFTMAX) * _values_moved(node, sizes)


def _recurrent(node: onnx.NodeProto, sizes: _Sizes) -> int:
    """Return the price of a recurrent network: its weights, once for each step."""
    given = sizes.shape(node.input[0])
    steps = given[1 if attribute_of(node, "layout", 0) else 0] if len(given) > 1 else 1
    return VECTOR * steps * sum(sizes.values(name) for name in node.input[1:3])


def _attention(node: onnx.NodeProto, sizes: _Sizes) -> int:
    """Return the price of attention: the projections of all tokens, and the products of all pairs of tokens."""
    given = sizes.shape(node.input[0])
    tokens, width = given[-2:] if len(given) > 1 else (1, 1)
    weights = max((sizes.values(name) for name in node.input[1:3] if name), default=0)
    return tokens * weights + 2 * tokens * tokens * width


_PRICES: Mapping[str, Price] = {
    **dict.fromkeys(_FREE, lambda _node, _sizes: 0),
    **dict.fromkeys(("Conv", "ConvInteger", "FusedConv", "NhwcConv", "NhwcFusedConv", "DeformConv"), _convolution(1)),
    "QLinearConv": _convolution(3),
    "ConvTranspose": _transposed_convolution,
    **dict.fromkeys(("MatMul", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"), _product(0, 1)),
    "FusedMatMul": _product(0, 1),
    "QLinearMatMul": _product(0, 3),
    "Gemm": _gemm,
    "Einsum": _einsum,
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool", "NhwcMaxPool", "QLinearAveragePool"), _pool),
    **dict.fromkeys(("TopK", "Unique", "NonMaxSuppression"), _sort),
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    **dict.fromkeys(("GridSample", "RoiAlign", "MaxRoiPool", "AffineGrid"), _each(SAMPLE)),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), _softmax),
    **dict.fromkeys(("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"), _recurrent),
    **dict.fromkeys(("Attention", "MultiHeadAttention", "QAttention"), _attention),
    **dict.fromkeys(("Pow", "LRN", "LpNormalization"), _each(POWER)),
    **dict.fromkeys(("LayerNormalization", "InstanceNormalization", "GroupNormalization"), _each(4 * ELEMENT)),
    **dict.fromkeys(("DFT", "STFT"), _sort),
}  # fmt: skip
"""Price rules by operator; operators without a rule cost one pass over their values."""
