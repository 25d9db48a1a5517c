"""Encode and decode models and their layers."""

from __future__ import annotations

from layertap.types import (
    Batching,
    LayerInfo,
    ListLayersResponse,
    ModelFact,
    ModelInfo,
    ModelState,
    ReceptiveField,
    TensorInfo,
    TokenGrid,
    WeightInfo,
)
from layertap.v1 import model_service_pb2 as pb
from layertap.wire._tensors import decode_dtype, decode_layout, encode_dtype, encode_layout

_STATE_PREFIX = "MODEL_STATE_"
"""Prefix of the values of the enumeration ``ModelState``."""
_BATCHING_PREFIX = "BATCHING_"
"""Prefix of the values of the enumeration ``Batching``."""


def encode_model(model: ModelInfo) -> pb.Model:
    """Encode a model."""
    return pb.Model(
        name=model.name,
        version=model.version,
        state=_STATE_PREFIX + model.state.name,
        reason=model.reason,
        description=model.description,
        license=model.license,
        inputs=[_encode_tensor_info(info) for info in model.inputs],
        outputs=[_encode_tensor_info(info) for info in model.outputs],
        preprocessing=model.preprocessing,
        preprocessing_assumed=model.preprocessing_assumed,
        labels=model.labels,
        stages=model.stages,
        aliases=model.aliases,
        heads=model.heads,
        default_taps=model.default_taps,
        layer_count=model.layer_count,
        device=model.device,
        max_batch=model.max_batch,
        surgery=model.surgery,
        facts=[pb.ModelFact(name=fact.name, value=fact.value, source=fact.source) for fact in model.facts],
        warnings=model.warnings,
        input_line=model.input_line,
    )


def decode_model(message: pb.Model) -> ModelInfo:
    """Decode a model."""
    return ModelInfo(
        name=message.name,
        version=message.version,
        state=ModelState[pb.ModelState.Name(message.state).removeprefix(_STATE_PREFIX)],
        reason=message.reason,
        description=message.description,
        license=message.license,
        inputs=tuple(_decode_tensor_info(info) for info in message.inputs),
        outputs=tuple(_decode_tensor_info(info) for info in message.outputs),
        preprocessing=message.preprocessing,
        preprocessing_assumed=message.preprocessing_assumed,
        labels=tuple(message.labels),
        stages=tuple(message.stages),
        aliases=dict(message.aliases),
        heads=dict(message.heads),
        default_taps=tuple(message.default_taps),
        layer_count=message.layer_count,
        device=message.device,
        max_batch=message.max_batch,
        surgery=tuple(message.surgery),
        facts=tuple(ModelFact(fact.name, fact.value, fact.source) for fact in message.facts),
        warnings=tuple(message.warnings),
        input_line=message.input_line,
    )


def encode_layers(response: ListLayersResponse) -> pb.ListLayersResponse:
    """Encode a list of layers."""
    layers = map(encode_layer, response.layers)
    return pb.ListLayersResponse(model=response.model, version=response.version, layers=layers)


def decode_layers(message: pb.ListLayersResponse) -> ListLayersResponse:
    """Decode a list of layers."""
    return ListLayersResponse(message.model, message.version, [decode_layer(layer) for layer in message.layers])


def _encode_tensor_info(info: TensorInfo) -> pb.TensorInfo:
    """Encode an input or output of a model."""
    layout = encode_layout(info.layout)
    return pb.TensorInfo(name=info.name, dtype=encode_dtype(info.dtype), shape=info.shape, layout=layout)


def _decode_tensor_info(message: pb.TensorInfo) -> TensorInfo:
    """Decode an input or output of a model."""
    dtype, layout = decode_dtype(message.dtype), decode_layout(message.layout)
    return TensorInfo(name=message.name, dtype=dtype, shape=tuple(message.shape), layout=layout)


def encode_layer(layer: LayerInfo) -> pb.Layer:
    """Encode a layer."""
    return pb.Layer(
        name=layer.name,
        node=layer.node,
        op_type=layer.op_type,
        module_path=layer.module_path,
        ordinal=layer.ordinal,
        dtype=encode_dtype(layer.dtype),
        symbolic_shape=layer.symbolic_shape,
        shape=layer.shape,
        layout=encode_layout(layer.layout),
        channels=layer.channels,
        stride=layer.stride,
        receptive_field=_encode_receptive_field(layer.receptive_field),
        tokens=_encode_token_grid(layer.tokens),
        parameters=layer.parameters,
        macs=layer.macs,
        bytes_per_image=layer.bytes_per_image,
        tappable=layer.tappable,
        not_tappable_reason=layer.not_tappable_reason,
        output_index=layer.output_index,
        batching=_BATCHING_PREFIX + layer.batching.name if layer.batching else None,
        stage=layer.stage,
        block=layer.block,
        activation=layer.activation,
        attention=layer.attention,
        batching_reason=layer.batching_reason,
        weights=[
            pb.Weight(name=weight.name, dtype=encode_dtype(weight.dtype), shape=weight.shape)
            for weight in layer.weights
        ],
    )


def decode_layer(message: pb.Layer) -> LayerInfo:
    """Decode a layer."""
    return LayerInfo(
        name=message.name,
        node=message.node,
        op_type=message.op_type,
        module_path=message.module_path,
        ordinal=message.ordinal,
        dtype=decode_dtype(message.dtype),
        symbolic_shape=tuple(message.symbolic_shape),
        shape=tuple(message.shape),
        layout=decode_layout(message.layout),
        channels=message.channels if message.HasField("channels") else None,
        stride=message.stride if message.HasField("stride") else None,
        receptive_field=_decode_receptive_field(message),
        tokens=_decode_token_grid(message),
        parameters=message.parameters if message.HasField("parameters") else None,
        macs=message.macs if message.HasField("macs") else None,
        bytes_per_image=message.bytes_per_image if message.HasField("bytes_per_image") else None,
        not_tappable_reason=message.not_tappable_reason,
        output_index=message.output_index,
        batching=_decode_batching(message.batching),
        stage=message.stage if message.HasField("stage") else None,
        block=message.block if message.HasField("block") else None,
        activation=message.activation,
        attention=message.attention if message.HasField("attention") else None,
        batching_reason=message.batching_reason,
        weights=tuple(
            WeightInfo(weight.name, decode_dtype(weight.dtype), tuple(weight.shape)) for weight in message.weights
        ),
    )


def _decode_batching(number: int) -> Batching | None:
    """Decode the batching of a layer; return None for a number unknown to this version."""
    name = pb.Batching.Name(number) if number in pb.Batching.values() else ""
    return Batching.__members__.get(name.removeprefix(_BATCHING_PREFIX))


def _encode_receptive_field(field: ReceptiveField | None) -> pb.ReceptiveField | None:
    """Encode a receptive field."""
    return None if field is None else pb.ReceptiveField(size=field.size, stride=field.stride, offset=field.offset)


def _decode_receptive_field(message: pb.Layer) -> ReceptiveField | None:
    """Decode the receptive field of a layer."""
    field = message.receptive_field
    return ReceptiveField(field.size, field.stride, field.offset) if message.HasField("receptive_field") else None


def _encode_token_grid(grid: TokenGrid | None) -> pb.TokenGrid | None:
    """Encode the arrangement of tokens."""
    return None if grid is None else pb.TokenGrid(prefix=grid.prefix, height=grid.height, width=grid.width)


def _decode_token_grid(message: pb.Layer) -> TokenGrid | None:
    """Decode the arrangement of a layer's tokens."""
    grid = message.tokens
    return TokenGrid(grid.prefix, grid.height, grid.width) if message.HasField("tokens") else None
