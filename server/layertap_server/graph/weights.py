"""The weights of a model, once on disk: every plan's small topology refers to the one file, which sessions map."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import numpy_helper

FILE_NAME = "weights.bin"
SMALL_BYTES = 1024
"""A smaller initializer stays in the topology: shape inference reads some of these, and a file gains nothing."""
PAGE_BYTES = 4096


class WeightsError(Exception):
    """An initializer is not valid; the message says which."""


def externalize(proto: onnx.ModelProto, folder: Path) -> None:
    """Moves the large initializers into ``folder``; the model then refers to the file by its name.

    Raises:
        WeightsError: an initializer holds more or less than its shape says.
    """
    with (folder / FILE_NAME).open("wb") as file:
        for tensor in proto.graph.initializer:
            if tensor.data_type == onnx.TensorProto.STRING or _is_packed(tensor):
                continue
            data = _bytes_of(tensor)
            if len(data) >= SMALL_BYTES:
                file.write(b"\0" * (-file.tell() % PAGE_BYTES))
                _refer(tensor, file.tell(), len(data))
                file.write(data)


def _is_packed(tensor: onnx.TensorProto) -> bool:
    """Whether several values share a byte, as of int4: NumPy has no such type to write them as."""
    name = onnx.TensorProto.DataType.Name(tensor.data_type)
    return name.startswith(("INT4", "UINT4", "FLOAT4", "INT2", "UINT2"))


def _bytes_of(tensor: onnx.TensorProto) -> bytes:
    if any(size < 0 for size in tensor.dims):
        raise WeightsError(f"the weights {tensor.name!r} have a negative size: {list(tensor.dims)}")
    try:
        return bytes(numpy_helper.to_array(tensor).tobytes())
    except (ValueError, TypeError, KeyError) as error:
        raise WeightsError(
            f"the weights {tensor.name!r} do not hold what their shape {list(tensor.dims)} says"
        ) from error


def _refer(tensor: onnx.TensorProto, offset: int, length: int) -> None:
    kept = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    kept.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", FILE_NAME), ("offset", str(offset)), ("length", str(length))):
        kept.external_data.add(key=key, value=value)
    tensor.CopyFrom(kept)
