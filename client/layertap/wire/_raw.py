"""Protobuf by hand, for the few messages that hold megabytes: a view of an array is copied once, not thrice.

What is joined here are the bytes that protobuf itself would read; https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from layertap.types import Array
from layertap.wire._tensors import little_endian

_LENGTH_DELIMITED = 2


def number(field: int, value: int) -> bytes:
    """A field that is a number; nothing where it is 0."""
    return varint(field << 3) + varint(value) if value else b""


def length(field: int, size: int) -> bytes:
    """What stands before the bytes of a field that is a text, bytes or a message."""
    return varint(field << 3 | _LENGTH_DELIMITED) + varint(size)


def delimited(field: int, data: bytes | memoryview) -> tuple[bytes | memoryview, ...]:
    """The parts of a field that is a text, bytes or a message; nothing where it is empty."""
    return (length(field, len(data)), data) if len(data) else ()


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the highest bit says that more follow."""
    parts = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message that has numbers and length-delimited ones only, as views on it.

    Raises:
        ValueError: it has others, or ends too soon.
    """
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        value, at = _read_varint(data, at)
        if key & 7 == _LENGTH_DELIMITED:
            if at + value > len(data):
                raise ValueError("the message ends too soon")
            yield key >> 3, data[at : at + value]
            at += value
        elif key & 7 == 0:
            yield key >> 3, value
        else:
            raise ValueError("a field of another kind")


def taken_out(data: memoryview, field: int) -> tuple[list[memoryview], bytes]:
    """The values of a field that is length-delimited, as views, and the message without them."""
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
    value = shift = 0
    while at < len(data):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:  # noqa: PLR2004 - the last seven bits
            return value, at
    raise ValueError("the message ends too soon")


def bytes_of(array: Array) -> memoryview:
    """The elements in C order, little-endian; a view of the array's memory where it lies so."""
    plain = np.ascontiguousarray(little_endian(array))
    return plain.reshape(-1).view(np.uint8).data if plain.size else memoryview(b"")
