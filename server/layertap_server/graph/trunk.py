"""The trunk of a network: the tensors through which every path from the image to the deepest maps passes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import onnx

from layertap.types import Layout
from layertap_server.blocks import BLOCK
from layertap_server.graph.module_path import module_path_of
from layertap_server.graph.walk import metadata_of
from layertap_server.tensor import Tensor

UPSAMPLING = frozenset({"Resize", "Upsample", "ConvTranspose", "DepthToSpace", "MaxUnpool", "GridSample"})
"""Operators that enlarge maps; what follows them belongs to a decoder or a feature pyramid."""
SIZES = frozenset({"Shape", "Size"})
"""Operators whose outputs tell sizes of a tensor and none of its values."""
MOVEMENT = frozenset(
    {"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Cast", "Slice", "Gather", "Pad", "Split"}
)
"""Operators that move values and compute none."""


Size: TypeAlias = tuple[int, int]
"""Height and width."""
MOST_PREFIX_TOKENS = 16
"""Maximum number of class, distillation and register tokens (Darcet et al. 2024 use 4)."""
FACTORS = (1, 2, 4)
"""Factors by which tokens or maps of unknown layout may shrink from one step to the next."""
MAP_AXES, TOKEN_AXES = 3, 2
"""Number of axes of a map and of tokens, without the batch."""


@dataclass(frozen=True, slots=True)
class Step:
    """One tensor of the trunk."""

    name: str
    op_type: str
    """Operator, or the block that surgery put there."""
    path: tuple[str, ...]
    """Components of the module path; empty if it is not known."""
    size: Size | None
    """Height and width, also of tokens on a grid; None for other tensors."""
    prefix: int
    """Number of tokens beyond those of the grid, such as class tokens; 0 for maps."""
    inputs: tuple[str, ...]
    """Tensors that the step's node reads."""
    layout: Layout = Layout.OTHER
    """Layout of the tensor."""
    branches: int = 1
    """Number of tensors with values of the image that the step's node reads."""

    @property
    def moves(self) -> bool:
        """Whether the step only moves values."""
        return self.op_type in MOVEMENT

    @property
    def area(self) -> int:
        """Number of spatial positions; 0 if the step has none, or one."""
        height, width = self.size or (0, 0)
        return height * width if height * width > 1 else 0


def find_trunk(graph: onnx.GraphProto, types: Mapping[str, Tensor], image: str) -> list[Step]:
    """Return the tensors of the trunk that have spatial positions, in execution order.

    A tensor is on the trunk if, once it is computed, nothing else that depends on the image is needed. Behind an
    upsampling several resolutions are in use at once, so that the trunk of a network with a decoder or a feature
    pyramid leads to its deepest map. A network whose maps become deeper still after an upsampling, such as an HRNet,
    computes several resolutions side by side and has no trunk.
    """
    made = _depending(graph, types, image)
    targets = _targets(graph, types, made)
    last = _last_uses(graph, made, targets)
    steps: list[Step] = []
    live: set[str] = {image}
    size = size_of(types.get(image))
    for index, node in enumerate(graph.node):
        outputs = [name for name in node.output if name in last]
        live = {name for name in live.union(outputs) if last.get(name, -1) > index}
        for name in outputs:
            if live == {name}:
                own, prefix = _positions_after(size, types.get(name))
                size = own or size
                path = module_path_of(node)
                parts = tuple(path.split(".")) if path else ()
                layout = types[name].layout if name in types else Layout.OTHER
                operator = metadata_of(node, BLOCK) or node.op_type
                branches = len(made.intersection(node.input))
                steps.append(Step(name, operator, parts, own, prefix, tuple(node.input), layout, branches))
    return [step for step in steps if step.area]


def size_of(tensor: Tensor | None) -> Size | None:
    """Return the height and width of a map or of the grid of tokens; None if there are none or they are not known."""
    if tensor is None:
        return None
    if tensor.grid is not None:
        return tensor.grid
    if tensor.layout not in {Layout.NCHW, Layout.NHWC}:
        return None
    height, width = (tensor.shape[axis] for axis in tensor.spatial_axes)
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _positions_after(before: Size | None, tensor: Tensor | None) -> tuple[Size | None, int]:
    """Return the height and width of a step's map or grid of tokens, and its number of prefix tokens.

    Tokens, and maps of unknown layout, do not show their height and width. They get those of the step before, divided
    by a small factor, if their number of positions fits. The size is None if the step has no positions in rows and
    columns, or if these cannot be found.

    Args:
        before: height and width of the step before.
        tensor: type of the step; None if it is not known.
    """
    sizes = () if tensor is None else tuple(size if isinstance(size, int) else 0 for size in tensor.shape[1:])
    if before is not None and len(sizes) == TOKEN_AXES:
        for size in _smaller(before):
            prefix = _prefix(size, sizes if size == before else sizes[:1])
            if prefix is not None:
                return size, prefix
    known = size_of(tensor)
    if known is None and before is not None and len(sizes) == MAP_AXES:
        pairs = (sizes[:2], sizes[1:])
        known = next(((height, width) for height, width in pairs if (height, width) in _smaller(before)), None)
    return known, 0


def _smaller(before: Size) -> list[Size]:
    """Return a size, and that size divided by small factors, rounded up."""
    return [(-(-before[0] // factor), -(-before[1] // factor)) for factor in FACTORS]


def _prefix(size: Size, counts: Sequence[int]) -> int | None:
    """Return by how many the smallest fitting count exceeds the positions of a grid; None if none fits."""
    extra = [count - size[0] * size[1] for count in counts]
    return min((count for count in extra if 0 <= count <= MOST_PREFIX_TOKENS), default=None)


def _depending(graph: onnx.GraphProto, types: Mapping[str, Tensor], image: str) -> frozenset[str]:
    """Return the tensors whose values, and not only sizes, depend on the image."""
    made = {image}
    for node in graph.node:
        if node.op_type not in SIZES and any(name in made for name in node.input):
            made.update(name for name in node.output if name and _is_float(types.get(name)))
    return frozenset(made)


def _is_float(tensor: Tensor | None) -> bool:
    """Return whether a tensor holds floating-point values, or its type is not known."""
    return tensor is None or tensor.dtype.startswith(("float", "bfloat"))


def _targets(graph: onnx.GraphProto, types: Mapping[str, Tensor], made: Collection[str]) -> frozenset[str]:
    """Return where the trunk leads: the graph's outputs, or the deepest maps before the first upsampling.

    Returns none for a network that computes several resolutions side by side.
    """
    upsampled: set[str] = set()
    areas: dict[str, int] = {}
    later: list[int] = []
    for node in graph.node:
        inputs = [name for name in node.input if name in made]
        is_up = node.op_type in UPSAMPLING and _grows(node, types)
        if inputs and (is_up or any(name in upsampled for name in inputs)):
            upsampled.update(node.output)
            later += [_area(types.get(name)) for name in node.output]
            continue
        areas.update({name: area for name in node.output if name in made and (area := _area(types.get(name))) > 1})
    if not upsampled or not areas:
        return frozenset(value.name for value in graph.output) & frozenset(made)
    deepest = min(areas.values())
    if any(1 < area < deepest for area in later):
        return frozenset()
    return frozenset(name for name, area in areas.items() if area == deepest)


def _area(tensor: Tensor | None) -> int:
    """Return the number of spatial positions of a map or of tokens on a grid; 0 if it is not known."""
    height, width = size_of(tensor) or (0, 0)
    return height * width


def _grows(node: onnx.NodeProto, types: Mapping[str, Tensor]) -> bool:
    """Return whether a node's output has more positions than its input, as far as the sizes are known."""
    before, after = size_of(types.get(node.input[0])), size_of(types.get(node.output[0]))
    return before is None or after is None or after > before


def _last_uses(graph: onnx.GraphProto, made: Collection[str], targets: Collection[str]) -> dict[str, int]:
    """Return the index of the last node that reads each tensor on the way to a target.

    A target that no such node reads counts as read by the node after it.
    """
    last: dict[str, int] = {}
    needed = set(targets)
    for index in reversed(range(len(graph.node))):
        node = graph.node[index]
        outputs = [name for name in node.output if name in needed]
        for name in outputs:
            last.setdefault(name, index + 1)
        if outputs:
            inputs = {name for name in node.input if name in made}
            needed |= inputs
            for name in inputs:
                last.setdefault(name, index)
    return last
