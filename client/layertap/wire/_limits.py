"""Limits on what a request may hold, checked on its bytes before protobuf or Python makes objects of it.

protobuf parses a message while it holds Python's global lock, and each element then costs a Python object: a message of
60 MB can have 30 million elements. The check reads field numbers and lengths only, stops at the first limit that is
exceeded, and lets other threads run meanwhile. Strings and bytes are skipped, so images cost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import NamedTuple, TypeVar, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from layertap.errors import (
    BadTensorError,
    InvalidRequestError,
    LayertapError,
    TooManyImagesError,
    TooManyTapsError,
    UnknownLayerError,
)

Request = TypeVar("Request", bound=Message)

MOST_FIELDS = 2**20
"""Fields of one request, those of its parts included; about half a second of checking."""
MOST_NESTED = 100
"""Messages inside one another; protobuf's own limit."""
LONGEST_TEXT = 2**16
"""Bytes of one string: sixteen times the longest expression."""


class Limit(NamedTuple):
    """The largest number of elements of a field, and the error for more of them."""

    most: int
    error: type[LayertapError] = InvalidRequestError


_IMAGES = Limit(2**16, TooManyImagesError)
_TAPS = Limit(4096, TooManyTapsError)
_INPUTS = Limit(1024, BadTensorError)
ELEMENTS: Mapping[str, Limit] = MappingProxyType(
    {
        "layertap.v1.ExtractRequest.images": _IMAGES,
        "layertap.v1.ExtractRequest.taps": _TAPS,
        "layertap.v1.ExtractRequest.inputs": _INPUTS,
        "layertap.v1.ExtractStreamOpen.taps": _TAPS,
        "layertap.v1.ExtractStreamBatch.images": _IMAGES,
        "layertap.v1.ExtractStreamBatch.inputs": _INPUTS,
        "layertap.v1.PreviewExtractRequest.taps": _TAPS,
        "layertap.v1.InspectLayersRequest.images": _IMAGES,
        "layertap.v1.InspectLayersRequest.selectors": Limit(1024),
        "layertap.v1.InspectLayersRequest.inputs": _INPUTS,
        "layertap.v1.TapSpec.blocks": Limit(64),
        "layertap.v1.BlockList.blocks": Limit(64),
        "layertap.v1.Block.parameters": Limit(64),
        "layertap.v1.BlockParameterList.values": Limit(2**18),
        "layertap.v1.Tensor.shape": Limit(1024, BadTensorError),
    }
)
"""Every repeated field and map of a request. The server's settings may allow less, such as 64 images."""
_TEXT_ERRORS = {"layertap.v1.ListLayersRequest.selector": UnknownLayerError}


def parse_request(kind: type[Request], data: bytes) -> Request:
    """Parse a request after checking its limits.

    Raises:
        DecodeError: the bytes are not such a message.
        InvalidRequestError: a field has too many elements or too long a text; the metadata names it and the limit.
    """
    _Scan(data).read(0, len(data), cast("Descriptor", kind.DESCRIPTOR), "", 0)
    return kind.FromString(data)


class _Field(NamedTuple):
    name: str
    limit: Limit | None
    """None where the field is not repeated."""
    message: Descriptor | None
    is_text: bool
    text_error: type[LayertapError]


@cache
def _fields(descriptor: Descriptor) -> dict[int, _Field]:
    return {field.number: _field(field) for field in descriptor.fields}


def _field(field: FieldDescriptor) -> _Field:
    return _Field(
        field.name,
        ELEMENTS[field.full_name] if is_repeated(field) else None,
        field.message_type,
        field.type == FieldDescriptor.TYPE_STRING,
        _TEXT_ERRORS.get(field.full_name, InvalidRequestError),
    )


def is_repeated(field: FieldDescriptor) -> bool:
    """Return whether a field is repeated or a map, with any version of protobuf."""
    label: int = getattr(field, "label", 0)  # protobuf 7 has no labels, protobuf 5 has nothing else
    return bool(getattr(field, "is_repeated", label == FieldDescriptor.LABEL_REPEATED))


class _Scan:
    """One check of one request."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = MOST_FIELDS

    def read(self, at: int, end: int, descriptor: Descriptor, path: str, depth: int) -> None:
        """Check the message between two offsets; ``path`` is written before the names of its fields."""
        if depth > MOST_NESTED:
            raise DecodeError("too many messages inside one another")
        known, counts = _fields(descriptor), dict[int, int]()
        while at < end:
            key, at = self._varint(at, end)
            start, stop = self._extent(key & 7, at, end)
            field = known.get(key >> 3)
            if field is not None:
                seen = counts.get(key >> 3, 0)
                counts[key >> 3] = seen + self._check(field, (key & 7, start, stop), seen, path, depth)
            at = stop

    def _check(self, field: _Field, extent: tuple[int, int, int], seen: int, path: str, depth: int) -> int:
        """Check one occurrence of a field behind ``seen`` elements of it; return the number of its elements."""
        kind, start, stop = extent
        count = 1
        if field.limit is not None:
            if kind == _LENGTH and field.message is None and not field.is_text:
                count = -(-(stop - start) // _LONGEST_VARINT)  # packed: so many at least
            if seen + count > field.limit.most:
                raise _too_many(field.limit, f"{path}{field.name}", seen + count)
        elif field.message is not None and seen:
            raise InvalidRequestError(f"the field {path}{field.name} is there twice", field=f"{path}{field.name}")
        if kind == _LENGTH and field.message is not None:
            index = "" if field.limit is None else f"[{seen}]"
            self.read(start, stop, field.message, f"{path}{field.name}{index}.", depth + 1)
        elif field.is_text and stop - start > LONGEST_TEXT:
            raise _too_long(field, f"{path}{field.name}", stop - start)
        return count

    def _extent(self, kind: int, at: int, end: int) -> tuple[int, int]:
        """Return where the value of a field begins and ends, and count the field."""
        self._left -= 1
        if self._left < 0:
            raise InvalidRequestError(f"the request has more than {MOST_FIELDS} fields", limit=MOST_FIELDS)
        if kind == _LENGTH:
            size, at = self._varint(at, end)
            stop = at + size
        elif kind == _VARINT:
            stop = self._varint(at, end)[1]
        elif kind in _FIXED:
            stop = at + _FIXED[kind]
        else:
            raise DecodeError("a field of an unknown kind")
        if stop > end:
            raise DecodeError("the message ends too soon")
        return at, stop

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while at < end and shift < 7 * _LONGEST_VARINT:
            byte = self._data[at]
            at += 1
            if byte < _LAST_BYTE:
                return value | byte << shift, at
            value |= (byte & 0x7F) << shift
            shift += 7
        raise DecodeError("the message ends too soon")


_VARINT, _LENGTH = 0, 2
_FIXED = {1: 8, 5: 4}
"""Bytes of the wire types of fixed size."""
_LAST_BYTE = 0x80
"""The last byte of a varint is less than this."""
_LONGEST_VARINT = 10
"""Bytes."""


def _too_many(limit: Limit, path: str, received: int) -> LayertapError:
    message = f"{path} has at least {received} elements and the limit is {limit.most}"
    return limit.error(message, field=path, limit=limit.most, got=received)


def _too_long(field: _Field, path: str, received: int) -> LayertapError:
    message = f"{path} has {received} bytes and the limit is {LONGEST_TEXT}"
    return field.text_error(message, field=path, limit=LONGEST_TEXT, got=received)
