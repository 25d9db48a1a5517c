"""Read and write protobuf messages by hand, for the few messages of megabytes, to copy an array once, not thrice.

The bytes are the same as protobuf's own; see https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from layertap.types import Array
from layertap.wire._tensors import little_endian

_LENGTH_DELIMITED = 2
"""Wire type of strings, bytes and messages."""


def number(field: int, value: int) -> bytes:
    """Encode a field that is a number; return no bytes for 0."""
    return varint(field << 3) + varint(value) if value else b""


def length(field: int, size: int) -> bytes:
    """Encode the tag and the length of a field that is a string, bytes or a message."""
    return varint(field << 3 | _LENGTH_DELIMITED) + varint(size)


def delimited(field: int, data: bytes | memoryview) -> tuple[bytes | memoryview, ...]:
    """Return the parts of a field that is a string, bytes or a message; no parts for an empty one."""
    return (length(field, len(data)), data) if len(data) else ()


def varint(value: int) -> bytes:
    """Encode a varint: seven bits per byte, lowest first; the highest bit of a byte is set if more bytes follow."""
    parts = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field of a message of numbers and length-delimited fields; bytes are views.

    Raises:
        ValueError: the message has fields of other wire types, or is truncated.
    """
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        value, at = _read_varint(data, at)
        if key & 7 == _LENGTH_DELIMITED:
            if at + value > len(data):
                raise ValueError("the message is truncated")
            yield key >> 3, data[at : at + value]
            at += value
        elif key & 7 == 0:
            yield key >> 3, value
        else:
            raise ValueError("a field has another wire type")


def take_out(data: memoryview, field: int) -> tuple[list[memoryview], bytes]:
    """Split a message into the values of a length-delimited field, as views, and the message without the field."""
    taken, rest = [], bytearray()
    for key, value in fields(data):
        if isinstance(value, int):
            rest += varint(key << 3) + varint(value)
        elif key == field:
            taken.append(value)
        else:
            rest += length(key, len(value)) + value
    return taken, bytes(rest)


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    """Read a varint; return its value and the offset after it."""
    value = shift = 0
    while at < len(data):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:  # noqa: PLR2004 - the last byte
            return value, at
    raise ValueError("the message is truncated")


def bytes_of(array: Array) -> memoryview:
    """Return an array's elements in C order and little-endian, as a view if the array is stored like this."""
    plain = np.ascontiguousarray(little_endian(array))
    return plain.reshape(-1).view(np.uint8).data if plain.size else memoryview(b"")
