"""What the axes of each layer mean: channels, height and width, tokens.

The image input says where it has its channels; from there the meaning of each axis is carried through the nodes. A
convolution or a pool wants N×C×H×W and makes it, a Transpose permutes, a Reshape keeps what it leaves alone. Where
nothing tells, a matrix is vectors, three axes are tokens, and four are not called a map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import onnx

from layertap.types import Layout
from layertap_server.blocks import LAYOUT, Dim
from layertap_server.graph.walk import attribute_of, reads, told

Roles: TypeAlias = str
"""A letter an axis: N batch, C channels, c a part of them, H, W, T tokens (places in a row), ? unknown."""
Shape: TypeAlias = tuple[Dim, ...]

ROLES = {Layout.NCHW: "NCHW", Layout.NHWC: "NHWC", Layout.TOKENS: "NTC", Layout.VECTOR: "NC"}
_BY_RANK = {2: "NC", 3: "NTC"}
_BETWEEN = {("HW", 1): "T", ("T", 2): "HW", ("C", 2): "cc", ("cc", 1): "C", ("", 0): ""}
"""Roles of axes that a Reshape joins or parts, and how many they become -> their new roles."""
_CHANNELS_FIRST = frozenset(
    {
        "Conv", "ConvInteger", "ConvTranspose", "QLinearConv", "DeformConv", "MaxPool", "AveragePool", "LpPool",
        "MaxUnpool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "SpaceToDepth", "DepthToSpace", "RoiAlign",
        "MaxRoiPool", "GridSample", "Upsample",
    }
)  # fmt: skip
_MIXING = frozenset({"Einsum", "Expand", "Tile", "Gather", "GatherND", "NonZero", "Shape", "Loop", "If", "Scan"})
"""Whose result's axes are not those of what they read."""


def layouts_of(
    graph: onnx.GraphProto, shapes: Mapping[str, Shape], inputs: Mapping[str, Layout]
) -> Mapping[str, Layout]:
    """Of every tensor whose shape is known; ``inputs`` are those of the graph's."""
    walk = _Walk(shapes, {name: ROLES.get(layout, "") for name, layout in inputs.items()})
    for node in graph.node:
        for name in node.output:
            if name in shapes:
                walk.through(node, name)
    return {name: _layout(walk.roles.get(name, ""), len(shape)) for name, shape in shapes.items()}


def _layout(roles: Roles, rank: int) -> Layout:
    known = {roles_: layout for layout, roles_ in ROLES.items()}
    if roles in known:
        return known[roles]
    return Layout.VECTOR if rank == 2 else Layout.OTHER  # noqa: PLR2004 - N×anything


class _Walk:
    """Carries roles from the inputs through the nodes, in execution order."""

    def __init__(self, shapes: Mapping[str, Shape], roles: dict[str, Roles]) -> None:
        self.roles = roles
        self._shapes = shapes
        self._seen: dict[Shape, Roles] = {}
        """Maps that were met, by their shape: what a Reshape away and back comes to again."""

    def through(self, node: onnx.NodeProto, output: str) -> None:
        shape = self._shapes[output]
        roles = self._made(node, shape) or _BY_RANK.get(len(shape), "N" + "?" * (len(shape) - 1))
        self.roles[output] = roles[: len(shape)].ljust(len(shape), "?")
        if len(shape) > 2 and "?" not in roles and all(isinstance(size, int) for size in shape[1:]):  # noqa: PLR2004
            self._seen[shape] = roles

    def _made(self, node: onnx.NodeProto, shape: Shape) -> Roles:
        if layout := told(node, LAYOUT):
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
        """Those of what it reads, of the same rank; the best known."""
        known = [self.roles[name] for name in reads(node) if name in self.roles]
        found = [roles for roles in known if len(roles) == len(shape)]
        return min(found, key=lambda roles: roles.count("?"), default="")

    def reshaped(self, node: onnx.NodeProto, shape: Shape) -> Roles:
        source, own = self.roles.get(node.input[0], ""), self._shapes.get(node.input[0], ())
        if not source or not own:
            return ""
        return _kept(source, own, shape) or self._seen.get(shape, "")

    def transposed(self, node: onnx.NodeProto, shape: Shape) -> Roles:
        source = self.roles.get(node.input[0], "")
        order = attribute_of(node, "perm", list(range(len(shape)))[::-1])
        return "".join(source[axis] for axis in order) if len(source) == len(order) else ""

    def reduced(self, node: onnx.NodeProto, shape: Shape) -> Roles:
        source, own = self.roles.get(node.input[0], ""), self._shapes.get(node.input[0], ())
        if len(source) == len(shape):
            return source
        return _without(source, own, shape)

    def product(self, node: onnx.NodeProto, shape: Shape) -> Roles:
        """A matrix of weights makes other channels; of two layers nothing is known but three axes."""
        fed = [name for name in node.input if name in self.roles]
        source = self.roles.get(node.input[0], "")
        return source if len(fed) == 1 and fed[0] == node.input[0] and len(source) == len(shape) else ""

    def vectors(self, _node: onnx.NodeProto, shape: Shape) -> Roles:
        return _BY_RANK.get(len(shape), "")


def _kept(source: Roles, own: Shape, shape: Shape) -> Roles:
    """What a Reshape leaves alone at both ends, and what the axes between become; empty where that is not known.

    A ShuffleNet's channels become groups and channels again, a transformer's map becomes a row of tokens.
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


def _without(source: Roles, own: Shape, shape: Shape) -> Roles:
    """The roles of the axes that are left when some were taken away."""
    left, axis = "", 0
    for role, size in zip(source, own, strict=False):
        if axis < len(shape) and size == shape[axis]:
            left, axis = left + role, axis + 1
    return left if len(left) == len(shape) else ""


_RULES: Mapping[str, Callable[[_Walk, onnx.NodeProto, Shape], Roles]] = {
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze", "Flatten"), _Walk.reshaped),
    **dict.fromkeys(
        ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ArgMax", "ArgMin"), _Walk.reduced
    ),
    "Transpose": _Walk.transposed,
    "MatMul": _Walk.product,
    "Gemm": _Walk.vectors,
}
