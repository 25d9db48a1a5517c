"""Encode and decode the targets of gradients, and edits."""

from __future__ import annotations

from collections.abc import Iterable

from layertap.errors import BadTargetError, LayertapError
from layertap.types import Tap, Target, TargetValue
from layertap.v1 import feature_service_pb2 as pb
from layertap.v1 import types_pb2 as types_pb
from layertap.wire._blocks import decode_tap, encode_tap

LARGEST = 2**63 - 1
"""Maximum index that the message's field can hold."""


def encode_target(target: Target) -> pb.Target | None:
    """Encode a target; None for the model's default target.

    Raises:
        BadTargetError: an index is negative or too large.
    """
    if target == Target():
        return None
    tap = encode_tap(target.tap) if target.tap else None
    return pb.Target(tap=tap, index=[_encode_index(index) for index in target.index], guided=target.guided)


def _encode_index(index: int | str) -> pb.TargetIndex:
    """Encode the choice of one number of a target's vector."""
    if isinstance(index, str):
        return pb.TargetIndex(label=index)
    if not 0 <= index <= LARGEST:
        raise BadTargetError(f"expected a target index of at least 0, got {index}", field="target.index")
    return pb.TargetIndex(number=index)


def decode_target(message: pb.Target) -> Target:
    """Decode a target.

    Raises:
        TapSyntaxError, BadParameterError: the tap is invalid.
        BadTargetError: an index is empty.
    """
    try:
        tap = decode_tap(message.tap) if message.HasField("tap") else ""
    except LayertapError as error:
        raise error.about_field("target") from None
    return Target(tap, tuple(_decode_index(index) for index in message.index), message.guided)


def _decode_index(message: pb.TargetIndex) -> int | str:
    """Decode the choice of one number of a target's vector."""
    match message.WhichOneof("choice"):
        case "number":
            return message.number
        case "label":
            return message.label
    raise BadTargetError("a target index is empty: give a number or a label", field="target.index")


def decode_edits(messages: Iterable[types_pb.Tap]) -> tuple[Tap | str, ...]:
    """Decode edits; errors name the position."""
    return tuple(_decode_edit(message, index) for index, message in enumerate(messages))


def _decode_edit(message: types_pb.Tap, index: int) -> Tap | str:
    """Decode the edit at position ``index`` of a request."""
    try:
        return decode_tap(message)
    except LayertapError as error:
        raise error.about_field(f"edits[{index}]") from None


def encode_target_values(values: Iterable[TargetValue]) -> list[pb.TargetValue]:
    """Encode the targets of images."""
    return [pb.TargetValue(value=one.value, index=one.index, label=one.label) for one in values]


def decode_target_values(messages: Iterable[pb.TargetValue]) -> tuple[TargetValue, ...]:
    """Decode the targets of images."""
    return tuple(TargetValue(one.value, one.index if one.HasField("index") else None, one.label) for one in messages)
