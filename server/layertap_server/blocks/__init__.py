"""Catalogue entry -> ONNX nodes: the one place that knows what a block means.

Each emitter takes a `Builder`, the `Tensor` the block is put on and the bound block, appends standard ONNX operators,
and returns the tensor that they give. Emitters know the tensor's layout, so the caller writes the same block for
N×C×H×W, N×H×W×C, tokens and vectors.
"""

from __future__ import annotations

from collections.abc import Iterable

from layertap.blocks import BoundBlock
from layertap.errors import ShapeMismatchError
from layertap_server.blocks import activation, normalization, pooling, shape
from layertap_server.blocks.builder import Builder, Dim, Emitter, Tensor

EMITTERS: dict[str, Emitter] = {
    **activation.EMITTERS,
    **pooling.EMITTERS,
    **normalization.EMITTERS,
    **shape.EMITTERS,
}

# What moves or selects values works on every type; the rest computes in real numbers.
_ANY_DTYPE = frozenset({"identity", "flatten", "cast"})


def emit_head(builder: Builder, tensor: Tensor, head: Iterable[BoundBlock]) -> Tensor:
    """Puts the blocks on the tensor, one after the other.

    Raises:
        ShapeMismatchError: a block does not fit what it is put on; says the shape and what the block needs.
    """
    for block in head:
        if not tensor.dtype.startswith("float") and block.name not in _ANY_DTYPE:
            raise ShapeMismatchError(
                f"{block.name} computes in real numbers and {tensor.describe()}; put cast(float32) before it",
                block=block.name,
                got=tensor.dtype,
                expected="float",
            )
        tensor = EMITTERS[block.name](builder, tensor, block)
    return tensor


__all__ = ["EMITTERS", "Builder", "Dim", "Emitter", "Tensor", "emit_head"]
