"""The analyzed graph of a model. Plans are extracted from it; it is never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import onnx

from layertap.types import LayerInfo, Layout, TensorInfo
from layertap_server.graph.activations import Activation
from layertap_server.graph.native import InProcess, Native
from layertap_server.tensor import Tensor

PICTURE_CHANNELS = (-1, 1, 3)
"""Numbers of channels of an input that takes pictures; -1 if the graph does not fix it."""
PICTURE_RANK = 4
"""Number of axes of an input that takes images."""


@dataclass(frozen=True, slots=True)
class ObservedType:
    """Type of a tensor as seen in a run of the model."""

    dtype: str
    sizes: tuple[int | None, ...]
    """Sizes of the axes; None for a size that differs between runs."""
    is_batch: bool
    """Whether the size of the first axis equals the batch size."""


@dataclass(frozen=True)
class ModelGraph:
    """A model in canonical form and its analysis. Its large weights are in a file in ``weights_folder``."""

    proto: onnx.ModelProto
    weights_folder: Path
    opset: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    main_input: TensorInfo
    """Input that takes the images; in a model that takes none, its first input with a batch.

    A size in its shape is -1 if neither the file nor the given image size fixes it.
    """
    layers: tuple[LayerInfo, ...]
    types: Mapping[str, Tensor]
    """Types by name of all tensors whose type is known."""
    activations: Mapping[str, Activation] = field(default_factory=dict)
    """Activations by the names of their results."""
    batch_first: Mapping[str, Tensor] = field(default_factory=dict)
    """Types, batch first, of the layers that the graph does not show so; see ``graph.tapped``."""
    batch_axes: Mapping[str, int] = field(default_factory=dict)
    """Indices of the batch axis in the graph's own tensors, for the layers of `batch_first`."""
    observed: Mapping[str, ObservedType] = field(default_factory=dict)
    """Types by name of tensors whose type is known only from a run."""
    native: Native = field(default_factory=InProcess)
    """Runner of shape inference, for changed graphs and other image sizes."""

    def tapped(self, layer: str) -> Tensor:
        """Return the type of a layer as taps see it: batch first, under the name of the graph's own tensor."""
        return self.batch_first.get(layer) or self.types[layer]

    @property
    def takes_pictures(self) -> bool:
        """Whether the main input takes images, so that it has four axes."""
        return len(self.main_input.shape) == PICTURE_RANK

    @property
    def takes_colours(self) -> bool:
        """Whether the main input takes pictures in grey or colour, and not arrays of other channels."""
        return self.takes_pictures and self.image_channels in PICTURE_CHANNELS

    @property
    def fixed_batch(self) -> int | None:
        """Batch size that the model requires, or None if it is free."""
        size = self.main_input.shape[0]
        return size if size > 0 else None

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of the image input in pixels, or None if the graph does not fix both."""
        height, width = self.image_sides
        return (height, width) if height and width else None

    @property
    def image_sides(self) -> tuple[int | None, int | None]:
        """Height and width of the image input in pixels, each None if the graph does not fix it, or takes no images."""
        if not self.takes_pictures:
            return None, None
        height, width = (self.main_input.shape[axis] for axis in spatial_axes(self.main_input.layout))
        return height if height > 0 else None, width if width > 0 else None

    def image_shape(self, batch: int, size: tuple[int, int]) -> list[int]:
        """Return the shape of a batch of images of height and width ``size`` in the layout of the image input."""
        channels = max(self.image_channels, 1)
        return [batch, *size, channels] if self.main_input.layout is Layout.NHWC else [batch, channels, *size]

    @property
    def image_channels(self) -> int:
        """Number of channels of the image input; -1 if the graph does not fix it, or takes no images."""
        if not self.takes_pictures:
            return -1
        return self.main_input.shape[3 if self.main_input.layout is Layout.NHWC else 1]

    @property
    def constant_bytes(self) -> int:
        """Size of the weights and of the tensors that depend on no input, in bytes."""
        layers = {layer.name for layer in self.layers}
        made = [tensor for name, tensor in self.types.items() if name not in layers and name not in self.weights]
        return sum(map(onnx_bytes, self.weights.values())) + sum(tensor.known_bytes for tensor in made)

    @cached_property
    def weights(self) -> Mapping[str, onnx.TensorProto]:
        """Initializers by name."""
        return {tensor.name: tensor for tensor in self.proto.graph.initializer}


def spatial_axes(layout: Layout) -> tuple[int, int]:
    """Return the axes of height and width of an image input."""
    return (1, 2) if layout is Layout.NHWC else (2, 3)


def onnx_bytes(tensor: onnx.TensorProto) -> int:
    """Return the size of an initializer in bytes, whether it is stored in the model or in an external file."""
    size = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    for dim in tensor.dims:
        size *= dim
    return int(size)
