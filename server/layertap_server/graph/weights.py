"""Externalization of a model's weights.

The large weights are stored once on disk. The models of all plans refer to that file, and sessions map it into memory.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import numpy_helper

FILE_NAME = "weights.bin"
"""Name of the file that holds the large weights."""
SMALL_BYTES = 1024
"""Minimum size of an externalized initializer in bytes. Shape inference reads small ones, so they stay in the model."""
PAGE_BYTES = 4096
"""Alignment of initializers in the file, in bytes."""


class WeightsError(Exception):
    """Error for an initializer whose data are not valid; the message names the initializer."""


def externalize(proto: onnx.ModelProto, folder: Path) -> None:
    """Move the large initializers of a model into the file `FILE_NAME` in ``folder``; changes ``proto`` in place.

    Raises:
        WeightsError: The data of an initializer do not match its shape.
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
    """Return whether several values share a byte, as in int4. NumPy has no such dtype, so these stay in the model."""
    name = onnx.TensorProto.DataType.Name(tensor.data_type)
    return name.startswith(("INT4", "UINT4", "FLOAT4", "INT2", "UINT2"))


def _bytes_of(tensor: onnx.TensorProto) -> bytes:
    """Return the values of an initializer as little-endian bytes.

    Raises:
        WeightsError: The data do not match the shape.
    """
    if any(size < 0 for size in tensor.dims):
        raise WeightsError(f"the weights {tensor.name!r} have a negative size: {list(tensor.dims)}")
    try:
        return bytes(numpy_helper.to_array(tensor).tobytes())
    except (ValueError, TypeError, KeyError) as error:
        raise WeightsError(
            f"the data of the weights {tensor.name!r} do not match their shape {list(tensor.dims)}"
        ) from error


def _refer(tensor: onnx.TensorProto, offset: int, length: int) -> None:
    """Replace the data of an initializer with a reference to the file."""
    kept = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    kept.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", FILE_NAME), ("offset", str(offset)), ("length", str(length))):
        kept.external_data.add(key=key, value=value)
    tensor.CopyFrom(kept)
