"""What a layer is and costs: channels, stride, bytes, parameters, multiply-accumulates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import onnx

from layertap.types import Layout
from layertap_server.blocks import Dim, Tensor

_FILTERS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}
"""Convolutions -> which input holds the filters."""
Shape: TypeAlias = tuple[Dim, ...]

CONSTANTS = "layertap/"
"""How the names of a block's constants begin."""
_MATRIX_RANK = 2


_SHAPES = ("Reshape", "Slice", "Gather", "Resize", "Pad", "Tile", "Expand", "TopK", "Clip", "Unsqueeze", "Squeeze")
"""Operators whose other inputs say where and how large, and are learned by nobody."""


def parameters(node: onnx.NodeProto | None, weights: Mapping[str, Shape]) -> int | None:
    """Learned numbers that the node owns; of a batch normalization scale and bias, its statistics are not learned."""
    if node is None:
        return None
    if any(node.op_type.startswith(kind) for kind in _SHAPES):
        return None
    names = node.input[1:3] if node.op_type == "BatchNormalization" else node.input
    own = [name for name in names if name in weights and not name.startswith(CONSTANTS)]
    sizes = [_size(weights[name]) or 0 for name in own]
    return sum(size for size in sizes if size > 1) or None  # a single number is a constant: a bound, an epsilon


def macs(node: onnx.NodeProto | None, output: Tensor | None, shapes: Mapping[str, Shape]) -> int | None:
    """Multiply-accumulates an image of the node that makes ``output``; ``shapes`` are the weights' and layers'."""
    places = _places(output)
    if node is None or places is None or len(node.input) < _MATRIX_RANK:
        return None
    weight = shapes.get(node.input[_FILTERS.get(node.op_type, 1)], ())
    if node.op_type in _FILTERS and weight:
        # A filter's area and input channels, once for every value that the layer has.
        area = _size(weight[1:])
        return None if area is None else places * area
    if node.op_type == "ConvTranspose" and weight:
        # Every value that it reads lays one filter down for each output channel of its group.
        read = _size(shapes.get(node.input[0], ("?",))[1:])
        area = _size(weight[1:])
        return None if area is None or read is None else read * area
    if node.op_type == "MatMul" and len(weight) >= _MATRIX_RANK:
        return _times(places, weight[-2])
    if node.op_type == "Gemm" and len(weight) == _MATRIX_RANK:
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        return _times(places, weight[1 if transposed else 0])
    return None


def _places(output: Tensor | None) -> int | None:
    """How many values an image has; where the first axis is no free batch, windows of an image lie along it."""
    if output is None or output.rank < _MATRIX_RANK:
        return None
    return _size(output.shape[1:] if isinstance(output.shape[0], str) or output.shape[0] == 1 else output.shape)


def _times(places: int, size: Dim) -> int | None:
    return places * size if isinstance(size, int) else None


def _size(shape: Shape) -> int | None:
    known = [size for size in shape if isinstance(size, int)]
    return math.prod(known) if len(known) == len(shape) else None


def channels(tensor: Tensor | None) -> int | None:
    """How many features a place has."""
    if tensor is None or tensor.layout is Layout.OTHER:
        return None
    size = tensor.shape[tensor.channel_axis]
    return size if isinstance(size, int) else None


def stride(tensor: Tensor | None, image: Tensor) -> float | None:
    """Input pixels a step of the layer, along the height."""
    is_map = tensor is not None and len(tensor.spatial_axes) == len(image.spatial_axes)
    if tensor is None or not (is_map or tensor.grid):
        return None
    here = tensor.grid[0] if tensor.grid else tensor.shape[tensor.spatial_axes[0]]
    there = image.shape[image.spatial_axes[0]]
    return there / here if isinstance(here, int) and isinstance(there, int) and here else None


def bytes_per_image(tensor: Tensor | None) -> int | None:
    """Bytes of one image's values."""
    if tensor is None or not tensor.shape or not tensor.dtype:
        return None
    size = _size(tensor.shape[1:])
    return None if size is None else size * np.dtype(tensor.dtype).itemsize
