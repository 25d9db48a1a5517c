"""Price of the model's own nodes for one image, in the operations of ``blocks.operations``."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeAlias

import onnx

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
from layertap_server.graph.model_graph import ModelGraph
from layertap_server.graph.price_sizes import UNKNOWN_SIDE, Sizes
from layertap_server.graph.walk import attribute_of, needed_nodes

_FREE = frozenset({"Constant", "Shape", "Size", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"})
"""Operators that copy no data, or little."""
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
"""Operators with the price ``BRANCH`` per value, as of activations that take one of two paths."""
_TRANSCENDENTAL = (
    "Softplus", "Mish", "Tan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh", "Mod", "Bernoulli", "Multinomial",
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
)  # fmt: skip
"""Operators that take as long for a value as a softplus."""
TEXT = 14_000
"""Operations of the conversion of one value to text, or of text to a value."""
PAIR = 100
"""Operations of the comparison of two boxes."""
NODE = 50_000
"""Operations of the call of one node, counted in each iteration of a Loop or Scan."""
WHOLE_NUMBERS = frozenset({"int32", "int64", "uint32", "uint64"})
"""Element types whose matrix products onnxruntime computes without vector instructions."""


Price: TypeAlias = Callable[[onnx.NodeProto, Sizes], int]
"""Rule that computes the price of a node for one image."""


def prices_of(graph: ModelGraph) -> Mapping[str, int]:
    """Return the operations of each node for one image, by the name of its first output that has a name."""
    sizes = Sizes(graph, facts_of(graph))
    return {_key(node): _price(node, sizes) for node in graph.proto.graph.node}


def price_of(graph: ModelGraph, prices: Mapping[str, int], layers: Collection[str]) -> int:
    """Return the operations for one image of all nodes that the layers need.

    ``prices`` is the result of ``prices_of`` for the same graph.
    """
    nodes, _ = needed_nodes(graph.proto.graph, layers)
    return sum(prices[_key(node)] for node in nodes)


def _key(node: onnx.NodeProto) -> str:
    """Return the name of a node's first named output."""
    return next((name for name in node.output if name), node.name)


def _price(node: onnx.NodeProto, sizes: Sizes) -> int:
    """Return the operations of a node for one image, including its bodies (If, Loop, Scan)."""
    try:
        own = _PRICES.get(node.op_type, _elementwise)(node, sizes)
    except (ArithmeticError, LookupError, TypeError, ValueError):  # attributes that contradict the shapes
        own = _elementwise(node, sizes)
    return max(own, 0) + _bodies(node, sizes)


def _bodies(node: onnx.NodeProto, sizes: Sizes) -> int:
    """Return the operations of all iterations of a node's bodies (Loop, Scan); for an If, of both branches."""
    bodies = [body for attribute in node.attribute for body in (attribute.g, *attribute.graphs) if body.node]
    if not bodies:
        return 0
    rounds = _rounds(node, sizes)
    given = max((sizes.values(name) for name in node.input if name), default=1)
    values = max(given // rounds, 1) if node.op_type == "Scan" else given
    inner = [(one, sizes.inside(body, values)) for body in bodies for one in body.node]
    return rounds * sum(NODE + _price(one, inside) for one, inside in inner)


def _rounds(node: onnx.NodeProto, sizes: Sizes) -> int:
    """Return the number of iterations of a Scan or Loop; 1 for any other node."""
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


def _values_moved(node: onnx.NodeProto, sizes: Sizes) -> int:
    """Return the number of values of the largest input or of all outputs, whichever is more."""
    read = max((sizes.values(name) for name in node.input if name), default=0)
    return max(read, sum(sizes.values(name) for name in node.output if name))


def _elementwise(node: onnx.NodeProto, sizes: Sizes) -> int:
    """Return the price of one pass over the values."""
    return ELEMENT * _values_moved(node, sizes)


def _each(operations: int) -> Price:
    """Return the rule of a fixed price per value."""
    return lambda node, sizes: operations * _values_moved(node, sizes)


def _convolution(weight: int) -> Price:
    """Return the rule of a convolution whose filters are the input of index ``weight``."""

    def price(node: onnx.NodeProto, sizes: Sizes) -> int:
        filters = sizes.shape(node.input[weight])
        groups = max(attribute_of(node, "group", 1), 1)
        count = sizes.values(node.output[0]) * math.prod(filters[1:])
        return multiply(count, (filters[0] if filters else 1) // groups)

    return price


def _transposed_convolution(node: onnx.NodeProto, sizes: Sizes) -> int:
    """Return the price of a ConvTranspose."""
    filters = sizes.shape(node.input[1])
    given, made = sizes.values(node.input[0]), sizes.values(node.output[0])
    columns = given * math.prod(filters[1:]) * attribute_of(node, "group", 1) // max(filters[0], 1)
    return multiply_transposed(given * math.prod(filters[1:]), columns, made)


def _deformed_convolution(node: onnx.NodeProto, sizes: Sizes) -> int:
    """Return the price of a DeformConv.

    Each value under a filter is interpolated between four others, once for all filters of a group.
    """
    filters, made = sizes.shape(node.input[1]), sizes.shape(node.output[0])
    samples = math.prod(made) // max(made[1], 1) * math.prod(filters[1:]) * int(attribute_of(node, "group", 1))
    return _convolution(1)(node, sizes) + 3 * SAMPLE * samples


def _product(left: int, right: int) -> Price:
    """Return the rule of a matrix product of the inputs of index ``left`` and ``right``."""

    def price(node: onnx.NodeProto, sizes: Sizes) -> int:
        a, b = sizes.shape(node.input[left]), sizes.shape(node.input[right])
        made = sizes.shape(node.output[0])
        rows = made[-2] if len(made) > 1 else 1
        length = b[-2] if len(b) > 1 else a[-1] if a else 1
        weight = VECTOR if rows == 1 or sizes.dtype(node.input[left]) in WHOLE_NUMBERS else 1
        return math.prod(made) * length * weight

    return price


def _matrix_function(operations: int) -> Price:
    """Return the rule of an operator on n×n matrices that takes ``operations`` × n³ operations for each matrix."""

    def price(node: onnx.NodeProto, sizes: Sizes) -> int:
        return operations * sizes.values(node.input[0]) * sizes.shape(node.input[0])[-1]

    return price


def _distances(node: onnx.NodeProto, sizes: Sizes) -> int:
    """Return the price of a CDist: the distance of each row of one input to each row of the other."""
    (rows, length), columns = sizes.shape(node.input[0]), sizes.shape(node.input[1])[0]
    return rows * columns * (length + 2 * ELEMENT)


def _packed_product(node: onnx.NodeProto, sizes: Sizes) -> int:
    """Return the price of a matrix product with quantized weights, whose inner size is the attribute ``K``."""
    return VECTOR * sizes.values(node.output[0]) * int(attribute_of(node, "K", 1))


def _gemm(node: onnx.NodeProto, sizes: Sizes) -> int:
    """Return the price of a Gemm."""
    shape = sizes.shape(node.input[1])
    length = shape[1 if attribute_of(node, "transB", 0) else 0] if len(shape) > 1 else 1
    made = sizes.shape(node.output[0])
    return math.prod(made) * length * (VECTOR if made[:1] == (1,) else 1)


def _einsum(node: onnx.NodeProto, sizes: Sizes) -> int:
    """Return the price of an Einsum: the product of the sizes of all its axes."""
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


def _pool(node: onnx.NodeProto, sizes: Sizes) -> int:
    """Return the price of a window pool."""
    kernel = list(attribute_of(node, "kernel_shape", [1]))
    is_scalar = max(attribute_of(node, "dilations", [1])) > 1 or len(node.output) > 1
    return sizes.values(node.output[0]) * (window(kernel, is_scalar=is_scalar) + ELEMENT)


def _power_pool(node: onnx.NodeProto, sizes: Sizes) -> int:
    """Return the price of an LpPool, which raises each value under a window to a power."""
    kernel: Sequence[int] = attribute_of(node, "kernel_shape", [1])
    return 3 * POWER * sizes.values(node.output[0]) * math.prod(kernel)


def _top(node: onnx.NodeProto, sizes: Sizes) -> int:
    """Return the price of sorting the first input along its largest axis."""
    shape = sizes.shape(node.input[0])
    return sorting(math.prod(shape), max(shape, default=1))


def _unique(node: onnx.NodeProto, sizes: Sizes) -> int:
    """Return the price of a Unique, which looks up each value in a tree that is scattered in memory."""
    values = sizes.values(node.input[0])
    return 16 * sorting(values, values)


def _spectrum(node: onnx.NodeProto, sizes: Sizes) -> int:
    """Return the price of a Fourier transform, which grows like that of sorting."""
    lengths = [size for name in (node.input[0], node.output[0]) for size in sizes.shape(name)]
    return sorting(_values_moved(node, sizes), max(lengths, default=1))


def _suppress_boxes(node: onnx.NodeProto, sizes: Sizes) -> int:
    """Return the price of a NonMaxSuppression, which compares each box of a class with all boxes kept before it."""
    boxes = sizes.shape(node.input[0])[-2]
    classes = math.prod(sizes.shape(node.input[1])[:-1])
    return classes * (PAIR * boxes * boxes + sorting(boxes, boxes))


def _cast(node: onnx.NodeProto, sizes: Sizes) -> int:
    """Return the price of a Cast, which is much higher to or from text."""
    is_text = attribute_of(node, "to", 1) == onnx.TensorProto.STRING or sizes.dtype(node.input[0]) == "object"
    return (TEXT if is_text else ELEMENT) * _values_moved(node, sizes)


def _resize(node: onnx.NodeProto, sizes: Sizes) -> int:
    """Return the price of an interpolation, by its mode."""
    return RESIZE.get(attribute_of(node, "mode", "nearest"), RESIZE["linear"]) * _values_moved(node, sizes)


def _softmax(node: onnx.NodeProto, sizes: Sizes) -> int:
    """Return the price of a softmax, which is lower along the last axis."""
    rank = len(sizes.shape(node.input[0]))
    is_last = attribute_of(node, "axis", -1) in {-1, rank - 1}
    return (2 * ELEMENT if is_last else SOFTMAX) * _values_moved(node, sizes)


def _recurrent(node: onnx.NodeProto, sizes: Sizes) -> int:
    """Return the price of a recurrent network: a product with its weights in each step."""
    given = sizes.shape(node.input[0])
    steps = given[1 if attribute_of(node, "layout", 0) else 0] if len(given) > 1 else 1
    return VECTOR * steps * sum(sizes.values(name) for name in node.input[1:3])


def _attention(node: onnx.NodeProto, sizes: Sizes) -> int:
    """Return the price of attention: the projections of all tokens, and the products of all pairs of tokens."""
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
    "Inverse": _matrix_function(6),
    "Det": _matrix_function(2),
    "CDist": _distances,
    "Einsum": _einsum,
    **dict.fromkeys(("MaxPool", "AveragePool", "NhwcMaxPool", "QLinearAveragePool"), _pool),
    "LpPool": _power_pool,
    "TopK": _top,
    "Unique": _unique,
    "NonMaxSuppression": _suppress_boxes,
    "Cast": _cast,
    "NonZero": _each(4 * POWER),
    **dict.fromkeys(("ScatterElements", "ScatterND", "Scatter"), _each(2 * SAMPLE)),
    **dict.fromkeys(_BRANCHES, _each(BRANCH)),
    **dict.fromkeys(_TRANSCENDENTAL, _each(SOFTPLUS)),
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    **dict.fromkeys(("GridSample", "RoiAlign", "MaxRoiPool", "AffineGrid"), _each(SAMPLE)),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), _softmax),
    **dict.fromkeys(("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"), _recurrent),
    **dict.fromkeys(("Attention", "MultiHeadAttention", "GroupQueryAttention", "QAttention"), _attention),
    **dict.fromkeys(("Pow", "LRN", "LpNormalization", "ReduceLogSumExp"), _each(POWER)),
    "GlobalLpPool": _each(3 * POWER),
    **dict.fromkeys(("LayerNormalization", "InstanceNormalization", "GroupNormalization"), _each(4 * ELEMENT)),
    **dict.fromkeys(("DFT", "STFT"), _spectrum),
}  # fmt: skip
"""Rules by operator; any other operator has the price of one pass over its values."""
