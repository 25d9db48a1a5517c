"""Size and cost of a layer: channels, stride, bytes, parameters and multiply-accumulates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import onnx

from layertap.types import Layout
from layertap_server.tensor import Dim, Tensor

_FILTERS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}
"""Index of the input that holds the filters, by convolution operator."""
Shape: TypeAlias = tuple[Dim, ...]
"""Sizes of a tensor's axes, each a number or a symbolic name."""

CONSTANTS = "layertap/"
"""Prefix of the names of constants that blocks create."""
_MATRIX_RANK = 2


_SHAPES = ("Reshape", "Slice", "Gather", "Resize", "Pad", "Tile", "Expand", "TopK", "Clip", "Unsqueeze", "Squeeze")
"""Operators whose inputs beside the first are sizes, indices or bounds and not learned parameters."""


def parameters(node: onnx.NodeProto | None, weights: Mapping[str, Shape]) -> int | None:
    """Return the number of learned parameters of a node, or None if it has none.

    Of a batch normalization only scale and bias count, since its statistics are not learned.
    """
    if node is None:
        return None
    if any(node.op_type.startswith(kind) for kind in _SHAPES):
        return None
    names = node.input[1:3] if node.op_type == "BatchNormalization" else node.input
    own = [name for name in names if name in weights and not name.startswith(CONSTANTS)]
    sizes = [_size(weights[name]) or 0 for name in own]
    return sum(size for size in sizes if size > 1) or None  # a scalar is a constant such as a bound


def macs(node: onnx.NodeProto | None, output: Tensor | None, shapes: Mapping[str, Shape]) -> int | None:
    """Return the multiply-accumulates for one image, or None if the operator has none or a size is not known.

    Args:
        node: The node that computes ``output``.
        output: The node's output.
        shapes: Shapes of weights and layers by name.
    """
    count = _value_count(output)
    if node is None or count is None or len(node.input) < _MATRIX_RANK:
        return None
    weight = shapes.get(node.input[_FILTERS.get(node.op_type, 1)], ())
    if node.op_type in _FILTERS and weight:
        # Each output value costs the area of a filter times its input channels.
        area = _size(weight[1:])
        return None if area is None else count * area
    if node.op_type == "ConvTranspose" and weight:
        # Each input value is multiplied by one filter for each output channel of its group.
        read = _size(shapes.get(node.input[0], ("?",))[1:])
        area = _size(weight[1:])
        return None if area is None or read is None else read * area
    if node.op_type == "MatMul" and len(weight) >= _MATRIX_RANK:
        return _times(count, weight[-2])
    if node.op_type == "Gemm" and len(weight) == _MATRIX_RANK:
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        return _times(count, weight[1 if transposed else 0])
    return None


def _value_count(output: Tensor | None) -> int | None:
    """Return the number of values of one image, or None if a size is not known.

    A first axis with a fixed size above 1 holds windows of one image, so it counts.
    """
    if output is None or output.rank < _MATRIX_RANK:
        return None
    return _size(output.shape[1:] if isinstance(output.shape[0], str) or output.shape[0] == 1 else output.shape)


def _times(count: int, size: Dim) -> int | None:
    """Return the product, or None if the size is symbolic."""
    return count * size if isinstance(size, int) else None


def _size(shape: Shape) -> int | None:
    """Return the number of values of a shape, or None if a size is symbolic."""
    known = [size for size in shape if isinstance(size, int)]
    return math.prod(known) if len(known) == len(shape) else None


def channels(tensor: Tensor | None) -> int | None:
    """Return the size of the channel axis, or None if the layout or the size is not known."""
    if tensor is None or tensor.layout is Layout.OTHER:
        return None
    size = tensor.shape[tensor.channel_axis]
    return size if isinstance(size, int) else None


def stride(tensor: Tensor | None, image: Tensor) -> float | None:
    """Return the ratio of the image height to the layer's height, in pixels; None where a height is not known."""
    is_map = tensor is not None and len(tensor.spatial_axes) == len(image.spatial_axes)
    if tensor is None or not image.spatial_axes or not (is_map or tensor.grid):
        return None
    here = tensor.grid[0] if tensor.grid else tensor.shape[tensor.spatial_axes[0]]
    there = image.shape[image.spatial_axes[0]]
    return there / here if isinstance(here, int) and isinstance(there, int) and here else None


def bytes_per_image(tensor: Tensor | None) -> int | None:
    """Return the bytes of one image's values, or None if a size is not known."""
    if tensor is None or not tensor.shape or not tensor.dtype:
        return None
    size = _size(tensor.shape[1:])
    return None if size is None else size * np.dtype(tensor.dtype).itemsize
