"""Emitters, which implement the blocks of the catalogue as standard ONNX operators.

An emitter takes a `Builder`, the input `Tensor` and the bound block, appends nodes, and returns the result `Tensor`.
Emitters handle the layout of the tensor, so that the same block applies to N×C×H×W, N×H×W×C, tokens and vectors.
"""

from __future__ import annotations

from collections.abc import Iterable

from layertap.blocks import BoundBlock
from layertap.errors import ShapeMismatchError
from layertap_server.blocks import (
    activation,
    channel_edits,
    convolution,
    loss,
    normalization,
    operations,
    pooling,
    shape,
    tokens,
)
from layertap_server.blocks.builder import BLOCK, INNER, LAYOUT, PATH, Builder, Emitter, Layer, check_nodes, misfit
from layertap_server.blocks.tokens import RANKS
from layertap_server.tensor import Tensor

EMITTERS: dict[str, Emitter] = {
    **activation.EMITTERS,
    **pooling.EMITTERS,
    **normalization.EMITTERS,
    **convolution.EMITTERS,
    **shape.EMITTERS,
    **tokens.EMITTERS,
    **channel_edits.EMITTERS,
    **loss.EMITTERS,
}
"""Emitters by block name."""
LOWEST_RANK = 2
"""Minimum number of axes of a block's input: the batch and one more."""
_COMPUTED = frozenset({"float32", "float16"})
"""Dtypes that blocks compute in. onnxruntime has few operators for float64, so a head can only end in it."""
_ANY_DTYPE = frozenset({"identity", "flatten", "transpose", "reshape", "squeeze", "select", "crop", "cast", "read_as"})
"""Blocks that only move or select values, and work with every dtype."""


def emit_head(builder: Builder, tensor: Tensor, head: Iterable[BoundBlock]) -> Tensor:
    """Emit blocks one after the other and return the result of the last.

    Raises:
        ShapeMismatchError: A block cannot be applied to its input; the message gives the shape and the requirement.
        BadParameterError: The parameters of a block contradict each other.
        RequestTooLargeError: The head has too many nodes or too large constants.
    """
    for block in head:
        tensor = emit_block(builder, tensor, block)
    return tensor


def emit_block(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit one block and return its result. Raises the errors of `emit_head`."""
    if tensor.quantization is not None:
        raise misfit(block, tensor, "nothing can follow quantize", "a head that ends in quantize")
    if tensor.dtype not in _COMPUTED and block.name not in _ANY_DTYPE:
        raise ShapeMismatchError(
            f"{block.name} computes in float32 or float16 and {tensor.describe()}; put cast(float32) before it",
            block=block.name,
            got=tensor.dtype,
            expected="float32 or float16",
        )
    if tensor.rank < LOWEST_RANK and block.name not in _ANY_DTYPE:
        raise misfit(block, tensor, "it needs the batch and at least one more axis", "at least 2 axes")
    before, nodes = builder.operations, len(builder.nodes)
    result = EMITTERS[block.name](builder, tensor, block)
    builder.count_computed(result)
    values = max(tensor.values, result.values)
    passes = min(len(builder.nodes) - nodes, operations.MOST_PASSES)
    builder.count_operations(values * (passes * operations.ELEMENT + operations.SLOW.get(block.name, 0)))
    price = builder.operations - before
    if price > builder.most_expensive[1]:
        builder.most_expensive = (block.name, price)
    return result


__all__ = [
    "BLOCK",
    "EMITTERS",
    "INNER",
    "LAYOUT",
    "PATH",
    "RANKS",
    "Builder",
    "Emitter",
    "Layer",
    "check_nodes",
    "emit_block",
    "emit_head",
]
