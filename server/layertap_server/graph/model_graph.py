"""A model's graph, read once and never changed: what plans are cut out of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import onnx

from layertap.types import LayerInfo, Layout, TensorInfo
from layertap_server.blocks import Tensor
from layertap_server.graph.native import InProcess, Native


@dataclass(frozen=True, slots=True)
class ObservedType:
    """What a run showed of a tensor."""

    dtype: str
    sizes: tuple[int | None, ...]
    """None for what differs from run to run."""
    is_batch: bool
    """Whether the first axis is the batch."""


@dataclass(frozen=True)
class ModelGraph:
    """The topology, whose large weights lie in a file of ``weights_folder``, and what was read off it."""

    proto: onnx.ModelProto
    weights_folder: Path
    opset: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    image_input: TensorInfo
    """The input that takes the images; its shape holds -1 where a size is free, in the file and in what was asked."""
    layers: tuple[LayerInfo, ...]
    types: Mapping[str, Tensor]
    """Of every layer whose type is known."""
    observed: Mapping[str, ObservedType] = field(default_factory=dict)
    """Of those that a run had to show."""
    native: Native = field(default_factory=InProcess)
    """Where shapes for other topologies and image sizes are inferred."""

    @property
    def fixed_batch(self) -> int | None:
        """The batch size that the model insists on, if it does."""
        size = self.image_input.shape[0]
        return size if size > 0 else None

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of the images that the model takes, where the graph fixes both."""
        height, width = self.image_sides
        return (height, width) if height and width else None

    @property
    def image_sides(self) -> tuple[int | None, int | None]:
        """Height and width, each where the graph fixes it."""
        height, width = (self.image_input.shape[axis] for axis in spatial_axes(self.image_input.layout))
        return height if height > 0 else None, width if width > 0 else None

    def image_shape(self, batch: int, size: tuple[int, int]) -> list[int]:
        """The shape of so many images of this height and width, as the model's own input."""
        channels = max(self.image_channels, 1)
        return [batch, *size, channels] if self.image_input.layout is Layout.NHWC else [batch, channels, *size]

    @property
    def image_channels(self) -> int:
        """Of the images that the model takes; -1 where the graph leaves them open."""
        return self.image_input.shape[3 if self.image_input.layout is Layout.NHWC else 1]

    @property
    def constant_bytes(self) -> int:
        """What no image changes takes: weights, and constants that nodes make."""
        layers = {layer.name for layer in self.layers}
        made = [tensor for name, tensor in self.types.items() if name not in layers and name not in self.weights]
        return sum(map(onnx_bytes, self.weights.values())) + sum(tensor.known_bytes for tensor in made)

    @cached_property
    def weights(self) -> Mapping[str, onnx.TensorProto]:
        """The initializers by name."""
        return {tensor.name: tensor for tensor in self.proto.graph.initializer}


def spatial_axes(layout: Layout) -> tuple[int, int]:
    """Where an input of images has its height and width."""
    return (1, 2) if layout is Layout.NHWC else (2, 3)


def onnx_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of an initializer's values, wherever they lie."""
    size = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    for dim in tensor.dims:
        size *= dim
    return int(size)
