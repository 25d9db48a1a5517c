"""Losses as ONNX nodes."""

from __future__ import annotations

from layertap.blocks import BoundBlock
from layertap_server.blocks.builder import Builder, Emitter, misfit, require_channel_axis
from layertap_server.tensor import Tensor


def _cross_entropy(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit the negative logarithm of the softmax at one channel."""
    axis, index = require_channel_axis(tensor, block), block.integer("index")
    channels = tensor.shape[axis]
    if isinstance(channels, int) and index >= channels:
        raise misfit(block, tensor, f"there is no class {index}", f"0 to {channels - 1}")
    logarithms = builder.op("LogSoftmax", tensor.name, axis=axis)
    return tensor.with_axis(builder.op("Neg", builder.slice(logarithms, axis, index, index + 1)), axis, 1)


def _binary_cross_entropy(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit max(x, 0) + log(1 + exp(-|x|)) - targets·x, which does not overflow, summed over the channels."""
    axis, one = require_channel_axis(tensor, block), builder.constant(1, tensor.dtype)
    small = builder.op("Exp", builder.op("Neg", builder.op("Abs", tensor.name)))
    softplus = builder.op("Add", builder.op("Relu", tensor.name), builder.op("Log", builder.op("Add", small, one)))
    product = builder.op("Mul", tensor.name, builder.per_channel(block, "targets", tensor))
    return _total(builder, tensor, builder.op("Sub", softplus, product), axis)


def _squared_error(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit half the squared distance from values, summed over the channels."""
    axis = require_channel_axis(tensor, block)
    distance = builder.op("Sub", tensor.name, builder.per_channel(block, "values", tensor))
    half = builder.op("Mul", builder.op("Mul", distance, distance), builder.constant(0.5, tensor.dtype))
    return _total(builder, tensor, half, axis)


def _total(builder: Builder, tensor: Tensor, name: str, axis: int) -> Tensor:
    """Emit the sum over the channels, which keep size 1."""
    return tensor.with_axis(builder.reduce("ReduceSum", name, [axis], keepdims=True), axis, 1)


EMITTERS: dict[str, Emitter] = {
    "cross_entropy": _cross_entropy,
    "binary_cross_entropy": _binary_cross_entropy,
    "squared_error": _squared_error,
}
"""Emitters by block name."""
