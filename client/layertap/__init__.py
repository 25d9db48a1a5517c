"""Extract feature maps and activations from any layer of any ONNX model, over gRPC."""

from layertap import _startup  # noqa: F401, I001 - must come before any import of gRPC
from layertap import errors
from layertap._aclient import AsyncClient
from layertap._client import Client
from layertap._connection import Tls
from layertap._features import ExtractedItem, Features
from layertap.errors import PreprocessingAssumedWarning
from layertap.expression import format_tap, parse_tap
from layertap.types import (
    Batching,
    Block,
    FeatureMap,
    ImagePadding,
    LayerInfo,
    LayerStatistics,
    Layout,
    ModelFact,
    ModelInfo,
    ModelState,
    Preview,
    Quantization,
    ReceptiveField,
    SkippedLayer,
    Tap,
    TensorInfo,
    Timing,
    WeightInfo,
)

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "Batching",
    "Block",
    "Client",
    "ExtractedItem",
    "FeatureMap",
    "Features",
    "ImagePadding",
    "LayerInfo",
    "LayerStatistics",
    "Layout",
    "ModelFact",
    "ModelInfo",
    "ModelState",
    "PreprocessingAssumedWarning",
    "Preview",
    "Quantization",
    "ReceptiveField",
    "SkippedLayer",
    "Tap",
    "TensorInfo",
    "Timing",
    "Tls",
    "WeightInfo",
    "errors",
    "format_tap",
    "parse_tap",
]
