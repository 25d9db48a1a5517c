"""Check the limits of a request on its bytes, before protobuf or Python creates objects from it.

protobuf parses a message while it holds Python's global interpreter lock, and each element then costs a Python object:
a message of 60 MB can have 30 million elements. The check reads only field numbers and lengths, stops at the first
limit that is exceeded, and lets other threads run meanwhile. It skips the content of strings and bytes, so images cost
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import NamedTuple, TypeAlias, TypeVar, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from layertap.errors import (
    BadTargetError,
    BadTensorError,
    InvalidRequestError,
    LayertapError,
    TooManyImagesError,
    TooManyTapsError,
    UnknownLayerError,
)

Request = TypeVar("Request", bound=Message)

MOST_FIELDS = 2**20
"""Maximum number of fields of one request, nested ones included; about half a second of checking."""
MOST_NESTED = 100
"""Maximum depth of nested messages, which is also protobuf's limit."""
LONGEST_TEXT = 2**16
"""Maximum size of one string, in bytes: sixteen times the longest expression."""


class Limit(NamedTuple):
    """The maximum number of elements of a field, and the error class for more elements."""

    most: int
    error: type[LayertapError] = InvalidRequestError


LimitOf: TypeAlias = Callable[[str], Limit]
"""Function that returns the limit of a repeated field, by the full name of the field."""
_IMAGES = Limit(2**16, TooManyImagesError)
_TAPS = Limit(4096, TooManyTapsError)
_INPUTS = Limit(1024, BadTensorError)
ELEMENTS: Mapping[str, Limit] = MappingProxyType(
    {
        "layertap.v1.ExtractRequest.images": _IMAGES,
        "layertap.v1.ExtractRequest.taps": _TAPS,
        "layertap.v1.ExtractRequest.inputs": _INPUTS,
        "layertap.v1.AttributeRequest.images": _IMAGES,
        "layertap.v1.AttributeRequest.inputs": _INPUTS,
        "layertap.v1.ExtractRequest.edits": _TAPS,
        "layertap.v1.ExtractStreamOpen.edits": _TAPS,
        "layertap.v1.PreviewExtractRequest.edits": _TAPS,
        "layertap.v1.PreviewExtractRequest.feeds": _INPUTS,
        "layertap.v1.InspectLayersRequest.edits": _TAPS,
        "layertap.v1.AttributeRequest.edits": _TAPS,
        "layertap.v1.Target.index": Limit(2**16, BadTargetError),
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
"""Limits of every repeated field and map of a request. The server's settings may allow less, such as 64 images."""
_TEXT_ERRORS = {"layertap.v1.ListLayersRequest.selector": UnknownLayerError}
"""Error classes for too long strings, where they differ from `InvalidRequestError`."""


def limit_of(field: str) -> Limit:
    """Return the limit of a repeated field of the requests in package ``layertap.v1``."""
    return ELEMENTS[field]


def parse_request(kind: type[Request], data: bytes, limit: LimitOf = limit_of) -> Request:
    """Check the limits of a request and parse it.

    Args:
        kind: class of the message.
        data: the serialized message.
        limit: function that returns the limit of each repeated field of the message.

    Raises:
        DecodeError: the bytes are not a message of this kind.
        InvalidRequestError: a field has too many elements or too long a string; the metadata has the field and the
            limit.
    """
    _Scan(data, limit).read(0, len(data), cast("Descriptor", kind.DESCRIPTOR), "", 0)
    return kind.FromString(data)


class _Field(NamedTuple):
    """What the check needs to know of a field."""

    name: str
    limit: Limit | None
    """Limit of a repeated field; None for a singular one."""
    message: Descriptor | None
    """Descriptor of the field's message type; None for a scalar."""
    is_packable: bool
    """Whether one occurrence may hold several elements of a repeated field."""
    is_text: bool
    text_error: type[LayertapError]


@cache
def _fields(descriptor: Descriptor, limit: LimitOf) -> dict[int, _Field]:
    """Return the fields of a message type by field number."""
    return {field.number: _field(field, limit) for field in descriptor.fields}


def _field(field: FieldDescriptor, limit: LimitOf) -> _Field:
    """Return what the check needs to know of a field."""
    return _Field(
        field.name,
        limit(field.full_name) if is_repeated(field) else None,
        field.message_type,
        field.type not in _NEVER_PACKED,
        field.type == FieldDescriptor.TYPE_STRING,
        _TEXT_ERRORS.get(field.full_name, InvalidRequestError),
    )


def is_repeated(field: FieldDescriptor) -> bool:
    """Return whether a field is repeated or a map, with any version of protobuf."""
    label: int = getattr(field, "label", 0)  # protobuf 5 has only labels, protobuf 7 has none
    return bool(getattr(field, "is_repeated", label == FieldDescriptor.LABEL_REPEATED))


class _Scan:
    """One check of one request."""

    def __init__(self, data: bytes, limit: LimitOf = limit_of) -> None:
        """Start with no fields counted."""
        self._data = data
        self._limit = limit
        self._left = MOST_FIELDS

    def read(self, at: int, end: int, descriptor: Descriptor, path: str, depth: int) -> None:
        """Check the message between two offsets; ``path`` is the prefix of its field names in error messages."""
        if depth > MOST_NESTED:
            raise DecodeError("messages are nested too deep")
        known, counts = _fields(descriptor, self._limit), dict[int, int]()
        while at < end:
            key, at = self._varint(at, end)
            start, stop = self._extent(key & 7, at, end)
            field = known.get(key >> 3)
            if field is not None:
                seen = counts.get(key >> 3, 0)
                counts[key >> 3] = seen + self._check(field, (key & 7, start, stop), seen, path, depth)
            at = stop

    def _check(self, field: _Field, extent: tuple[int, int, int], seen: int, path: str, depth: int) -> int:
        """Check one occurrence of a field of which ``seen`` elements came before; return its number of elements."""
        kind, start, stop = extent
        count = 1
        if field.limit is not None:
            if kind == _LENGTH and field.is_packable:
                count = -(-(stop - start) // _LONGEST_VARINT)  # lower bound for a packed field
            if seen + count > field.limit.most:
                raise _too_many(field.limit, f"{path}{field.name}", seen + count)
        elif field.message is not None and seen:
            raise InvalidRequestError(
                f"expected the field {path}{field.name} once, got it twice", field=f"{path}{field.name}"
            )
        if kind == _LENGTH and field.message is not None:
            index = "" if field.limit is None else f"[{seen}]"
            self.read(start, stop, field.message, f"{path}{field.name}{index}.", depth + 1)
        elif field.is_text and stop - start > LONGEST_TEXT:
            raise _too_long(field, f"{path}{field.name}", stop - start)
        return count

    def _extent(self, kind: int, at: int, end: int) -> tuple[int, int]:
        """Count the field and return where its value begins and ends."""
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
            raise DecodeError("a field has an unknown wire type")
        if stop > end:
            raise DecodeError("the message is truncated")
        return at, stop

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        """Read a varint; return its value and the offset after it."""
        value = shift = 0
        while at < end and shift < 7 * _LONGEST_VARINT:
            byte = self._data[at]
            at += 1
            if byte < _LAST_BYTE:
                return value | byte << shift, at
            value |= (byte & 0x7F) << shift
            shift += 7
        raise DecodeError("the message is truncated")


_NEVER_PACKED = {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_MESSAGE}
"""Types of fields of which each occurrence is one element."""
_VARINT, _LENGTH = 0, 2
"""Wire types of varints and of length-delimited fields."""
_FIXED = {1: 8, 5: 4}
"""Sizes in bytes of the wire types of fixed size."""
_LAST_BYTE = 0x80
"""Exclusive maximum of the last byte of a varint."""
_LONGEST_VARINT = 10
"""Maximum size of a varint in bytes."""


def _too_many(limit: Limit, path: str, received: int) -> LayertapError:
    """Return the error for a field with too many elements."""
    message = f"{path}: expected at most {limit.most} elements, got at least {received}"
    return limit.error(message, field=path, limit=limit.most, got=received)


def _too_long(field: _Field, path: str, received: int) -> LayertapError:
    """Return the error for a string that is too long."""
    message = f"{path}: expected at most {LONGEST_TEXT} bytes, got {received}"
    return field.text_error(message, field=path, limit=LONGEST_TEXT, got=received)
