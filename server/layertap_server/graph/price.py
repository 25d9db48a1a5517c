"""What the model's own nodes cost for one image, in the operations of `blocks.operations`; one rule a family."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeAlias

import onnx
from onnx import helper
from onnx.numpy_helper import to_array

from layertap_server.blocks import Dim
from layertap_server.blocks.operations import (
    BRANCH,
    ELEMENT,
    POWER,
    RESIZE,
    SAMPLE,
    SOFTMAX,
    SOFTPLUS,
    VECTOR,
    multiply,
    multiply_transposed,
    sorting,
    window,
)
from layertap_server.graph.batch_axis import facts_of
from layertap_server.graph.batch_axis.facts import Fact
from layertap_server.graph.model_graph import ModelGraph
from layertap_server.graph.walk import attribute_of, needed_nodes

_FREE = frozenset({"Constant", "Shape", "Size", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"})
"""Operators that copy nothing, or little."""
_BRANCHES = (
    "Elu",
    "Celu",
    "Selu",
    "PRelu",
    "Sin",
    "Cos",
    "Log",
    "Sign",
    "Shrink",
    "CumSum",
    "GatherElements",
    "OneHot",
)
_TRANSCENDENTAL = (
    "Softplus", "Mish", "Tan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh", "Mod", "Bernoulli", "Multinomial",
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
)  # fmt: skip
"""Operators of which one value takes as long as a softplus."""
TEXT = 14_000
"""One value as text, or text as a value."""
PAIR = 100
"""One comparison of two boxes."""
PARTLY_UNKNOWN = 2**20
"""Values of one image that a tensor is taken to have where only the run tells some of its sizes, as of many tokens."""
WHOLLY_UNKNOWN = 2**24
"""The same, where only the run tells all of its sizes."""
UNKNOWN_SIDE = 4096
"""Largest size, and number of rounds of a Loop, that is taken where only the run tells it."""
NODE = 50_000
"""What the call of one node costs, which counts in the rounds of a Loop or Scan."""
WHOLE_NUMBERS = frozenset({"int32", "int64", "uint32", "uint64"})
"""Types whose products have no vector code."""


class _Sizes:
    """Sizes of a graph's tensors for one image."""

    def __init__(self, graph: ModelGraph, facts: Mapping[str, Fact], inside: Mapping[str, int] | None = None) -> None:
        """``inside`` a body, the values of each tensor that the body makes."""
        self._graph = graph
        self._facts = facts
        self._inside = inside or {}
        self._constants = {one.output[0]: one for one in graph.proto.graph.node if one.op_type == "Constant"}
        image = graph.types[graph.image_input.name].shape
        self._is_sized = all(isinstance(size, int) for size in image[1:])
        self._batch = image[0]

    def inside(self, body: onnx.GraphProto, values: int) -> _Sizes:
        """Return the sizes inside a body, whose own tensors have so many values."""
        made = [*(name for node in body.node for name in node.output), *(value.name for value in body.input)]
        return _Sizes(self._graph, self._facts, {**self._inside, **dict.fromkeys(made, values)})

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the sizes of one image's part; a bound for a size that is not known, 1 where no image's size is."""
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
        """Return what each of the unknown sizes is taken to be, next to the known ones."""
        if not (self._is_sized and unknown):
            return 1
        known = max(math.prod(sizes), 1)
        room = WHOLLY_UNKNOWN if known == 1 else PARTLY_UNKNOWN / known
        return min(max(math.ceil(math.pow(room, 1 / unknown)), 1), UNKNOWN_SIDE)

    def values(self, name: str) -> int:
        return math.prod(self.shape(name))

    def dtype(self, name: str) -> str:
        """Return the element type, ``object`` for text; empty for one that is not known."""
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
    """Return the tensor's single number; None where it holds more, or lies in another file."""
    is_here = tensor.data_location != onnx.TensorProto.EXTERNAL
    return int(to_array(tensor).reshape(-1)[0]) if is_here and math.prod(tensor.dims) == 1 else None


Price: TypeAlias = Callable[[onnx.NodeProto, _Sizes], int]


def prices_of(graph: ModelGraph) -> Mapping[str, int]:
    """Return the operations of each node for one image, by the name of the first output that it has."""
    sizes = _Sizes(graph, facts_of(graph))
    return {_key(node): _price(node, sizes) for node in graph.proto.graph.node}


def price_of(graph: ModelGraph, prices: Mapping[str, int], layers: Collection[str]) -> int:
    """Return the operations of all nodes that the layers need."""
    nodes, _ = needed_nodes(graph.proto.graph, layers)
    return sum(prices[_key(node)] for node in nodes)


def _key(node: onnx.NodeProto) -> str:
    return next((name for name in node.output if name), node.name)


def _price(node: onnx.NodeProto, sizes: _Sizes) -> int:
    try:
        own = _PRICES.get(node.op_type, _elementwise)(node, sizes)
    except (ArithmeticError, LookupError, TypeError, ValueError):  # attributes that contradict the shapes
        own = _elementwise(node, sizes)
    return max(own, 0) + _bodies(node, sizes)


def _bodies(node: onnx.NodeProto, sizes: _Sizes) -> int:
    """Return what the bodies of an If, a Loop or a Scan cost in all rounds; of an If both of its branches."""
    bodies = [body for attribute in node.attribute for body in (attribute.g, *attribute.graphs) if body.node]
    if not bodies:
        return 0
    rounds = _rounds(node, sizes)
    given = max((sizes.values(name) for name in node.input if name), default=1)
    values = max(given // rounds, 1) if node.op_type == "Scan" else given
    inner = [(one, sizes.inside(body, values)) for body in bodies for one in body.node]
    return rounds * sum(NODE + _price(one, inside) for one, inside in inner)


def _rounds(node: onnx.NodeProto, sizes: _Sizes) -> int:
    if node.op_type == "Scan":
        count = attribute_of(node, "num_scan_inputs", 1)
        axes = attribute_of(node, "scan_input_axes", [0] * count)
        shapes = [sizes.shape(name) for name in node.input[-count:]]
        lengths = [shape[axis] for shape, axis in zip(shapes, axes, strict=False) if len(shape) > axis]
        return max(lengths, default=1)
    if node.op_type == "Loop":
        trips = sizes.constant(node.input[0])
        return UNKNOWN_SIDE if trips is None else max(trips, 1)
    return 1


def _moved(node: onnx.NodeProto, sizes: _Sizes) -> int:
    """Return the values that the node reads or writes, whichever are more."""
    read = max((sizes.values(name) for name in node.input if name), default=0)
    return max(read, sum(sizes.values(name) for name in node.output if name))


def _elementwise(node: onnx.NodeProto, sizes: _Sizes) -> int:
    return ELEMENT * _moved(node, sizes)


def _each(operations: int) -> Price:
    return lambda node, sizes: operations * _moved(node, sizes)


def _convolution(weight: int) -> Price:
    def price(node: onnx.NodeProto, sizes: _Sizes) -> int:
        filters = sizes.shape(node.input[weight])
        groups = max(attribute_of(node, "group", 1), 1)
        count = sizes.values(node.output[0]) * math.prod(filters[1:])
        return multiply(count, (filters[0] if filters else 1) // groups)

    return price


def _transposed_convolution(node: onnx.NodeProto, sizes: _Sizes) -> int:
    filters = sizes.shape(node.input[1])
    given, made = sizes.values(node.input[0]), sizes.values(node.output[0])
    columns = given * math.prod(filters[1:]) * attribute_of(node, "group", 1) // max(filters[0], 1)
    return multiply_transposed(given * math.prod(filters[1:]), columns, made)


def _deformed_convolution(node: onnx.NodeProto, sizes: _Sizes) -> int:
    """Each value under a filter is looked up between four others, once for all filters of a group."""
    filters, made = sizes.shape(node.input[1]), sizes.shape(node.output[0])
    samples = math.prod(made) // max(made[1], 1) * math.prod(filters[1:]) * int(attribute_of(node, "group", 1))
    return _convolution(1)(node, sizes) + 3 * SAMPLE * samples


def _product(left: int, right: int) -> Price:
    def price(node: onnx.NodeProto, sizes: _Sizes) -> int:
        a, b = sizes.shape(node.input[left]), sizes.shape(node.input[right])
        made = sizes.shape(node.output[0])
        rows = made[-2] if len(made) > 1 else 1
        length = b[-2] if len(b) > 1 else a[-1] if a else 1
        weight = VECTOR if rows == 1 or sizes.dtype(node.input[left]) in WHOLE_NUMBERS else 1
        return math.prod(made) * length * weight

    return price


def _cubed(operations: int) -> Price:
    """Return the price of matrices that are taken apart: so many operations for n x n x n of each."""

    def price(node: onnx.NodeProto, sizes: _Sizes) -> int:
        return operations * sizes.values(node.input[0]) * sizes.shape(node.input[0])[-1]

    return price


def _distances(node: onnx.NodeProto, sizes: _Sizes) -> int:
    (rows, length), columns = sizes.shape(node.input[0]), sizes.shape(node.input[1])[0]
    return rows * columns * (length + 2 * ELEMENT)


def _packed_product(node: onnx.NodeProto, sizes: _Sizes) -> int:
    return VECTOR * sizes.values(node.output[0]) * int(attribute_of(node, "K", 1))


def _gemm(node: onnx.NodeProto, sizes: _Sizes) -> int:
    shape = sizes.shape(node.input[1])
    length = shape[1 if attribute_of(node, "transB", 0) else 0] if len(shape) > 1 else 1
    made = sizes.shape(node.output[0])
    return math.prod(made) * length * (VECTOR if made[:1] == (1,) else 1)


def _einsum(node: onnx.NodeProto, sizes: _Sizes) -> int:
    terms = attribute_of(node, "equation", "").replace(" ", "").split("->")[0].split(",")
    lengths: dict[str, int] = {}
    for term, name in zip(terms, node.input, strict=False):
        shape = sizes.shape(name)
        before, _, after = term.partition("...")
        between = [f"-{place}" for place in range(len(shape) - len(before) - len(after), 0, -1)]
        letters = [*before, *between, *after] if "..." in term else list(term)
        for letter, size in zip(letters, shape, strict=False):
            lengths[letter] = max(size, lengths.get(letter, 1))
    return VECTOR * math.prod(lengths.values())


def _pool(node: onnx.NodeProto, sizes: _Sizes) -> int:
    kernel = list(attribute_of(node, "kernel_shape", [1]))
    is_scalar = max(attribute_of(node, "dilations", [1])) > 1 or len(node.output) > 1
    return sizes.values(node.output[0]) * (window(kernel, is_scalar=is_scalar) + ELEMENT)


def _power_pool(node: onnx.NodeProto, sizes: _Sizes) -> int:
    kernel: Sequence[int] = attribute_of(node, "kernel_shape", [1])
    return 3 * POWER * sizes.values(node.output[0]) * math.prod(kernel)


def _top(node: onnx.NodeProto, sizes: _Sizes) -> int:
    shape = sizes.shape(node.input[0])
    return sorting(math.prod(shape), max(shape, default=1))


def _unique(node: onnx.NodeProto, sizes: _Sizes) -> int:
    """Each value is looked up in a tree, all over the memory."""
    values = sizes.values(node.input[0])
    return 16 * sorting(values, values)


def _spectrum(node: onnx.NodeProto, sizes: _Sizes) -> int:
    lengths = [size for name in (node.input[0], node.output[0]) for size in sizes.shape(name)]
    return sorting(_moved(node, sizes), max(lengths, default=1))


def _suppressed(node: onnx.NodeProto, sizes: _Sizes) -> int:
    """Each box of a class is compared with all that were kept before it."""
    boxes = sizes.shape(node.input[0])[-2]
    classes = math.prod(sizes.shape(node.input[1])[:-1])
    return classes * (PAIR * boxes * boxes + sorting(boxes, boxes))


def _cast(node: onnx.NodeProto, sizes: _Sizes) -> int:
    is_text = attribute_of(node, "to", 1) == onnx.TensorProto.STRING or sizes.dtype(node.input[0]) == "object"
    return (TEXT if is_text else ELEMENT) * _moved(node, sizes)


def _resized(node: onnx.NodeProto, sizes: _Sizes) -> int:
    return RESIZE.get(attribute_of(node, "mode", "nearest"), RESIZE["linear"]) * _moved(node, sizes)


def _softmax(node: onnx.NodeProto, sizes: _Sizes) -> int:
    rank = len(sizes.shape(node.input[0]))
    is_last = attribute_of(node, "axis", -1) in {-1, rank - 1}
    return (2 * ELEMENT if is_last else SOFTMAX) * _moved(node, sizes)


def _recurrent(node: onnx.NodeProto, sizes: _Sizes) -> int:
    given = sizes.shape(node.input[0])
    steps = given[1 if attribute_of(node, "layout", 0) else 0] if len(given) > 1 else 1
    return VECTOR * steps * sum(sizes.values(name) for name in node.input[1:3])


def _attention(node: onnx.NodeProto, sizes: _Sizes) -> int:
    """Projections of each token, and products of each token with each other."""
    given = sizes.shape(node.input[0])
    tokens, width = given[-2:] if len(given) > 1 else (1, 1)
    weights = max((sizes.values(name) for name in node.input[1:3] if name), default=0)
    return tokens * weights + 2 * tokens * tokens * width


_PRICES: Mapping[str, Price] = {
    **dict.fromkeys(_FREE, lambda _node, _sizes: 0),
    **dict.fromkeys(("Conv", "ConvInteger", "FusedConv", "NhwcConv", "NhwcFusedConv"), _convolution(1)),
    "QLinearConv": _convolution(3),
    "DeformConv": _deformed_convolution,
    **dict.fromkeys(("ConvTranspose", "ConvTransposeWithDynamicPads"), _transposed_convolution),
    **dict.fromkeys(("MatMul", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"), _product(0, 1)),
    **dict.fromkeys(("FusedMatMul", "TransposeMatMul", "SparseToDenseMatMul"), _product(0, 1)),
    **dict.fromkeys(("MatMulNBits", "MatMulBnb4"), _packed_product),
    "QLinearMatMul": _product(0, 3),
    **dict.fromkeys(("Gemm", "FusedGemm"), _gemm),
    "QGemm": _product(0, 3),
    "Inverse": _cubed(6),
    "Det": _cubed(2),
    "CDist": _distances,
    "Einsum": _einsum,
    **dict.fromkeys(("MaxPool", "AveragePool", "NhwcMaxPool", "QLinearAveragePool"), _pool),
    "LpPool": _power_pool,
    "TopK": _top,
    "Unique": _unique,
    "NonMaxSuppression": _suppressed,
    "Cast": _cast,
    "NonZero": _each(4 * POWER),
    **dict.fromkeys(("ScatterElements", "ScatterND", "Scatter"), _each(2 * SAMPLE)),
    **dict.fromkeys(_BRANCHES, _each(BRANCH)),
    **dict.fromkeys(_TRANSCENDENTAL, _each(SOFTPLUS)),
    **dict.fromkeys(("Resize", "Upsample"), _resized),
    **dict.fromkeys(("GridSample", "RoiAlign", "MaxRoiPool", "AffineGrid"), _each(SAMPLE)),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), _softmax),
    **dict.fromkeys(("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"), _recurrent),
    **dict.fromkeys(("Attention", "MultiHeadAttention", "GroupQueryAttention", "QAttention"), _attention),
    **dict.fromkeys(("Pow", "LRN", "LpNormalization", "ReduceLogSumExp"), _each(POWER)),
    "GlobalLpPool": _each(3 * POWER),
    **dict.fromkeys(("LayerNormalization", "InstanceNormalization", "GroupNormalization"), _each(4 * ELEMENT)),
    **dict.fromkeys(("DFT", "STFT"), _spectrum),
}  # fmt: skip
"""Operators -> their price; all others pass once over their values."""
