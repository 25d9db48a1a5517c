"""Layertap: feature maps and activations of any layer of any ONNX model, over gRPC."""

from layertap import errors
from layertap._client import Client
from layertap.expression import format_tap, parse_tap
from layertap.types import (
    Block,
    FeatureMap,
    Features,
    LayerInfo,
    Layout,
    ModelInfo,
    ModelState,
    Quantization,
    ReceptiveField,
    Tap,
    TensorInfo,
    Timing,
)

__version__ = "0.1.0"

__all__ = [
    "Block",
    "Client",
    "FeatureMap",
    "Features",
    "LayerInfo",
    "Layout",
    "ModelInfo",
    "ModelState",
    "Quantization",
    "ReceptiveField",
    "Tap",
    "TensorInfo",
    "Timing",
    "errors",
    "format_tap",
    "parse_tap",
]
