from layertap.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AttributionSize(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ATTRIBUTION_SIZE_UNSPECIFIED: _ClassVar[AttributionSize]
    ATTRIBUTION_SIZE_INPUT: _ClassVar[AttributionSize]
    ATTRIBUTION_SIZE_LAYER: _ClassVar[AttributionSize]
ATTRIBUTION_SIZE_UNSPECIFIED: AttributionSize
ATTRIBUTION_SIZE_INPUT: AttributionSize
ATTRIBUTION_SIZE_LAYER: AttributionSize

class ExtractRequest(_message.Message):
    __slots__ = ("model", "version", "images", "taps", "inputs", "region", "target", "edits")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    TAPS_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    EDITS_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    images: _containers.RepeatedCompositeFieldContainer[_types_pb2.Image]
    taps: _containers.RepeatedCompositeFieldContainer[_types_pb2.Tap]
    inputs: _containers.RepeatedCompositeFieldContainer[_types_pb2.Tensor]
    region: str
    target: Target
    edits: _containers.RepeatedCompositeFieldContainer[_types_pb2.Tap]
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., images: _Optional[_Iterable[_Union[_types_pb2.Image, _Mapping]]] = ..., taps: _Optional[_Iterable[_Union[_types_pb2.Tap, _Mapping]]] = ..., inputs: _Optional[_Iterable[_Union[_types_pb2.Tensor, _Mapping]]] = ..., region: _Optional[str] = ..., target: _Optional[_Union[Target, _Mapping]] = ..., edits: _Optional[_Iterable[_Union[_types_pb2.Tap, _Mapping]]] = ...) -> None: ...

class Target(_message.Message):
    __slots__ = ("tap", "index", "guided")
    TAP_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    GUIDED_FIELD_NUMBER: _ClassVar[int]
    tap: _types_pb2.Tap
    index: _containers.RepeatedCompositeFieldContainer[TargetIndex]
    guided: bool
    def __init__(self, tap: _Optional[_Union[_types_pb2.Tap, _Mapping]] = ..., index: _Optional[_Iterable[_Union[TargetIndex, _Mapping]]] = ..., guided: bool = ...) -> None: ...

class TargetIndex(_message.Message):
    __slots__ = ("number", "label")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    number: int
    label: str
    def __init__(self, number: _Optional[int] = ..., label: _Optional[str] = ...) -> None: ...

class TargetValue(_message.Message):
    __slots__ = ("value", "index", "label")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    value: float
    index: int
    label: str
    def __init__(self, value: _Optional[float] = ..., index: _Optional[int] = ..., label: _Optional[str] = ...) -> None: ...

class ExtractResponse(_message.Message):
    __slots__ = ("features", "model", "version", "timing", "batch_size", "skipped", "assumed_preprocessing", "padding", "target", "targets")
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    ASSUMED_PREPROCESSING_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    features: _containers.RepeatedCompositeFieldContainer[_types_pb2.FeatureMap]
    model: str
    version: str
    timing: _types_pb2.Timing
    batch_size: int
    skipped: _containers.RepeatedCompositeFieldContainer[SkippedLayer]
    assumed_preprocessing: str
    padding: _containers.RepeatedCompositeFieldContainer[ImagePadding]
    target: str
    targets: _containers.RepeatedCompositeFieldContainer[TargetValue]
    def __init__(self, features: _Optional[_Iterable[_Union[_types_pb2.FeatureMap, _Mapping]]] = ..., model: _Optional[str] = ..., version: _Optional[str] = ..., timing: _Optional[_Union[_types_pb2.Timing, _Mapping]] = ..., batch_size: _Optional[int] = ..., skipped: _Optional[_Iterable[_Union[SkippedLayer, _Mapping]]] = ..., assumed_preprocessing: _Optional[str] = ..., padding: _Optional[_Iterable[_Union[ImagePadding, _Mapping]]] = ..., target: _Optional[str] = ..., targets: _Optional[_Iterable[_Union[TargetValue, _Mapping]]] = ...) -> None: ...

class ImagePadding(_message.Message):
    __slots__ = ("bottom", "right")
    BOTTOM_FIELD_NUMBER: _ClassVar[int]
    RIGHT_FIELD_NUMBER: _ClassVar[int]
    bottom: int
    right: int
    def __init__(self, bottom: _Optional[int] = ..., right: _Optional[int] = ...) -> None: ...

class SkippedLayer(_message.Message):
    __slots__ = ("layer", "reason")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    layer: str
    reason: str
    def __init__(self, layer: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ExtractStreamRequest(_message.Message):
    __slots__ = ("open", "image", "batch")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    open: ExtractStreamOpen
    image: ExtractStreamImage
    batch: ExtractStreamBatch
    def __init__(self, open: _Optional[_Union[ExtractStreamOpen, _Mapping]] = ..., image: _Optional[_Union[ExtractStreamImage, _Mapping]] = ..., batch: _Optional[_Union[ExtractStreamBatch, _Mapping]] = ...) -> None: ...

class ExtractStreamOpen(_message.Message):
    __slots__ = ("model", "version", "taps", "chunk_bytes", "target", "edits")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TAPS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_BYTES_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    EDITS_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    taps: _containers.RepeatedCompositeFieldContainer[_types_pb2.Tap]
    chunk_bytes: int
    target: Target
    edits: _containers.RepeatedCompositeFieldContainer[_types_pb2.Tap]
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., taps: _Optional[_Iterable[_Union[_types_pb2.Tap, _Mapping]]] = ..., chunk_bytes: _Optional[int] = ..., target: _Optional[_Union[Target, _Mapping]] = ..., edits: _Optional[_Iterable[_Union[_types_pb2.Tap, _Mapping]]] = ...) -> None: ...

class ExtractStreamImage(_message.Message):
    __slots__ = ("id", "image")
    ID_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    id: str
    image: _types_pb2.Image
    def __init__(self, id: _Optional[str] = ..., image: _Optional[_Union[_types_pb2.Image, _Mapping]] = ...) -> None: ...

class ExtractStreamBatch(_message.Message):
    __slots__ = ("id", "images", "inputs")
    ID_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    id: str
    images: _containers.RepeatedCompositeFieldContainer[_types_pb2.Image]
    inputs: _containers.RepeatedCompositeFieldContainer[_types_pb2.Tensor]
    def __init__(self, id: _Optional[str] = ..., images: _Optional[_Iterable[_Union[_types_pb2.Image, _Mapping]]] = ..., inputs: _Optional[_Iterable[_Union[_types_pb2.Tensor, _Mapping]]] = ...) -> None: ...

class ExtractStreamResponse(_message.Message):
    __slots__ = ("id", "opened", "header", "chunk", "done", "error", "result")
    ID_FIELD_NUMBER: _ClassVar[int]
    OPENED_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    id: str
    opened: ExtractStreamOpened
    header: FeatureHeader
    chunk: FeatureChunk
    done: ExtractStreamDone
    error: ExtractStreamError
    result: ExtractResponse
    def __init__(self, id: _Optional[str] = ..., opened: _Optional[_Union[ExtractStreamOpened, _Mapping]] = ..., header: _Optional[_Union[FeatureHeader, _Mapping]] = ..., chunk: _Optional[_Union[FeatureChunk, _Mapping]] = ..., done: _Optional[_Union[ExtractStreamDone, _Mapping]] = ..., error: _Optional[_Union[ExtractStreamError, _Mapping]] = ..., result: _Optional[_Union[ExtractResponse, _Mapping]] = ...) -> None: ...

class ExtractStreamOpened(_message.Message):
    __slots__ = ("model", "version")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class FeatureHeader(_message.Message):
    __slots__ = ("feature", "total_bytes")
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    feature: _types_pb2.FeatureMap
    total_bytes: int
    def __init__(self, feature: _Optional[_Union[_types_pb2.FeatureMap, _Mapping]] = ..., total_bytes: _Optional[int] = ...) -> None: ...

class FeatureChunk(_message.Message):
    __slots__ = ("feature_index", "offset", "data")
    FEATURE_INDEX_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    feature_index: int
    offset: int
    data: bytes
    def __init__(self, feature_index: _Optional[int] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class ExtractStreamDone(_message.Message):
    __slots__ = ("timing", "batch_size", "skipped", "assumed_preprocessing", "padding", "target", "targets")
    TIMING_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    ASSUMED_PREPROCESSING_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    timing: _types_pb2.Timing
    batch_size: int
    skipped: _containers.RepeatedCompositeFieldContainer[SkippedLayer]
    assumed_preprocessing: str
    padding: _containers.RepeatedCompositeFieldContainer[ImagePadding]
    target: str
    targets: _containers.RepeatedCompositeFieldContainer[TargetValue]
    def __init__(self, timing: _Optional[_Union[_types_pb2.Timing, _Mapping]] = ..., batch_size: _Optional[int] = ..., skipped: _Optional[_Iterable[_Union[SkippedLayer, _Mapping]]] = ..., assumed_preprocessing: _Optional[str] = ..., padding: _Optional[_Iterable[_Union[ImagePadding, _Mapping]]] = ..., target: _Optional[str] = ..., targets: _Optional[_Iterable[_Union[TargetValue, _Mapping]]] = ...) -> None: ...

class ExtractStreamError(_message.Message):
    __slots__ = ("code", "message", "reason", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    reason: str
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., reason: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class PreviewExtractRequest(_message.Message):
    __slots__ = ("model", "version", "taps", "image_count", "target", "edits", "feeds")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TAPS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    EDITS_FIELD_NUMBER: _ClassVar[int]
    FEEDS_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    taps: _containers.RepeatedCompositeFieldContainer[_types_pb2.Tap]
    image_count: int
    target: Target
    edits: _containers.RepeatedCompositeFieldContainer[_types_pb2.Tap]
    feeds: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., taps: _Optional[_Iterable[_Union[_types_pb2.Tap, _Mapping]]] = ..., image_count: _Optional[int] = ..., target: _Optional[_Union[Target, _Mapping]] = ..., edits: _Optional[_Iterable[_Union[_types_pb2.Tap, _Mapping]]] = ..., feeds: _Optional[_Iterable[str]] = ...) -> None: ...

class PreviewExtractResponse(_message.Message):
    __slots__ = ("model", "version", "features", "total_bytes", "macs_per_image", "warm", "operations", "looks_across_images", "skipped")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    MACS_PER_IMAGE_FIELD_NUMBER: _ClassVar[int]
    WARM_FIELD_NUMBER: _ClassVar[int]
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    LOOKS_ACROSS_IMAGES_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    features: _containers.RepeatedCompositeFieldContainer[PreviewedFeature]
    total_bytes: int
    macs_per_image: int
    warm: bool
    operations: int
    looks_across_images: bool
    skipped: _containers.RepeatedCompositeFieldContainer[SkippedLayer]
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., features: _Optional[_Iterable[_Union[PreviewedFeature, _Mapping]]] = ..., total_bytes: _Optional[int] = ..., macs_per_image: _Optional[int] = ..., warm: bool = ..., operations: _Optional[int] = ..., looks_across_images: bool = ..., skipped: _Optional[_Iterable[_Union[SkippedLayer, _Mapping]]] = ...) -> None: ...

class PreviewedFeature(_message.Message):
    __slots__ = ("name", "layer", "dtype", "shape", "bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    layer: str
    dtype: _types_pb2.DataType
    shape: _containers.RepeatedScalarFieldContainer[int]
    bytes: int
    def __init__(self, name: _Optional[str] = ..., layer: _Optional[str] = ..., dtype: _Optional[_Union[_types_pb2.DataType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., bytes: _Optional[int] = ...) -> None: ...

class InspectLayersRequest(_message.Message):
    __slots__ = ("model", "version", "images", "selectors", "inputs", "edits")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    SELECTORS_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    EDITS_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    images: _containers.RepeatedCompositeFieldContainer[_types_pb2.Image]
    selectors: _containers.RepeatedScalarFieldContainer[str]
    inputs: _containers.RepeatedCompositeFieldContainer[_types_pb2.Tensor]
    edits: _containers.RepeatedCompositeFieldContainer[_types_pb2.Tap]
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., images: _Optional[_Iterable[_Union[_types_pb2.Image, _Mapping]]] = ..., selectors: _Optional[_Iterable[str]] = ..., inputs: _Optional[_Iterable[_Union[_types_pb2.Tensor, _Mapping]]] = ..., edits: _Optional[_Iterable[_Union[_types_pb2.Tap, _Mapping]]] = ...) -> None: ...

class InspectLayersResponse(_message.Message):
    __slots__ = ("model", "version", "layers", "assumed_preprocessing")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    ASSUMED_PREPROCESSING_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    layers: _containers.RepeatedCompositeFieldContainer[LayerStatistics]
    assumed_preprocessing: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., layers: _Optional[_Iterable[_Union[LayerStatistics, _Mapping]]] = ..., assumed_preprocessing: _Optional[str] = ...) -> None: ...

class LayerStatistics(_message.Message):
    __slots__ = ("layer", "min", "max", "mean", "standard_deviation", "zero_fraction", "saturated_fraction", "dead_channels", "nan_count", "inf_count", "l2_norm")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    MIN_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    STANDARD_DEVIATION_FIELD_NUMBER: _ClassVar[int]
    ZERO_FRACTION_FIELD_NUMBER: _ClassVar[int]
    SATURATED_FRACTION_FIELD_NUMBER: _ClassVar[int]
    DEAD_CHANNELS_FIELD_NUMBER: _ClassVar[int]
    NAN_COUNT_FIELD_NUMBER: _ClassVar[int]
    INF_COUNT_FIELD_NUMBER: _ClassVar[int]
    L2_NORM_FIELD_NUMBER: _ClassVar[int]
    layer: str
    min: float
    max: float
    mean: float
    standard_deviation: float
    zero_fraction: float
    saturated_fraction: float
    dead_channels: int
    nan_count: int
    inf_count: int
    l2_norm: float
    def __init__(self, layer: _Optional[str] = ..., min: _Optional[float] = ..., max: _Optional[float] = ..., mean: _Optional[float] = ..., standard_deviation: _Optional[float] = ..., zero_fraction: _Optional[float] = ..., saturated_fraction: _Optional[float] = ..., dead_channels: _Optional[int] = ..., nan_count: _Optional[int] = ..., inf_count: _Optional[int] = ..., l2_norm: _Optional[float] = ...) -> None: ...

class AttributeRequest(_message.Message):
    __slots__ = ("model", "version", "images", "inputs", "method", "layer", "target", "size", "chunk_bytes", "edits")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_BYTES_FIELD_NUMBER: _ClassVar[int]
    EDITS_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    images: _containers.RepeatedCompositeFieldContainer[_types_pb2.Image]
    inputs: _containers.RepeatedCompositeFieldContainer[_types_pb2.Tensor]
    method: str
    layer: str
    target: Target
    size: AttributionSize
    chunk_bytes: int
    edits: _containers.RepeatedCompositeFieldContainer[_types_pb2.Tap]
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., images: _Optional[_Iterable[_Union[_types_pb2.Image, _Mapping]]] = ..., inputs: _Optional[_Iterable[_Union[_types_pb2.Tensor, _Mapping]]] = ..., method: _Optional[str] = ..., layer: _Optional[str] = ..., target: _Optional[_Union[Target, _Mapping]] = ..., size: _Optional[_Union[AttributionSize, str]] = ..., chunk_bytes: _Optional[int] = ..., edits: _Optional[_Iterable[_Union[_types_pb2.Tap, _Mapping]]] = ...) -> None: ...

class AttributeResponse(_message.Message):
    __slots__ = ("header", "chunk")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: AttributionHeader
    chunk: FeatureChunk
    def __init__(self, header: _Optional[_Union[AttributionHeader, _Mapping]] = ..., chunk: _Optional[_Union[FeatureChunk, _Mapping]] = ...) -> None: ...

class AttributionHeader(_message.Message):
    __slots__ = ("tensor", "total_bytes", "model", "version", "method", "layer", "target", "targets", "missing", "warning", "assumed_preprocessing")
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    WARNING_FIELD_NUMBER: _ClassVar[int]
    ASSUMED_PREPROCESSING_FIELD_NUMBER: _ClassVar[int]
    tensor: _types_pb2.Tensor
    total_bytes: int
    model: str
    version: str
    method: str
    layer: str
    target: str
    targets: _containers.RepeatedCompositeFieldContainer[TargetValue]
    missing: _containers.RepeatedScalarFieldContainer[float]
    warning: str
    assumed_preprocessing: str
    def __init__(self, tensor: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., total_bytes: _Optional[int] = ..., model: _Optional[str] = ..., version: _Optional[str] = ..., method: _Optional[str] = ..., layer: _Optional[str] = ..., target: _Optional[str] = ..., targets: _Optional[_Iterable[_Union[TargetValue, _Mapping]]] = ..., missing: _Optional[_Iterable[float]] = ..., warning: _Optional[str] = ..., assumed_preprocessing: _Optional[str] = ...) -> None: ...

class ApplyBlocksRequest(_message.Message):
    __slots__ = ("tensor", "layout", "expression", "blocks", "gradient")
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    EXPRESSION_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_FIELD_NUMBER: _ClassVar[int]
    tensor: _types_pb2.Tensor
    layout: _types_pb2.Layout
    expression: str
    blocks: BlockList
    gradient: _types_pb2.Tensor
    def __init__(self, tensor: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., layout: _Optional[_Union[_types_pb2.Layout, str]] = ..., expression: _Optional[str] = ..., blocks: _Optional[_Union[BlockList, _Mapping]] = ..., gradient: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ...) -> None: ...

class BlockList(_message.Message):
    __slots__ = ("blocks",)
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    blocks: _containers.RepeatedCompositeFieldContainer[_types_pb2.Block]
    def __init__(self, blocks: _Optional[_Iterable[_Union[_types_pb2.Block, _Mapping]]] = ...) -> None: ...

class ApplyBlocksResponse(_message.Message):
    __slots__ = ("feature",)
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    feature: _types_pb2.FeatureMap
    def __init__(self, feature: _Optional[_Union[_types_pb2.FeatureMap, _Mapping]] = ...) -> None: ...

class ApplyBlocksStreamRequest(_message.Message):
    __slots__ = ("request", "chunk_bytes")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    CHUNK_BYTES_FIELD_NUMBER: _ClassVar[int]
    request: ApplyBlocksRequest
    chunk_bytes: int
    def __init__(self, request: _Optional[_Union[ApplyBlocksRequest, _Mapping]] = ..., chunk_bytes: _Optional[int] = ...) -> None: ...

class ApplyBlocksStreamResponse(_message.Message):
    __slots__ = ("header", "chunk")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: FeatureHeader
    chunk: FeatureChunk
    def __init__(self, header: _Optional[_Union[FeatureHeader, _Mapping]] = ..., chunk: _Optional[_Union[FeatureChunk, _Mapping]] = ...) -> None: ...

class GetWeightsRequest(_message.Message):
    __slots__ = ("model", "version", "layer", "chunk_bytes")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_BYTES_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    layer: str
    chunk_bytes: int
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., layer: _Optional[str] = ..., chunk_bytes: _Optional[int] = ...) -> None: ...

class GetWeightsResponse(_message.Message):
    __slots__ = ("header", "chunk")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: WeightHeader
    chunk: FeatureChunk
    def __init__(self, header: _Optional[_Union[WeightHeader, _Mapping]] = ..., chunk: _Optional[_Union[FeatureChunk, _Mapping]] = ...) -> None: ...

class WeightHeader(_message.Message):
    __slots__ = ("tensor", "total_bytes", "count")
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    tensor: _types_pb2.Tensor
    total_bytes: int
    count: int
    def __init__(self, tensor: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., total_bytes: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...
