"""Blocks that change single channels and keep the shape, for edits of a network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from layertap.blocks import BoundBlock
from layertap.types import Array
from layertap_server.blocks.builder import Builder, Emitter, channel_values, misfit, require_channel_axis
from layertap_server.tensor import Tensor


def _mask(tensor: Tensor, block: BoundBlock) -> Array:
    """Return which channels a block names, in a shape that broadcasts to the tensor.

    Raises:
        ShapeMismatchError: the number of channels is not known, or a channel does not exist.
    """
    axis = require_channel_axis(tensor, block)
    channels, chosen = tensor.shape[axis], block.integers("channels")
    if not isinstance(channels, int):
        raise misfit(block, tensor, "it needs a known number of channels", "a fixed number of channels")
    if max(chosen) >= channels:
        raise misfit(block, tensor, f"there is no channel {max(chosen)}", f"0 to {channels - 1}")
    mask = np.zeros(channels, np.bool_)
    mask[list(chosen)] = True
    return mask.reshape([-1] + [1] * (tensor.rank - 1 - axis))


def _keep(builder: Builder, tensor: Tensor, kept: Array) -> Tensor:
    """Emit the tensor where ``kept`` is true, and 0 elsewhere, also in place of NaN."""
    zero = builder.constant(0, tensor.dtype)
    return replace(tensor, name=builder.op("Where", builder.constant(kept, "bool"), tensor.name, zero))


def _zero_channels(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit the tensor with some channels set to 0."""
    return _keep(builder, tensor, ~_mask(tensor, block))


def _keep_channels(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit the tensor with all channels set to 0 except the given ones."""
    return _keep(builder, tensor, _mask(tensor, block))


def _scale_channels(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit the tensor with some channels multiplied by a factor."""
    factors = np.where(_mask(tensor, block), block.number("factor"), 1.0)
    return replace(tensor, name=builder.op("Mul", tensor.name, builder.constant(factors, tensor.dtype)))


def _add_vector(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    """Emit the tensor plus one number for each channel."""
    axis, values = require_channel_axis(tensor, block), channel_values(block, "values", tensor)
    if len(values) != tensor.shape[axis]:
        raise misfit(block, tensor, f"values has {len(values)} numbers", f"{tensor.shape[axis]} numbers")
    shaped = values.reshape([-1] + [1] * (tensor.rank - 1 - axis))
    return replace(tensor, name=builder.op("Add", tensor.name, builder.constant(shaped, tensor.dtype)))


EMITTERS: dict[str, Emitter] = {
    "zero_channels": _zero_channels,
    "keep_channels": _keep_channels,
    "scale_channels": _scale_channels,
    "add_vector": _add_vector,
}
"""Emitters by block name."""
