"""A model's file -> its proto, with the weights that lie beside it; nothing of what it means."""

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
_SHORTAGES = {errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT}

MOST_BYTES = 8 * 2**30
"""Of a model's constants, unless the operator says otherwise."""


class GraphError(Exception):
    """The model cannot be used; the message says why and names no path of the server."""


@contextlib.contextmanager
def explained(action: str) -> Iterator[None]:
    """Turn an unexpected exception about a model into a `GraphError`; its traceback goes to the log at debug level.

    What the system lacks (memory, disk space, file descriptors) is not the model's fault and passes as it is.
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
    """Return the kind of an exception and the first line of its message, without the path that an OSError names."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def load(path: Path, most_bytes: int = MOST_BYTES, *, follow_links: bool = False) -> onnx.ModelProto:
    """Load the model of a file with its external data, which must lie in the file's own folder.

    ``follow_links`` allows symbolic links to lead out of that folder.

    Raises:
        GraphError: not an ONNX model, a larger one, or its external data lie elsewhere or are missing.
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
    """Raise `GraphError` where a text is not UTF-8: Python reads such a name as bytes, which no tensor is called."""
    for field, value in message.ListFields():
        if field.type not in {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE}:
            continue
        for item in [value] if isinstance(value, (str, bytes, Message)) else value:
            if isinstance(item, bytes):
                raise GraphError(f"the {field.name} {item[:LONGEST_QUOTED]!r} in it is not UTF-8 text")
            if isinstance(item, Message):
                _check_texts(item)


def check_size(size: int, most_bytes: int) -> None:
    """Raises `GraphError` where a model's constants take more than the operator allows."""
    if size > most_bytes:
        raise GraphError(f"its constants take {size} bytes and the limit is {most_bytes} (--max-model-bytes)")


def _load_external_data(proto: onnx.ModelProto, folder: Path, most_bytes: int, *, follow_links: bool) -> None:
    total = 0
    for tensor in tensors_of(proto.graph):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        place = {entry.key: entry.value for entry in tensor.external_data}
        file = _external_file(tensor.name, place.get("location", ""), folder, follow_links=follow_links)
        offset, length = _external_range(tensor.name, place, file.stat().st_size)
        total += length
        check_size(total, most_bytes)
        _read_external(tensor, file, offset, length)


def _external_file(name: str, location: str, folder: Path, *, follow_links: bool) -> Path:
    """Return the file of a tensor's external data.

    A location may not leave the folder by itself. Links in the folder may lead out of it where that is allowed.
    """
    file = folder / location
    if not Path(os.path.normpath(file)).is_relative_to(os.path.normpath(folder)):
        raise GraphError(f"the weights of {name} lie outside the model's folder")
    if not follow_links and not file.resolve().is_relative_to(folder.resolve()):
        raise GraphError(
            f"the weights of {name} lie outside the model's folder, by a link; --follow-links allows links"
        )
    if not file.is_file():
        raise GraphError(f"its external data cannot be read: there is no file {location!r}")
    if kind := mistaken_text(file):
        raise GraphError(f"its external data cannot be read: {location} is {kind}")
    return file


def _external_range(name: str, place: dict[str, str], size: int) -> tuple[int, int]:
    """Return offset and length of the tensor's bytes: what the tensor says, or what is left of the file."""
    try:
        offset = int(place.get("offset") or 0)
        length = int(place.get("length") or 0) or size - offset
    except ValueError:
        raise GraphError(f"the weights of {name} say no number where their place is said") from None
    if offset < 0 or length < 0 or offset + length > size:
        raise GraphError(f"the weights of {name} lie beyond the end of their file, which has {size} bytes")
    return offset, length


def _read_external(tensor: onnx.TensorProto, file: Path, offset: int, length: int) -> None:
    try:
        with file.open("rb") as data:
            data.seek(offset)
            tensor.raw_data = data.read(length)
    except OSError as error:
        raise GraphError(f"its external data cannot be read: {error.strerror or error}") from error
    del tensor.external_data[:]
    tensor.data_location = onnx.TensorProto.DEFAULT
