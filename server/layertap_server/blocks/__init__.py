"""Catalogue entry -> ONNX nodes: the one place that knows what a block means.

Each emitter takes a `Builder`, the `Tensor` the block is put on and the bound block, appends standard ONNX operators,
and returns the tensor that they give. Emitters know the tensor's layout, so the caller writes the same block for
N×C×H×W, N×H×W×C, tokens and vectors.
"""

from __future__ import annotations

from collections.abc import Iterable

from layertap.blocks import BoundBlock
from layertap.errors import ShapeMismatchError
from layertap_server.blocks import activation, convolution, normalization, operations, pooling, shape
from layertap_server.blocks.builder import (
    BLOCK,
    INNER,
    LAYOUT,
    PATH,
    Builder,
    Dim,
    Emitter,
    Layer,
    Tensor,
    check_nodes,
    misfit,
    value_info,
)

EMITTERS: dict[str, Emitter] = {
    **activation.EMITTERS,
    **pooling.EMITTERS,
    **normalization.EMITTERS,
    **convolution.EMITTERS,
    **shape.EMITTERS,
}

# What moves or selects values works on every type; the rest computes in real numbers.
LOWEST_RANK = 2
# onnxruntime has few operators for float64; a head may end in it.
_COMPUTED = frozenset({"float32", "float16"})
_ANY_DTYPE = frozenset({"identity", "flatten", "transpose", "reshape", "squeeze", "select", "crop", "cast"})


def emit_head(builder: Builder, tensor: Tensor, head: Iterable[BoundBlock]) -> Tensor:
    """Puts the blocks on the tensor, one after the other.

    Raises:
        ShapeMismatchError: a block does not fit what it is put on; says the shape and what the block needs.
    """
    for block in head:
        tensor = emit_block(builder, tensor, block)
    return tensor


def emit_block(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Puts one block on the tensor; errors as of `emit_head`."""
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
        raise misfit(block, tensor, "there is nothing of an image but one number", "a batch and something of it")
    before, nodes = builder.operations, len(builder.nodes)
    result = EMITTERS[block.name](builder, tensor, block)
    builder.count_computed(result)
    values = max(tensor.values, result.values)
    passes = min(len(builder.nodes) - nodes, operations.MOST_PASSES)
    builder.count_operations(values * (passes * operations.ELEMENT + operations.SLOW.get(block.name, 0)))
    price = builder.operations - before
    if price > builder.dearest[1]:
        builder.dearest = (block.name, price)
    return result


__all__ = [
    "BLOCK",
    "EMITTERS",
    "INNER",
    "LAYOUT",
    "PATH",
    "Builder",
    "Dim",
    "Emitter",
    "Layer",
    "Tensor",
    "check_nodes",
    "emit_block",
    "emit_head",
    "value_info",
]
