"""Axes of the results of nodes, from the axes of their inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import onnx

from layertap.types import Layout
from layertap_server.blocks import LAYOUT
from layertap_server.graph.layouts.axes import (
    MIXED,
    POSITIONS,
    ROLES,
    UNKNOWN,
    Axes,
    Axis,
    Part,
    axes_of_roles,
    is_open,
    role_of,
    tokens_of,
    whole,
)
from layertap_server.graph.layouts.facts import Facts
from layertap_server.graph.layouts.reshape import reshaped
from layertap_server.graph.walk import attribute_of, metadata_of

Rule: TypeAlias = Callable[[Facts, onnx.NodeProto, str], Axes]
"""Function that returns the axes of an output of a node; () if it does not know them."""

CONVOLUTIONS = frozenset(
    {
        "Conv", "ConvInteger", "ConvTranspose", "QLinearConv", "DeformConv", "FusedConv", "MaxPool", "AveragePool",
        "LpPool", "MaxUnpool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "SpaceToDepth", "DepthToSpace",
        "GridSample", "Upsample", "LRN",
    }
)  # fmt: skip
"""Operators whose input and result have the channels at axis 1 and positions after them."""
CHANNEL_NORMS = frozenset({"BatchNormalization", "InstanceNormalization", "GroupNormalization"})
"""Operators that keep the axes, of which axis 1 is the channels."""
LAST_AXIS_NORMS = frozenset({"LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"})
"""Operators that normalize the last axes; if it is one, it is the channels."""
REDUCTIONS = frozenset(
    {
        *("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceProd", "ReduceLogSumExp"),
        *("ReduceSumSquare", "ReduceLogSum", "ArgMax", "ArgMin"),
    }
)
"""Operators that remove axes, or make their size 1."""
MIXING = frozenset(
    {"Tile", "GatherND", "ScatterND", "NonZero", "Shape", "Size", "Loop", "If", "Scan", "TopK", "OneHot"}
)
"""Operators whose result does not keep the axes of their inputs."""
POSITION_ROLES = {3: "T", 4: "HW", 5: "DHW"}
"""Roles of the positions of a convolution, by the rank of its result."""


def forward(facts: Facts, node: onnx.NodeProto) -> None:
    """Record the axes of the outputs of a node."""
    for name in node.output:
        if name in facts.shapes and name in facts.valued:
            facts.fill(name, _axes(facts, node, name))
            facts.complete(name)


def _axes(facts: Facts, node: onnx.NodeProto, name: str) -> Axes:
    """Return the axes of an output of a node; () if they are not known."""
    layout = metadata_of(node, LAYOUT)
    if layout not in {"", Layout.OTHER.value}:
        roles, shape = ROLES.get(Layout(layout), ""), facts.shapes[name]
        return axes_of_roles(roles, shape) if len(roles) == len(shape) else ()
    if node.op_type in CONVOLUTIONS:
        return convolved(facts, node, name)
    if node.op_type in MIXING:
        return ()
    return FORWARD.get(node.op_type, _alike)(facts, node, name)


def convolved(facts: Facts, node: onnx.NodeProto, name: str) -> Axes:
    """Return the axes of the result of a convolution or pool, or of its input, which has the same roles."""
    shape = facts.shapes[name]
    roles = POSITION_ROLES.get(len(shape))
    if roles is None:
        return ()
    batch = facts.known(node.input[0])[:1] or (UNKNOWN,)
    return (*batch, *axes_of_roles("C" + roles, shape[1:]))


def _alike(facts: Facts, node: onnx.NodeProto, name: str) -> Axes:
    """Return the axes of an elementwise operator, or of any other whose result has an input's rank: those it has."""
    shape = facts.shapes[name]
    result = [UNKNOWN] * len(shape)
    for one in node.input:
        for offset, (axis, size) in enumerate(
            zip(facts.known(one)[::-1], facts.shapes.get(one, ())[::-1], strict=False), 1
        ):
            if offset <= len(shape) and is_open(result[-offset]) and axis and (size == shape[-offset] or size != 1):
                result[-offset] = axis
    return tuple(result)


def _channel_norm(facts: Facts, node: onnx.NodeProto, name: str) -> Axes:
    """Return the axes of the result of a normalization of the channels at axis 1."""
    axes = facts.known(node.input[0])
    made = convolved(facts, node, name)
    return tuple(new if is_open(old) else old for old, new in zip(axes, made, strict=True)) if made else axes


def _last_axis_norm(facts: Facts, node: onnx.NodeProto, name: str) -> Axes:
    """Return the axes of the result of a normalization of the last axes."""
    axes = facts.known(node.input[0])
    rank = len(facts.shapes[name])
    is_last = int(attribute_of(node, "axis", -1)) in {-1, rank - 1}
    if is_last and axes and not axes[-1]:
        return (*axes[:-1], whole("C", facts.shapes[name][-1]))
    return axes


def _transpose(facts: Facts, node: onnx.NodeProto, _name: str) -> Axes:
    """Return the axes in the order of a Transpose."""
    axes = facts.known(node.input[0])
    order = attribute_of(node, "perm", list(range(len(axes)))[::-1])
    return tuple(axes[axis] for axis in order) if len(order) == len(axes) else ()


def _reshape(facts: Facts, node: onnx.NodeProto, name: str) -> Axes:
    """Return the axes after a Reshape or Flatten."""
    own = facts.shapes.get(node.input[0])
    return reshaped(facts.known(node.input[0]), own, facts.shapes[name]) if own else ()


def removed_axes(facts: Facts, node: onnx.NodeProto, rank: int) -> list[int] | None:
    """Return the axes, not negative, that an operator with ``axes`` names in a tensor of a rank; None if unknown."""
    axes = facts.integers(node, 1, "axes")
    return None if axes is None else sorted({axis % rank for axis in axes})


def _squeeze(facts: Facts, node: onnx.NodeProto, name: str) -> Axes:
    """Return the axes after a Squeeze."""
    axes = facts.known(node.input[0])
    gone = removed_axes(facts, node, len(axes)) if axes else None
    if gone is None:
        return _reshape(facts, node, name)
    return tuple(axis for index, axis in enumerate(axes) if index not in gone)


def _unsqueeze(facts: Facts, node: onnx.NodeProto, name: str) -> Axes:
    """Return the axes after an Unsqueeze; those that it adds are not known."""
    rank = len(facts.shapes[name])
    added, kept = removed_axes(facts, node, rank), iter(facts.known(node.input[0]))
    if added is None:
        return _reshape(facts, node, name)
    return tuple(UNKNOWN if index in added else next(kept, UNKNOWN) for index in range(rank))


def _reduce(facts: Facts, node: onnx.NodeProto, name: str) -> Axes:
    """Return the axes that a reduction keeps."""
    axes = facts.known(node.input[0])
    if len(axes) == len(facts.shapes[name]):
        return facts.fit(node.input[0], name)
    if not axes:
        return ()
    is_arg = node.op_type.startswith("Arg")
    gone = [int(attribute_of(node, "axis", 0)) % len(axes)] if is_arg else removed_axes(facts, node, len(axes))
    return tuple(axis for index, axis in enumerate(axes) if index not in gone) if gone is not None else ()


def operands(node: onnx.NodeProto) -> tuple[str, str]:
    """Return the two matrices of a product; QLinearMatMul has scales and zero points between them."""
    return node.input[0], node.input[3 if node.op_type == "QLinearMatMul" else 1]


def _multiply(facts: Facts, node: onnx.NodeProto, name: str) -> Axes:
    """Return the axes of a matrix product.

    The rows are those of the first input. The columns are those of the second; of a weight they are channels, or of a
    meaning of their own if the product sums over positions.
    """
    first, second = operands(node)
    rows, columns, shape = facts.known(first), facts.known(second), facts.shapes[name]
    if second not in facts.valued:
        if len(rows) != len(shape):
            return ()
        role = role_of(rows[-1])
        return (*rows[:-1], whole("C" if role in {"?", "C"} else MIXED, shape[-1]))
    if len(rows) < 2 or len(columns) < 2 or first not in facts.valued:  # noqa: PLR2004 - a matrix
        return ()
    leading = _alike_leading(rows[:-2], columns[:-2], len(shape) - 2)
    return (*leading, rows[-2], columns[-1])


def _alike_leading(one: Sequence[Axis], other: Sequence[Axis], count: int) -> Axes:
    """Return the leading axes of a product of stacks of matrices."""
    result = [UNKNOWN] * count
    for axes in (one, other):
        for offset, axis in enumerate(axes[::-1], 1):
            if offset <= count and not result[-offset]:
                result[-offset] = axis
    return tuple(result)


def _gemm(facts: Facts, node: onnx.NodeProto, name: str) -> Axes:
    """Return the axes of the result of a Gemm: the rows of its input, and channels."""
    rows = facts.known(node.input[0])
    return (rows[0], whole("C", facts.shapes[name][-1])) if len(rows) == len(facts.shapes[name]) else ()


def _einsum(facts: Facts, node: onnx.NodeProto, _name: str) -> Axes:
    """Return the axes of the result of an Einsum by the letters of its equation."""
    given, arrow, result = attribute_of(node, "equation", "").replace(" ", "").partition("->")
    if not arrow or "." in given:
        return ()
    letters: dict[str, Axis] = {}
    for term, one in zip(given.split(","), node.input, strict=False):
        for letter, axis in zip(term, facts.known(one), strict=False):
            letters[letter] = letters.get(letter) or axis
    return tuple(letters.get(letter, UNKNOWN) for letter in result)


def _concat(facts: Facts, node: onnx.NodeProto, name: str) -> Axes:
    """Return the axes of a concatenation; learned tokens before positions count as their prefix."""
    shape = facts.shapes[name]
    along = int(attribute_of(node, "axis", 0)) % len(shape)
    result = list(_alike(facts, node, name))
    valued = [one for one in node.input if one in facts.valued]
    axes = [axis[along] for axis in map(facts.known, valued) if len(axis) == len(shape)]
    roles = {role_of(axis) for axis in axes} - {"?"}
    result[along] = UNKNOWN
    if len(roles) == 1:
        result[along] = whole(roles.pop(), shape[along])
    if len(valued) == 1 and axes and role_of(axes[0]) in POSITIONS:
        result[along] = _with_learned(facts, node, valued[0], axes[0], along)
    return tuple(result)


def _with_learned(facts: Facts, node: onnx.NodeProto, positions: str, axis: Axis, along: int) -> Axis:
    """Return the token axis of learned tokens and positions in the order of a Concat's inputs."""
    names = list(node.input)
    place = names.index(positions)
    sizes = [facts.shapes[one][along] if one in facts.shapes else "?" for one in names]
    prefix, grid = tokens_of(axis)
    before = [size for size in sizes[:place] if isinstance(size, int)]
    is_known = prefix is not None and len(before) == place == len(names) - 1
    total = facts.shapes[node.output[0]][along]
    return (Part("T", total, prefix=prefix + sum(before) if is_known and prefix is not None else None, grid=grid),)


def _slice(facts: Facts, node: onnx.NodeProto, name: str) -> Axes:
    """Return the axes of a Slice; one that drops tokens of the prefix leaves the rest of it."""
    axes, own, shape = facts.known(node.input[0]), facts.shapes.get(node.input[0], ()), facts.shapes[name]
    result = list(facts.fit(node.input[0], name))
    starts, along, steps = (facts.integers(node, index) for index in (1, 3, 4))
    if not result or starts is None or along is None or (steps and set(steps) != {1}):
        return tuple(result)
    for start, axis in zip(starts, (one % len(shape) for one in along), strict=True):
        size, old = shape[axis], own[axis]
        prefix, grid = tokens_of(axes[axis])
        if isinstance(size, int) and isinstance(old, int) and 0 < start == old - size and prefix is not None:
            result[axis] = (Part("T", size, prefix=prefix - start, grid=grid),) if start <= prefix else result[axis]
    return tuple(result)


def _gather(facts: Facts, node: onnx.NodeProto, name: str) -> Axes:
    """Return the axes of a Gather: those of the data, with the axes of the indices in place of the one it reads."""
    data, indices = node.input[:2]
    shape, rank = facts.shapes[name], len(facts.shapes.get(indices, ()))
    if data not in facts.valued:  # rows of a table, such as the embeddings of tokens
        known = facts.known(indices)
        return (*known, whole("C", shape[-1])) if len(known) + 1 == len(shape) else ()
    axes, own = facts.known(data), facts.shapes.get(data, ())
    if not own or len(own) - 1 + rank != len(shape):
        return ()
    along = int(attribute_of(node, "axis", 0)) % len(own)
    taken: Axes = (UNKNOWN,) * rank
    if rank == 1 and role_of(axes[along]) in f"C{POSITIONS}":
        taken = (whole(role_of(axes[along]), shape[along]),)
    return (*axes[:along], *taken, *axes[along + 1 :])


def _resized(facts: Facts, node: onnx.NodeProto, name: str) -> Axes:
    """Return the axes of an operator that keeps them and may change their sizes."""
    return facts.fit(node.input[0], name)


def _alone(facts: Facts, node: onnx.NodeProto, name: str) -> Axes:
    """Return the axes of the first input, if the result has as many."""
    axes = facts.known(node.input[0])
    return axes if len(axes) == len(facts.shapes[name]) else ()


FORWARD: Mapping[str, Rule] = {
    **dict.fromkeys(CHANNEL_NORMS, _channel_norm),
    **dict.fromkeys(LAST_AXIS_NORMS, _last_axis_norm),
    **dict.fromkeys(REDUCTIONS, _reduce),
    **dict.fromkeys(("Reshape", "Flatten"), _reshape),
    **dict.fromkeys(("Pad", "Resize", "Split", "CenterCropPad"), _resized),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "CumSum", "Dropout", "QuantizeLinear"), _alone),
    **dict.fromkeys(("MatMul", "QLinearMatMul", "MatMulInteger"), _multiply),
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Gemm": _gemm,
    "Einsum": _einsum,
    "Concat": _concat,
    "Slice": _slice,
    "Gather": _gather,
}
"""Rules by operator; other operators keep the axes that align with those of their result."""
