"""Build codecs, which convert a value of the vocabulary to the bytes of a message and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from layertap.wire._limits import parse_request

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Codec(Generic[Value]):
    """Conversion between a value of the vocabulary and the bytes of a message."""

    encode: Callable[[Value], bytes]
    decode: Callable[[bytes], Value]


def request_codec(kind: type[Any], encode: Callable[[Value], Message], decode: Callable[[Any], Value]) -> Codec[Value]:
    """Return the codec of a type of requests. It checks the limits of a message before it parses the message."""

    def to_bytes(value: Value) -> bytes:
        return encode(value).SerializeToString()

    def from_bytes(data: bytes) -> Value:
        return decode(parse_request(kind, data))

    return Codec(to_bytes, from_bytes)


def response_codec(kind: type[Any], encode: Callable[[Value], Message], decode: Callable[[Any], Value]) -> Codec[Value]:
    """Return the codec of a response."""

    def to_bytes(value: Value) -> bytes:
        return encode(value).SerializeToString()

    def from_bytes(data: bytes) -> Value:
        return decode(kind.FromString(data))

    return Codec(to_bytes, from_bytes)


def plain_request(value: Callable[..., Value], kind: type[Any], **renamed: str) -> Codec[Value]:
    """Return the codec of a request whose fields are numbers and strings, with the same names in the message.

    Args:
        value: dataclass of the request.
        kind: class of the message.
        renamed: for fields of the message that have another name in the dataclass, that name.
    """
    names: Any = value
    fields_of_message = {renamed_to: name for name, renamed_to in renamed.items()}
    pairs = [(item.name, fields_of_message.get(item.name, item.name)) for item in fields(names)]

    def encode(request: Value) -> Message:
        message: Message = kind(**{there: getattr(request, here) for here, there in pairs})
        return message

    def decode(message: Any) -> Value:
        return value(**{here: getattr(message, there) for here, there in pairs})

    return request_codec(kind, encode, decode)


def field_response(
    kind: type[Any], name: str, encode: Callable[[Value], Any], decode: Callable[[Any], Value]
) -> Codec[Value]:
    """Return the codec of a response that is the only field of its message."""

    def to_message(value: Value) -> Message:
        message: Message = kind(**{name: encode(value)})
        return message

    def from_message(message: Any) -> Value:
        return decode(getattr(message, name))

    return response_codec(kind, to_message, from_message)


def list_response(
    kind: type[Any], name: str, encode: Callable[[Value], Any], decode: Callable[[Any], Value]
) -> Codec[list[Value]]:
    """Return the codec of a response that is a list, the only field of its message."""

    def encode_all(values: Iterable[Value]) -> list[Any]:
        return [encode(value) for value in values]

    def decode_all(messages: Iterable[Any]) -> list[Value]:
        return [decode(message) for message in messages]

    return field_response(kind, name, encode_all, decode_all)


def empty_response(kind: type[Any]) -> Codec[None]:
    """Return the codec of a response without content."""

    def encode(_value: None) -> bytes:
        message: Message = kind()
        return message.SerializeToString()

    def decode(_data: bytes) -> None:
        return None

    return Codec(encode, decode)
