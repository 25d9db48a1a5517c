"""The vocabulary of the SDK and the server: frozen values without I/O and without ONNX.

Arrays are NumPy arrays; a dtype is NumPy's name for it (``"float32"``); a shape is a tuple in which -1 is a size that
is not known before the model runs.
"""

from layertap.types.models import (
    Batching,
    LayerInfo,
    ModelInfo,
    ModelState,
    ReceptiveField,
    TensorInfo,
    TokenGrid,
)
from layertap.types.requests import (
    ApplyRequest,
    EncodedImage,
    ExtractRequest,
    ImagePayload,
    InspectRequest,
    PixelImage,
    PreviewRequest,
)
from layertap.types.results import (
    ExtractResponse,
    FeatureMap,
    LayerStatistics,
    Preview,
    PreviewedFeature,
    Quantization,
    SkippedLayer,
    Timing,
)
from layertap.types.taps import (
    Array,
    Block,
    Layout,
    Tap,
    Value,
    as_sequence,
)

__all__ = [
    "ApplyRequest",
    "Array",
    "Batching",
    "Block",
    "EncodedImage",
    "ExtractRequest",
    "ExtractResponse",
    "FeatureMap",
    "ImagePayload",
    "InspectRequest",
    "LayerInfo",
    "LayerStatistics",
    "Layout",
    "ModelInfo",
    "ModelState",
    "PixelImage",
    "Preview",
    "PreviewRequest",
    "PreviewedFeature",
    "Quantization",
    "ReceptiveField",
    "SkippedLayer",
    "Tap",
    "TensorInfo",
    "Timing",
    "TokenGrid",
    "Value",
    "as_sequence",
]
