"""Protobuf by hand, for the few messages that hold megabytes: a view of an array is copied once, not thrice.

What is joined here are the bytes that protobuf itself would read; https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

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


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the highest bit says that more follow."""
    parts = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def bytes_of(array: Array) -> memoryview:
    """The elements in C order, little-endian; a view of the array's memory where it lies so."""
    plain = np.ascontiguousarray(little_endian(array))
    return plain.reshape(-1).view(np.uint8).data if plain.size else memoryview(b"")
