"""Encode and decode taps, blocks and the block catalogue."""

from __future__ import annotations

from layertap.blocks.parameter import Parameter, ParameterType
from layertap.blocks.spec import BlockKind, BlockSpec
from layertap.errors import BadParameterError, TapSyntaxError
from layertap.types import Block, Tap, Value
from layertap.v1 import model_service_pb2 as model_pb
from layertap.v1 import types_pb2 as pb

_KIND_PREFIX = "BLOCK_KIND_"
"""Prefix of the values of the enumeration ``BlockKind``."""


def encode_tap(tap: Tap | str) -> pb.Tap:
    """Encode a tap; an expression is sent as text."""
    if isinstance(tap, str):
        return pb.Tap(expression=tap)
    blocks = [encode_block(block) for block in tap.blocks]
    return pb.Tap(spec=pb.TapSpec(selector=tap.selector, blocks=blocks, name=tap.name))


def decode_tap(message: pb.Tap) -> Tap | str:
    """Decode a tap.

    Raises:
        TapSyntaxError: the message has neither an expression nor a spec.
    """
    match message.WhichOneof("tap"):
        case "expression":
            return message.expression
        case "spec":
            spec = message.spec
            return Tap(spec.selector, tuple(decode_block(block) for block in spec.blocks), spec.name)
    raise TapSyntaxError("the tap is empty: give an expression or a spec", position=0)


def encode_block(block: Block) -> pb.Block:
    """Encode a block."""
    return pb.Block(name=block.name, parameters={key: encode_value(value) for key, value in block.parameters.items()})


def decode_block(message: pb.Block) -> Block:
    """Decode a block."""
    return Block(message.name, {key: decode_value(value) for key, value in message.parameters.items()})


def encode_value(value: Value) -> pb.BlockParameter:
    """Encode a parameter's value.

    Raises:
        BadParameterError: an integer has more than 64 bits.
    """
    if isinstance(value, bool):
        return pb.BlockParameter(boolean=value)
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise BadParameterError(
                f"expected an integer of at most 64 bits as a block's parameter, got {value.bit_length()} bits"
            )
        return pb.BlockParameter(integer=value)
    if isinstance(value, float):
        return pb.BlockParameter(number=value)
    if isinstance(value, str):
        return pb.BlockParameter(text=value)
    return pb.BlockParameter(list=pb.BlockParameterList(values=[encode_value(item) for item in value]))


def decode_value(message: pb.BlockParameter) -> Value:
    """Decode a parameter's value.

    Raises:
        BadParameterError: the message has no value.
    """
    match message.WhichOneof("value"):
        case "boolean":
            return message.boolean
        case "integer":
            return message.integer
        case "number":
            return message.number
        case "text":
            return message.text
        case "list":
            return tuple(decode_value(item) for item in message.list.values)
    raise BadParameterError("a block's parameter has no value")


def encode_block_spec(spec: BlockSpec) -> model_pb.BlockSpec:
    """Encode an entry of the block catalogue."""
    across = {name: model_pb.ParameterValues(values=values) for name, values in spec.across_images.items()}
    return model_pb.BlockSpec(
        name=spec.name,
        aliases=spec.aliases,
        kind=_KIND_PREFIX + spec.kind.name,
        summary=spec.summary,
        formula=spec.formula,
        shape_rule=spec.shape_rule,
        parameters=[_encode_parameter(parameter) for parameter in spec.parameters],
        source=spec.source,
        properties=spec.properties,
        across_images=across,
    )


def decode_block_spec(message: model_pb.BlockSpec) -> BlockSpec:
    """Decode an entry of the block catalogue."""
    return BlockSpec(
        name=message.name,
        kind=BlockKind[model_pb.BlockKind.Name(message.kind).removeprefix(_KIND_PREFIX)],
        summary=message.summary,
        formula=message.formula,
        aliases=tuple(message.aliases),
        parameters=tuple(_decode_parameter(parameter) for parameter in message.parameters),
        shape_rule=message.shape_rule,
        source=message.source,
        properties=dict(message.properties),
        across_images={name: tuple(item.values) for name, item in message.across_images.items()},
    )


def _encode_parameter(parameter: Parameter) -> model_pb.ParameterSpec:
    message = model_pb.ParameterSpec(
        name=parameter.name,
        type=parameter.type.value,
        required=parameter.required,
        choices=parameter.choices,
        description=parameter.doc,
        minimum=parameter.minimum,
        maximum=parameter.maximum,
        longest=parameter.longest,
    )
    if parameter.default is not None:
        message.default_value.CopyFrom(encode_value(parameter.default))
    return message


def _decode_parameter(message: model_pb.ParameterSpec) -> Parameter:
    return Parameter(
        name=message.name,
        type=ParameterType(message.type),
        default=decode_value(message.default_value) if message.HasField("default_value") else None,
        required=message.required,
        choices=tuple(message.choices),
        minimum=message.minimum if message.HasField("minimum") else None,
        maximum=message.maximum if message.HasField("maximum") else None,
        longest=message.longest,
        doc=message.description,
    )
