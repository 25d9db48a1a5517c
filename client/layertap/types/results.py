"""What the server returns for images: feature maps, previews and statistics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layertap.types.taps import Array, Layout


@dataclass(frozen=True, slots=True)
class Timing:
    """The time that a request spent on the server, in milliseconds."""

    queue_ms: float = 0.0
    """Time spent in queues."""
    decode_ms: float = 0.0
    """Time spent decoding images."""
    compute_ms: float = 0.0
    """Time spent running the model."""
    total_ms: float = 0.0
    """Total time of the request."""


@dataclass(frozen=True, slots=True, eq=False)
class Quantization:
    """Parameters that convert quantized values to real ones; both arrays broadcast against the values."""

    scale: Array
    """Scale, float32, N×1×1×1, or N×C×1×1 for one scale per channel."""
    zero_point: Array
    """Zero point, int64, of the same shape as ``scale``."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureMap:
    """One result, batch first, and its origin."""

    name: str
    """The result's name."""
    array: Array
    """The values."""
    layer: str
    """The layer that the result was computed from."""
    layout: Layout = Layout.OTHER
    """The meaning of the axes."""
    tap_index: int = 0
    """Index, from 0, of the request's tap that this result belongs to."""
    inexact: bool = False
    """Whether tapping may have changed how the layer is computed; in a quantized model, by one rounding step."""
    quantization: Quantization | None = None
    """Parameters of the quantization if the head ends in ``quantize``."""

    def dequantized(self) -> Array:
        """Return ``scale · (array - zero_point)`` as float32, or the array itself if it is not quantized."""
        if self.quantization is None:
            return self.array
        steps = self.array.astype(np.int64) - self.quantization.zero_point
        return np.asarray(self.quantization.scale * steps, np.float32)


@dataclass(frozen=True, slots=True)
class SkippedLayer:
    """A layer that a tap of several layers left out, because the tap's head does not fit the layer."""

    layer: str
    """The layer's name."""
    reason: str
    """Message of the error that a tap of this layer alone would raise."""


@dataclass(frozen=True, slots=True)
class ImagePadding:
    """Rows and columns that the server added to an image because the network accepts only some sizes."""

    bottom: int
    """Rows below the image."""
    right: int
    """Columns to the right of the image."""


@dataclass(frozen=True, slots=True)
class TargetValue:
    """The target whose gradient was taken for one image."""

    value: float
    """The target's value."""
    index: int | None = None
    """Index of the value in the target's vector; None if the target is one number per image."""
    label: str = ""
    """The model's label of the index; empty if it has none."""


@dataclass(frozen=True, slots=True, eq=False)
class ExtractResponse:
    """The results of one request for features."""

    maps: tuple[FeatureMap, ...]
    """The results in order."""
    model: str = ""
    """Name of the model."""
    version: str = ""
    """Version of the model."""
    timing: Timing = Timing()
    """Time spent on the server."""
    batch_size: int = 0
    """Number of images that ran together in the model."""
    assumed_preprocessing: str = ""
    """The line of ``model.yaml`` that would state the assumed preprocessing; empty if nothing was assumed."""
    skipped: tuple[SkippedLayer, ...] = ()
    """Layers that a tap of several layers left out, because its head does not fit them."""
    padding: tuple[ImagePadding, ...] = ()
    """Padding of each image, if any was padded to a size that the network accepts; else empty."""
    target: str = ""
    """The target whose gradients were taken, as an expression, and whether the server chose it; empty for none."""
    targets: tuple[TargetValue, ...] = ()
    """The target of each image; empty without gradients."""


@dataclass(frozen=True, slots=True, eq=False)
class Attribution:
    """Maps of how much each position contributed to a target, one for each image."""

    maps: Array
    """Maps, float32 N×H×W; larger values contributed more."""
    method: str
    """The method with its parameters."""
    layer: str = ""
    """Layer whose positions the maps have; empty if they have those of the image input."""
    target: str = ""
    """The target as an expression, and whether the server chose it."""
    targets: tuple[TargetValue, ...] = ()
    """The target of each image."""
    missing: tuple[float, ...] = ()
    """For integrated gradients, y(x) - y(baseline) minus the sum of the map, of each image; else empty."""
    warning: str = ""
    """What the caller should know about the maps; empty for nothing."""
    model: str = ""
    version: str = ""
    assumed_preprocessing: str = ""
    """The line of ``model.yaml`` that would state the assumed preprocessing; empty if nothing was assumed."""


@dataclass(frozen=True, slots=True)
class PreviewedFeature:
    """One result of a previewed request."""

    name: str
    layer: str
    dtype: str
    shape: tuple[int, ...]
    """Shape, batch first; -1 for a size known only after running."""
    bytes: int
    """Size in bytes for all images; 0 if a size is unknown."""


@dataclass(frozen=True, slots=True)
class Preview:
    """The results and the cost of a request, computed without running the model."""

    features: tuple[PreviewedFeature, ...]
    """The results."""
    total_bytes: int
    """Size of all results in bytes."""
    macs_per_image: int
    """Multiply-accumulates per image."""
    warm: bool
    """Whether the server has already compiled the request's plan."""
    model: str = ""
    version: str = ""
    operations: int = 0
    """Estimated cost of all images: the multiply-accumulates of a convolution that takes the same time.

    The server rejects requests over its limit (``--max-operations``).
    """
    looks_across_images: bool = False
    """Whether a block takes its statistics from all images of a request, which then needs several images."""
    skipped: tuple[SkippedLayer, ...] = ()
    """Layers that taps of several layers leave out."""


@dataclass(frozen=True, slots=True)
class LayerStatistics:
    """Statistics of one layer over all images of the request; non-finite values count only as NaN or infinity."""

    layer: str
    """The layer's name."""
    min: float
    """Smallest finite value."""
    max: float
    """Largest finite value."""
    mean: float
    """Mean of the finite values."""
    standard_deviation: float
    """Standard deviation of the finite values."""
    zero_fraction: float
    """Fraction of values that are 0, from 0 to 1."""
    saturated_fraction: float
    """Fraction of values, from 0 to 1, near a bound of their activation, where its derivative vanishes.

    For sigmoid, hard sigmoid, tanh, softsign and erf: values within 1 % of the range from either bound. For clips such
    as relu6: the same, except at a bound equal to the activation of 0, where a rectifier is merely inactive. For
    softmax: every value of a distribution whose largest value is 0.99 or more. For other operators: 0.
    """
    dead_channels: int
    """Number of channels that are 0 in every image and at every spatial position."""
    nan_count: int
    """Number of NaN values."""
    inf_count: int
    """Number of infinite values."""
    l2_norm: float
    """Euclidean norm of the layer's values."""


@dataclass(frozen=True, slots=True)
class InspectResponse:
    """Statistics of layers, in the order of the request's selectors."""

    layers: tuple[LayerStatistics, ...]
    model: str
    version: str
    assumed_preprocessing: str = ""
    """The line of ``model.yaml`` that would state the assumed preprocessing; empty if nothing was assumed."""
