"""Inference of layouts: which axes of each layer are channels, height and width, or tokens.

The layout of the image input is known. Each node passes the roles of the axes on: convolutions and pools read and write
N×C×H×W, a Transpose permutes the roles, and a Reshape keeps the roles of the axes that it does not change. Where the
roles are not known, two axes are taken as a vector (N×C), three as tokens (N×T×C), and four get no layout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import onnx

from layertap.types import Layout
from layertap_server.blocks import LAYOUT
from layertap_server.graph.walk import attribute_of, metadata_of, reads
from layertap_server.tensor import Dim

Roles: TypeAlias = str
"""Roles of a tensor's axes, one letter each.

N is the batch, C the channels, c one of several axes that the channels are split into, H the height, W the width, T the
tokens (flattened spatial positions), and ? unknown.
"""
Shape: TypeAlias = tuple[Dim, ...]
"""Sizes of a tensor's axes, each a number or a symbolic name."""

ROLES = {Layout.NCHW: "NCHW", Layout.NHWC: "NHWC", Layout.TOKENS: "NTC", Layout.VECTOR: "NC"}
_BY_RANK = {2: "NC", 3: "NTC"}
_BETWEEN = {("HW", 1): "T", ("T", 2): "HW", ("C", 2): "cc", ("cc", 1): "C", ("", 0): ""}
"""Roles of axes that a Reshape merges or splits and the number of resulting axes -> the resulting roles."""
_CHANNELS_FIRST = frozenset(
    {
        "Conv", "ConvInteger", "ConvTranspose", "QLinearConv", "DeformConv", "MaxPool", "AveragePool", "LpPool",
        "MaxUnpool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "SpaceToDepth", "DepthToSpace", "RoiAlign",
        "MaxRoiPool", "GridSample", "Upsample",
    }
)  # fmt: skip
"""Operators whose result is N×C×H×W, or N×C×T with three axes."""
_MIXING = frozenset({"Einsum", "Expand", "Tile", "Gather", "GatherND", "NonZero", "Shape", "Loop", "If", "Scan"})
"""Operators whose result does not keep the axes of their inputs."""


def layouts_of(
    graph: onnx.GraphProto, shapes: Mapping[str, Shape], inputs: Mapping[str, Layout]
) -> Mapping[str, Layout]:
    """Return the layout of every tensor whose shape is known.

    Args:
        graph: The graph, its nodes in execution order.
        shapes: Shapes by tensor name.
        inputs: Layouts of the graph's inputs by name.
    """
    walk = _Walk(shapes, {name: ROLES.get(layout, "") for name, layout in inputs.items()})
    for node in graph.node:
        for name in node.output:
            if name in shapes:
                walk.visit(node, name)
    return {name: _layout(walk.roles.get(name, ""), len(shape)) for name, shape in shapes.items()}


def _layout(roles: Roles, rank: int) -> Layout:
    """Return the layout that has these roles; `Layout.OTHER` if none has and the rank is not 2."""
    known = {roles_: layout for layout, roles_ in ROLES.items()}
    if roles in known:
        return known[roles]
    return Layout.VECTOR if rank == 2 else Layout.OTHER  # noqa: PLR2004 - N×anything


class _Walk:
    """Propagation of roles from the inputs through the nodes, in execution order."""

    def __init__(self, shapes: Mapping[str, Shape], roles: dict[str, Roles]) -> None:
        """Start with the roles of the graph's inputs. ``shapes`` holds all known shapes by name."""
        self.roles = roles
        self._shapes = shapes
        self._seen: dict[Shape, Roles] = {}
        """Roles by shape of tensors seen so far, to restore the roles after a Reshape away and back."""

    def visit(self, node: onnx.NodeProto, output: str) -> None:
        """Set the roles of an output of a node."""
        shape = self._shapes[output]
        roles = self._roles_of(node, shape) or _BY_RANK.get(len(shape), "N" + "?" * (len(shape) - 1))
        self.roles[output] = roles[: len(shape)].ljust(len(shape), "?")
        if len(shape) > 2 and "?" not in roles and all(isinstance(size, int) for size in shape[1:]):  # noqa: PLR2004
            self._seen[shape] = roles

    def _roles_of(self, node: onnx.NodeProto, shape: Shape) -> Roles:
        """Return the roles of a node's result of the given shape; "" if they are not known."""
        if layout := metadata_of(node, LAYOUT):
            return ROLES.get(Layout(layout), "N" + "?" * (len(shape) - 1))
        if node.domain in {"", "ai.onnx"}:
            if node.op_type in _CHANNELS_FIRST:
                return {3: "NCT", 4: "NCHW"}.get(len(shape), "")
            if node.op_type in _MIXING:
                return ""
            if rule := _RULES.get(node.op_type):
                return rule(self, node, shape)
        return self._same(node, shape)

    def _same(self, node: onnx.NodeProto, shape: Shape) -> Roles:
        """Return the roles of the input of the same rank with the fewest unknown axes; "" if there is none."""
        known = [self.roles[name] for name in reads(node) if name in self.roles]
        same_rank = [roles for roles in known if len(roles) == len(shape)]
        return min(same_rank, key=lambda roles: roles.count("?"), default="")

    def reshape(self, node: onnx.NodeProto, shape: Shape) -> Roles:
        """Return the roles after a Reshape, Squeeze, Unsqueeze or Flatten."""
        source, own = self.roles.get(node.input[0], ""), self._shapes.get(node.input[0], ())
        if not source or not own:
            return ""
        return _reshaped_roles(source, own, shape) or self._seen.get(shape, "")

    def transpose(self, node: onnx.NodeProto, shape: Shape) -> Roles:
        """Return the roles in the order of a Transpose."""
        source = self.roles.get(node.input[0], "")
        order = attribute_of(node, "perm", list(range(len(shape)))[::-1])
        return "".join(source[axis] for axis in order) if len(source) == len(order) else ""

    def reduce(self, node: onnx.NodeProto, shape: Shape) -> Roles:
        """Return the roles of the axes that a reduction keeps."""
        source, own = self.roles.get(node.input[0], ""), self._shapes.get(node.input[0], ())
        if len(source) == len(shape):
            return source
        return _remaining_roles(source, own, shape)

    def multiply(self, node: onnx.NodeProto, shape: Shape) -> Roles:
        """Return the roles after a matrix product: those of the first input if the other is a weight, else ""."""
        fed = [name for name in node.input if name in self.roles]
        source = self.roles.get(node.input[0], "")
        return source if len(fed) == 1 and fed[0] == node.input[0] and len(source) == len(shape) else ""

    def vector(self, _node: onnx.NodeProto, shape: Shape) -> Roles:
        """Return the roles of a vector, the result of a Gemm."""
        return _BY_RANK.get(len(shape), "")


def _reshaped_roles(source: Roles, own: Shape, shape: Shape) -> Roles:
    """Return the roles after a Reshape from shape ``own`` to ``shape``; "" if they are not known.

    Axes at both ends whose sizes do not change keep their roles. `_BETWEEN` gives the roles of the axes between them.
    For example, a ShuffleNet splits and merges its channels, and a vision transformer flattens H and W to tokens.
    """
    front = 0
    while front < min(len(own), len(shape)) and own[front] == shape[front]:
        front += 1
    back = 0
    while back < min(len(own), len(shape)) - front and own[-1 - back] == shape[-1 - back]:
        back += 1
    old, count = source[front : len(own) - back], len(shape) - front - back
    between = _BETWEEN.get((old, count))
    if between is None or front == 0:
        return ""
    return source[:front] + between + source[len(own) - back :]


def _remaining_roles(source: Roles, own: Shape, shape: Shape) -> Roles:
    """Return the roles of the axes that are left after some are removed; "" if the sizes do not tell which."""
    left, axis = "", 0
    for role, size in zip(source, own, strict=False):
        if axis < len(shape) and size == shape[axis]:
            left, axis = left + role, axis + 1
    return left if len(left) == len(shape) else ""


_RULES: Mapping[str, Callable[[_Walk, onnx.NodeProto, Shape], Roles]] = {
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze", "Flatten"), _Walk.reshape),
    **dict.fromkeys(
        ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ArgMax", "ArgMin"), _Walk.reduce
    ),
    "Transpose": _Walk.transpose,
    "MatMul": _Walk.multiply,
    "Gemm": _Walk.vector,
}
"""Rules for the roles of a result, by operator; other operators keep the roles of their inputs."""
