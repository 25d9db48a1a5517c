"""A model's file -> its proto, with the weights that lie beside it; nothing of what it means."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import checker, external_data_helper

from layertap_server.graph.walk import tensors_of

MOST_BYTES = 8 * 2**30
"""Of a model's constants, unless the operator says otherwise."""


class GraphError(Exception):
    """The model cannot be used; the message says why and names no path of the server."""


def load(path: Path, most_bytes: int = MOST_BYTES) -> onnx.ModelProto:
    """The model of a file, with its external data, which must lie in the file's own folder.

    Raises:
        GraphError: not an ONNX model, a larger one, or its external data lie elsewhere or are missing.
    """
    try:
        check_size(path.stat().st_size, most_bytes)
        proto = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise GraphError(f"{path.name} is not an ONNX model: {error}") from error
    except OSError as error:
        raise GraphError(f"{path.name}: {error.strerror or error}") from error
    if not proto.graph.node and not proto.graph.output:
        raise GraphError(f"{path.name} holds no graph")
    _load_external_data(proto, path.parent, most_bytes)
    return proto


def _external_length(tensor: onnx.TensorProto, file: Path) -> int:
    """How many bytes are read for the tensor: what it says, or what is left of the file."""
    told = {entry.key: entry.value for entry in tensor.external_data}
    try:
        return int(told.get("length") or 0) or max(file.stat().st_size - int(told.get("offset") or 0), 0)
    except ValueError:
        raise GraphError(f"the weights of {tensor.name} say no number where their place is said") from None


def check_size(size: int, most_bytes: int) -> None:
    """Raises `GraphError` where a model's constants take more than the operator allows."""
    if size > most_bytes:
        raise GraphError(f"its constants take {size} bytes and the limit is {most_bytes} (--max-model-bytes)")


def _load_external_data(proto: onnx.ModelProto, folder: Path, most_bytes: int) -> None:
    root = folder.resolve()
    total = 0
    for tensor in tensors_of(proto.graph):
        for entry in tensor.external_data:
            if entry.key == "location":
                file = (root / entry.value).resolve()
                if not file.is_relative_to(root):
                    raise GraphError(f"the weights of {tensor.name} lie outside the model's folder")
                if not file.is_file():
                    raise GraphError(f"its external data cannot be read: there is no file {entry.value!r}")
                total += _external_length(tensor, file)
                check_size(total, most_bytes)
    try:
        external_data_helper.load_external_data_for_model(proto, str(folder))
    except (OSError, ValueError, checker.ValidationError) as error:
        raise GraphError("its external data cannot be read; they must lie in the model's own folder") from error
