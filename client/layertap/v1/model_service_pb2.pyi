from layertap.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ModelState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_STATE_UNSPECIFIED: _ClassVar[ModelState]
    MODEL_STATE_LOADING: _ClassVar[ModelState]
    MODEL_STATE_READY: _ClassVar[ModelState]
    MODEL_STATE_FAILED: _ClassVar[ModelState]
    MODEL_STATE_UNLOADED: _ClassVar[ModelState]

class Batching(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BATCHING_UNSPECIFIED: _ClassVar[Batching]
    BATCHING_JOINED: _ClassVar[Batching]
    BATCHING_ONE_IMAGE: _ClassVar[Batching]
    BATCHING_ONE_REQUEST: _ClassVar[Batching]

class BlockKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BLOCK_KIND_UNSPECIFIED: _ClassVar[BlockKind]
    BLOCK_KIND_ACTIVATION: _ClassVar[BlockKind]
    BLOCK_KIND_POOLING: _ClassVar[BlockKind]
    BLOCK_KIND_NORMALIZATION: _ClassVar[BlockKind]
    BLOCK_KIND_CONVOLUTION: _ClassVar[BlockKind]
    BLOCK_KIND_SHAPE: _ClassVar[BlockKind]
    BLOCK_KIND_LOSS: _ClassVar[BlockKind]
MODEL_STATE_UNSPECIFIED: ModelState
MODEL_STATE_LOADING: ModelState
MODEL_STATE_READY: ModelState
MODEL_STATE_FAILED: ModelState
MODEL_STATE_UNLOADED: ModelState
BATCHING_UNSPECIFIED: Batching
BATCHING_JOINED: Batching
BATCHING_ONE_IMAGE: Batching
BATCHING_ONE_REQUEST: Batching
BLOCK_KIND_UNSPECIFIED: BlockKind
BLOCK_KIND_ACTIVATION: BlockKind
BLOCK_KIND_POOLING: BlockKind
BLOCK_KIND_NORMALIZATION: BlockKind
BLOCK_KIND_CONVOLUTION: BlockKind
BLOCK_KIND_SHAPE: BlockKind
BLOCK_KIND_LOSS: BlockKind

class TensorInfo(_message.Message):
    __slots__ = ("name", "dtype", "shape", "layout")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: _types_pb2.DataType
    shape: _containers.RepeatedScalarFieldContainer[int]
    layout: _types_pb2.Layout
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[_Union[_types_pb2.DataType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., layout: _Optional[_Union[_types_pb2.Layout, str]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "version", "state", "reason", "description", "license", "inputs", "outputs", "preprocessing", "preprocessing_assumed", "labels", "stages", "aliases", "heads", "default_taps", "layer_count", "device", "max_batch", "surgery", "facts", "warnings", "input_line")
    class AliasesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class HeadsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    LICENSE_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    PREPROCESSING_FIELD_NUMBER: _ClassVar[int]
    PREPROCESSING_ASSUMED_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_TAPS_FIELD_NUMBER: _ClassVar[int]
    LAYER_COUNT_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_FIELD_NUMBER: _ClassVar[int]
    SURGERY_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    INPUT_LINE_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    state: ModelState
    reason: str
    description: str
    license: str
    inputs: _containers.RepeatedCompositeFieldContainer[TensorInfo]
    outputs: _containers.RepeatedCompositeFieldContainer[TensorInfo]
    preprocessing: str
    preprocessing_assumed: bool
    labels: _containers.RepeatedScalarFieldContainer[str]
    stages: _containers.RepeatedScalarFieldContainer[str]
    aliases: _containers.ScalarMap[str, str]
    heads: _containers.ScalarMap[str, str]
    default_taps: _containers.RepeatedScalarFieldContainer[str]
    layer_count: int
    device: str
    max_batch: int
    surgery: _containers.RepeatedScalarFieldContainer[str]
    facts: _containers.RepeatedCompositeFieldContainer[ModelFact]
    warnings: _containers.RepeatedScalarFieldContainer[str]
    input_line: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., state: _Optional[_Union[ModelState, str]] = ..., reason: _Optional[str] = ..., description: _Optional[str] = ..., license: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[TensorInfo, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[TensorInfo, _Mapping]]] = ..., preprocessing: _Optional[str] = ..., preprocessing_assumed: bool = ..., labels: _Optional[_Iterable[str]] = ..., stages: _Optional[_Iterable[str]] = ..., aliases: _Optional[_Mapping[str, str]] = ..., heads: _Optional[_Mapping[str, str]] = ..., default_taps: _Optional[_Iterable[str]] = ..., layer_count: _Optional[int] = ..., device: _Optional[str] = ..., max_batch: _Optional[int] = ..., surgery: _Optional[_Iterable[str]] = ..., facts: _Optional[_Iterable[_Union[ModelFact, _Mapping]]] = ..., warnings: _Optional[_Iterable[str]] = ..., input_line: _Optional[str] = ...) -> None: ...

class ModelFact(_message.Message):
    __slots__ = ("name", "value", "source")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    source: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ..., source: _Optional[str] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("model", "version")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class ListLayersRequest(_message.Message):
    __slots__ = ("model", "version", "selector", "image_height", "image_width")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    IMAGE_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_WIDTH_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    selector: str
    image_height: int
    image_width: int
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., selector: _Optional[str] = ..., image_height: _Optional[int] = ..., image_width: _Optional[int] = ...) -> None: ...

class ListLayersResponse(_message.Message):
    __slots__ = ("model", "version", "layers")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    layers: _containers.RepeatedCompositeFieldContainer[Layer]
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., layers: _Optional[_Iterable[_Union[Layer, _Mapping]]] = ...) -> None: ...

class ReceptiveField(_message.Message):
    __slots__ = ("size", "stride", "offset")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    STRIDE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    size: int
    stride: float
    offset: float
    def __init__(self, size: _Optional[int] = ..., stride: _Optional[float] = ..., offset: _Optional[float] = ...) -> None: ...

class TokenGrid(_message.Message):
    __slots__ = ("prefix", "height", "width")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    prefix: int
    height: int
    width: int
    def __init__(self, prefix: _Optional[int] = ..., height: _Optional[int] = ..., width: _Optional[int] = ...) -> None: ...

class Weight(_message.Message):
    __slots__ = ("name", "dtype", "shape")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: _types_pb2.DataType
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[_Union[_types_pb2.DataType, str]] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...

class Layer(_message.Message):
    __slots__ = ("name", "node", "op_type", "module_path", "ordinal", "dtype", "symbolic_shape", "shape", "layout", "channels", "stride", "receptive_field", "parameters", "macs", "bytes_per_image", "tappable", "not_tappable_reason", "output_index", "tokens", "batching", "stage", "block", "activation", "attention", "batching_reason", "weights")
    NAME_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    OP_TYPE_FIELD_NUMBER: _ClassVar[int]
    MODULE_PATH_FIELD_NUMBER: _ClassVar[int]
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SYMBOLIC_SHAPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    STRIDE_FIELD_NUMBER: _ClassVar[int]
    RECEPTIVE_FIELD_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    MACS_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_IMAGE_FIELD_NUMBER: _ClassVar[int]
    TAPPABLE_FIELD_NUMBER: _ClassVar[int]
    NOT_TAPPABLE_REASON_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_INDEX_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    BATCHING_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    ACTIVATION_FIELD_NUMBER: _ClassVar[int]
    ATTENTION_FIELD_NUMBER: _ClassVar[int]
    BATCHING_REASON_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    node: str
    op_type: str
    module_path: str
    ordinal: int
    dtype: _types_pb2.DataType
    symbolic_shape: _containers.RepeatedScalarFieldContainer[str]
    shape: _containers.RepeatedScalarFieldContainer[int]
    layout: _types_pb2.Layout
    channels: int
    stride: float
    receptive_field: ReceptiveField
    parameters: int
    macs: int
    bytes_per_image: int
    tappable: bool
    not_tappable_reason: str
    output_index: int
    tokens: TokenGrid
    batching: Batching
    stage: int
    block: int
    activation: str
    attention: int
    batching_reason: str
    weights: _containers.RepeatedCompositeFieldContainer[Weight]
    def __init__(self, name: _Optional[str] = ..., node: _Optional[str] = ..., op_type: _Optional[str] = ..., module_path: _Optional[str] = ..., ordinal: _Optional[int] = ..., dtype: _Optional[_Union[_types_pb2.DataType, str]] = ..., symbolic_shape: _Optional[_Iterable[str]] = ..., shape: _Optional[_Iterable[int]] = ..., layout: _Optional[_Union[_types_pb2.Layout, str]] = ..., channels: _Optional[int] = ..., stride: _Optional[float] = ..., receptive_field: _Optional[_Union[ReceptiveField, _Mapping]] = ..., parameters: _Optional[int] = ..., macs: _Optional[int] = ..., bytes_per_image: _Optional[int] = ..., tappable: bool = ..., not_tappable_reason: _Optional[str] = ..., output_index: _Optional[int] = ..., tokens: _Optional[_Union[TokenGrid, _Mapping]] = ..., batching: _Optional[_Union[Batching, str]] = ..., stage: _Optional[int] = ..., block: _Optional[int] = ..., activation: _Optional[str] = ..., attention: _Optional[int] = ..., batching_reason: _Optional[str] = ..., weights: _Optional[_Iterable[_Union[Weight, _Mapping]]] = ...) -> None: ...

class ListBlocksRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListBlocksResponse(_message.Message):
    __slots__ = ("blocks",)
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    blocks: _containers.RepeatedCompositeFieldContainer[BlockSpec]
    def __init__(self, blocks: _Optional[_Iterable[_Union[BlockSpec, _Mapping]]] = ...) -> None: ...

class BlockSpec(_message.Message):
    __slots__ = ("name", "aliases", "kind", "summary", "formula", "shape_rule", "parameters", "source", "properties", "across_images")
    class PropertiesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class AcrossImagesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ParameterValues
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ParameterValues, _Mapping]] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    FORMULA_FIELD_NUMBER: _ClassVar[int]
    SHAPE_RULE_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    PROPERTIES_FIELD_NUMBER: _ClassVar[int]
    ACROSS_IMAGES_FIELD_NUMBER: _ClassVar[int]
    name: str
    aliases: _containers.RepeatedScalarFieldContainer[str]
    kind: BlockKind
    summary: str
    formula: str
    shape_rule: str
    parameters: _containers.RepeatedCompositeFieldContainer[ParameterSpec]
    source: str
    properties: _containers.ScalarMap[str, str]
    across_images: _containers.MessageMap[str, ParameterValues]
    def __init__(self, name: _Optional[str] = ..., aliases: _Optional[_Iterable[str]] = ..., kind: _Optional[_Union[BlockKind, str]] = ..., summary: _Optional[str] = ..., formula: _Optional[str] = ..., shape_rule: _Optional[str] = ..., parameters: _Optional[_Iterable[_Union[ParameterSpec, _Mapping]]] = ..., source: _Optional[str] = ..., properties: _Optional[_Mapping[str, str]] = ..., across_images: _Optional[_Mapping[str, ParameterValues]] = ...) -> None: ...

class ParameterValues(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, values: _Optional[_Iterable[str]] = ...) -> None: ...

class ParameterSpec(_message.Message):
    __slots__ = ("name", "type", "required", "default_value", "choices", "minimum", "maximum", "description", "longest")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_VALUE_FIELD_NUMBER: _ClassVar[int]
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    LONGEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    required: bool
    default_value: _types_pb2.BlockParameter
    choices: _containers.RepeatedScalarFieldContainer[str]
    minimum: float
    maximum: float
    description: str
    longest: int
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ..., required: bool = ..., default_value: _Optional[_Union[_types_pb2.BlockParameter, _Mapping]] = ..., choices: _Optional[_Iterable[str]] = ..., minimum: _Optional[float] = ..., maximum: _Optional[float] = ..., description: _Optional[str] = ..., longest: _Optional[int] = ...) -> None: ...

class LoadModelRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class LoadModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class UnloadModelRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class UnloadModelResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
