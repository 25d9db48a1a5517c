"""Layers whose sizes depend on the values of the image, such as the boxes that a detector finds."""

from __future__ import annotations

import onnx

from layertap_server.graph.trunk import SIZES
from layertap_server.graph.walk import depends_on, reads

CHOOSING = frozenset(
    {"NonZero", "NonMaxSuppression", "Unique", "Compress", "Loop", "If", "Scan", "SequenceAt", "ConcatFromSequence"}
)
"""Operators whose output sizes depend on the values of their inputs."""
SIZED = frozenset({"Slice", "Reshape", "Expand", "Tile", "TopK", "Resize", "Upsample", "Pad", "Split", "OneHot"})
"""Operators whose inputs after the first state sizes of the output."""
ALL_SIZES = frozenset({"Range", "ConstantOfShape"})
"""Operators whose inputs all state sizes of the output."""


def sized_by_values(graph: onnx.GraphProto, image: str) -> frozenset[str]:
    """Return the tensors whose sizes depend on the values, and not only on the size, of the image input."""
    values: set[str] = {image}
    chosen: set[str] = set()
    for node in graph.node:
        if node.op_type in SIZES:
            continue
        if any(name in values for name in reads(node)):
            values.update(name for name in node.output if name)
        if _is_sized_by(node, values):
            chosen.update(name for name in node.output if name)
    return depends_on(graph, chosen)


def _is_sized_by(node: onnx.NodeProto, values: set[str]) -> bool:
    """Return whether the sizes of a node's outputs depend on the given tensors' values."""
    if node.op_type in CHOOSING:
        return any(name in values for name in reads(node))
    if node.op_type in SIZED or node.op_type in ALL_SIZES:
        return any(name in values for name in node.input[0 if node.op_type in ALL_SIZES else 1 :])
    return False
