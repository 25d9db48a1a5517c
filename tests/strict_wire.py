"""Parse protobuf strictly: refuse a field that is not repeated but appears twice, which only some libraries accept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from layertap.wire._limits import is_repeated

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


def check_once(data: bytes, descriptor: Any) -> None:
    """Fail if a field of the message or of a nested message is unknown, malformed, or appears twice."""
    seen: set[str] = set()
    for number, kind, value in fields(data):
        field = descriptor.fields_by_number[number]
        if not is_repeated(field):
            name = field.containing_oneof.full_name if field.containing_oneof else field.full_name
            assert name not in seen, f"{name} comes twice"
            seen.add(name)
        if field.message_type is not None:
            assert kind == LENGTH, field.full_name
            check_once(value, field.message_type)


def fields(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield the number, wire type and bytes of each field in order."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        start = at
        if key & 7 == VARINT:
            _, at = varint(data, at)
        elif key & 7 == LENGTH:
            size, start = varint(data, at)
            at = start + size
        else:
            at += {FIXED64: 8, FIXED32: 4}[key & 7]
        assert at <= len(data), "the message ends too soon"
        yield key >> 3, key & 7, data[start:at]


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a varint and the position after it."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
