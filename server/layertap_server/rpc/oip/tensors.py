"""Decode the inputs and encode the outputs of the Open Inference Protocol."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from layertap.errors import BadTensorError
from layertap.types import Array

MOST_AXES = 16
"""Maximum number of axes of a tensor."""
MOST_BYTES = 2**40
"""Maximum bytes that the shape of a tensor may state."""
LENGTH_BYTES = 4
"""Bytes of the length in front of each element of a BYTES tensor."""


@dataclass(frozen=True, slots=True)
class Datatype:
    """A datatype of the protocol."""

    dtype: str
    """NumPy's dtype; for BF16, the dtype of its bits."""
    contents: str
    """Field of the typed contents; empty if the datatype has raw contents only."""


BYTES, BF16 = "BYTES", "BF16"
DATATYPES = {
    "BOOL": Datatype("bool", "bool_contents"),
    "UINT8": Datatype("uint8", "uint_contents"),
    "UINT16": Datatype("uint16", "uint_contents"),
    "UINT32": Datatype("uint32", "uint_contents"),
    "UINT64": Datatype("uint64", "uint64_contents"),
    "INT8": Datatype("int8", "int_contents"),
    "INT16": Datatype("int16", "int_contents"),
    "INT32": Datatype("int32", "int_contents"),
    "INT64": Datatype("int64", "int64_contents"),
    "FP16": Datatype("float16", ""),
    "FP32": Datatype("float32", "fp32_contents"),
    "FP64": Datatype("float64", "fp64_contents"),
    BF16: Datatype("uint16", ""),
    BYTES: Datatype("object", "bytes_contents"),
}
"""Datatypes by name."""
_NAMES = {datatype.dtype: name for name, datatype in DATATYPES.items() if name != BF16} | {"bfloat16": BF16}
"""Names of the datatypes by NumPy's dtype."""


def datatype_name(dtype: str) -> str:
    """Return the protocol's name of a dtype; ``BYTES`` for text, and an empty name for a dtype without one."""
    return BYTES if dtype in {"string", "str"} else _NAMES.get(dtype, "")


def check_tensor(name: str, datatype: str, shape: Sequence[int]) -> tuple[int, ...]:
    """Check the datatype and shape of an input and return the shape.

    Raises:
        BadTensorError: the datatype is unknown, or the shape is invalid.
    """
    if datatype not in DATATYPES:
        message = f"input {name!r}: expected a datatype among {', '.join(DATATYPES)}, got {datatype!r:.40}"
        raise BadTensorError(message, field="inputs", input=name)
    if len(shape) > MOST_AXES or any(size < 0 for size in shape):
        message = f"input {name!r}: expected at most {MOST_AXES} sizes of at least 0, got {list(shape)!r:.200}"
        raise BadTensorError(message, field="inputs", input=name)
    if math.prod(max(size, 1) for size in shape) * 8 > MOST_BYTES:
        message = f"input {name!r}: the shape {list(shape)!r:.200} states more than {MOST_BYTES} bytes"
        raise BadTensorError(message, field="inputs", input=name, limit=MOST_BYTES)
    return tuple(shape)


def decode_raw(name: str, datatype: str, shape: tuple[int, ...], data: bytes) -> Array:
    """Decode the raw contents of an input, little-endian and in C order; BF16 becomes float32.

    The elements of a BYTES tensor become an array of `bytes` objects.

    Raises:
        BadTensorError: the number of bytes does not fit the datatype and the shape.
    """
    if datatype == BYTES:
        return _array_of(name, _split(name, data), shape)
    dtype = np.dtype(DATATYPES[datatype].dtype).newbyteorder("<")
    expected = math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        message = f"input {name!r}: expected {expected} bytes for {datatype} {list(shape)}, got {len(data)}"
        raise BadTensorError(message, field="inputs", input=name, expected=expected, got=len(data))
    array = np.frombuffer(data, dtype).reshape(shape)
    return (array.astype("<u4") << 16).view("<f4") if datatype == BF16 else array


def decode_contents(name: str, datatype: str, shape: tuple[int, ...], contents: Any) -> Array:
    """Decode the typed contents of an input.

    Raises:
        BadTensorError: the contents are in the field of another datatype, or do not fit the datatype or the shape.
    """
    kind = DATATYPES[datatype]
    filled = [field.name for field, _ in contents.ListFields()]
    if filled and filled != [kind.contents]:
        expected = kind.contents or "raw_input_contents"
        message = f"input {name!r}: expected the elements of {datatype} in {expected}, got {', '.join(filled)}"
        raise BadTensorError(message, field="inputs", input=name, expected=expected)
    elements = getattr(contents, kind.contents) if kind.contents else ()
    if datatype == BYTES:
        return _array_of(name, list(elements), shape)
    if len(elements) != math.prod(shape):
        message = f"input {name!r}: expected {math.prod(shape)} elements for shape {list(shape)}, got {len(elements)}"
        raise BadTensorError(message, field="inputs", input=name, expected=math.prod(shape), got=len(elements))
    try:
        return np.array(list(elements), kind.dtype).reshape(shape)
    except OverflowError:
        message = f"input {name!r}: an element is outside the range of {datatype}"
        raise BadTensorError(message, field="inputs", input=name) from None


def encode_raw(array: Array) -> bytes:
    """Return the elements of an output, little-endian and in C order."""
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _split(name: str, data: bytes) -> list[bytes]:
    """Return the elements of a raw BYTES tensor: each is its length, as 4 bytes little-endian, and its bytes.

    Raises:
        BadTensorError: an element ends after the data.
    """
    elements: list[bytes] = []
    at = 0
    while at < len(data):
        start = at + LENGTH_BYTES
        stop = start + int.from_bytes(data[at:start], "little")
        if stop > len(data):
            message = f"input {name!r}: element {len(elements)} ends after byte {stop}, and the input has {len(data)}"
            raise BadTensorError(message, field="inputs", input=name, index=len(elements))
        elements.append(data[start:stop])
        at = stop
    return elements


def _array_of(name: str, elements: list[bytes], shape: tuple[int, ...]) -> Array:
    """Return the elements of a BYTES tensor as an array of objects; raise `BadTensorError` if they do not fit."""
    if len(elements) != math.prod(shape):
        message = f"input {name!r}: expected {math.prod(shape)} elements for shape {list(shape)}, got {len(elements)}"
        raise BadTensorError(message, field="inputs", input=name, expected=math.prod(shape), got=len(elements))
    array = np.empty(len(elements), object)
    array[:] = elements
    return array.reshape(shape)
