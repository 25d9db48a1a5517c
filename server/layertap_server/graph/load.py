"""Loading of a model file and its external weights, without any analysis."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from layertap.errors import LayertapError
from layertap_server.graph.file_kinds import mistaken_model, mistaken_text
from layertap_server.graph.walk import tensors_of

log = logging.getLogger(__name__)
LONGEST_QUOTED = 40
"""Maximum number of bytes of an invalid name that an error message quotes."""
_SHORTAGES = {errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT}
"""Error numbers of a resource that the system lacks."""

LARGEST_MODEL_BYTES = 8 * 2**30
"""Default of the maximum size of a model's constants, in bytes."""


class GraphError(Exception):
    """Error for a model that cannot be used. The message gives the reason and contains no path of the server."""


@contextlib.contextmanager
def explained(action: str) -> Iterator[None]:
    """Convert an unexpected exception about a model to a `GraphError` and log its traceback at debug level.

    ``action`` is a noun phrase for the message, such as "reading it". Errors about resources that the system lacks
    (memory, disk space, file descriptors) pass unchanged.

    Raises:
        GraphError: The body raised another exception.
    """
    try:
        yield
    except (GraphError, LayertapError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _SHORTAGES:
            raise
        log.debug("%s failed", action, exc_info=True)
        raise GraphError(f"{action} failed: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """Return the class of an exception and the first line of its message; for an ``OSError`` only its reason."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def load(path: Path, most_bytes: int = LARGEST_MODEL_BYTES, *, follow_links: bool = False) -> onnx.ModelProto:
    """Load a model file and its external data, which must be in the same folder.

    Args:
        path: The ONNX file.
        most_bytes: Maximum size of the model's constants in bytes.
        follow_links: Whether symbolic links may lead to files outside the folder.

    Raises:
        GraphError: The file is not an ONNX model, exceeds ``most_bytes``, or its external data are missing or
            outside the folder.
    """
    try:
        check_size(path.stat().st_size, most_bytes)
        if kind := mistaken_model(path):
            raise GraphError(f"{path.name} is {kind}")
        proto = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        if "alloc failed" in str(error):
            raise MemoryError from error
        raise GraphError(f"{path.name} is not an ONNX model: {error}") from error
    except OSError as error:
        raise GraphError(f"{path.name}: {error.strerror or error}") from error
    if not proto.graph.node and not proto.graph.output:
        raise GraphError(f"{path.name} holds no graph")
    _check_texts(proto)
    _load_external_data(proto, path.parent, most_bytes, follow_links=follow_links)
    return proto


def _check_texts(message: Message) -> None:
    """Raise `GraphError` if a string is not UTF-8, since protobuf returns it as bytes, which match no tensor name."""
    for field, value in message.ListFields():
        if field.type not in {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE}:
            continue
        for item in [value] if isinstance(value, (str, bytes, Message)) else value:
            if isinstance(item, bytes):
                raise GraphError(f"its {field.name} {item[:LONGEST_QUOTED]!r} is not UTF-8 text")
            if isinstance(item, Message):
                _check_texts(item)


def check_size(size: int, most_bytes: int) -> None:
    """Raise `GraphError` if a model's constants exceed the limit; both are in bytes."""
    if size > most_bytes:
        raise GraphError(f"its constants take {size} bytes and the limit is {most_bytes} (--max-model-bytes)")


def _load_external_data(proto: onnx.ModelProto, folder: Path, most_bytes: int, *, follow_links: bool) -> None:
    """Read the external data of all tensors from files in ``folder`` into the model."""
    total = 0
    for tensor in tensors_of(proto.graph):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        file = _external_file(tensor.name, entries.get("location", ""), folder, follow_links=follow_links)
        offset, length = _external_range(tensor.name, entries, file.stat().st_size)
        total += length
        check_size(total, most_bytes)
        _read_external(tensor, file, offset, length)


def _external_file(name: str, location: str, folder: Path, *, follow_links: bool) -> Path:
    """Return the file of a tensor's external data.

    The location itself may never leave the folder, for example by "..". With ``follow_links`` a symbolic link in the
    folder may lead out of it.
    """
    file = folder / location
    if not Path(os.path.normpath(file)).is_relative_to(os.path.normpath(folder)):
        raise GraphError(f"the weights of {name} lie outside the model's folder")
    if not follow_links and not file.resolve().is_relative_to(folder.resolve()):
        raise GraphError(f"the weights of {name} lie outside the model's folder, by a link; --follow-links allows it")
    if not file.is_file():
        raise GraphError(f"its external data cannot be read: there is no file {location!r}")
    if kind := mistaken_text(file):
        raise GraphError(f"its external data cannot be read: {location} is {kind}")
    return file


def _external_range(name: str, entries: dict[str, str], size: int) -> tuple[int, int]:
    """Return the offset and length of a tensor's data in its file, in bytes; without a length, the rest of the file."""
    try:
        offset = int(entries.get("offset") or 0)
        length = int(entries.get("length") or 0) or size - offset
    except ValueError:
        raise GraphError(f"the offset or length of the weights of {name} is not a number") from None
    if offset < 0 or length < 0 or offset + length > size:
        reason = f"the weights of {name} extend beyond the end of their file, which has {size} bytes"
        raise GraphError(f"its external data cannot be read: {reason}")
    return offset, length


def _read_external(tensor: onnx.TensorProto, file: Path, offset: int, length: int) -> None:
    """Read the bytes of an external tensor into the tensor itself."""
    try:
        with file.open("rb") as data:
            data.seek(offset)
            tensor.raw_data = data.read(length)
    except OSError as error:
        raise GraphError(f"its external data cannot be read: {error.strerror or error}") from error
    del tensor.external_data[:]
    tensor.data_location = onnx.TensorProto.DEFAULT
