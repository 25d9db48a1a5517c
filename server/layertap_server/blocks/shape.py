"""Shape blocks as ONNX nodes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from onnx import helper

from layertap.blocks import BoundBlock
from layertap.types import Layout
from layertap_server.blocks.builder import Builder, Dim, Emitter, Tensor


def _flatten(builder: Builder, tensor: Tensor, _block: BoundBlock) -> Tensor:
    rest = tensor.shape[1:]
    known = [size for size in rest if isinstance(size, int)]
    features: Dim = math.prod(known) if len(known) == len(rest) else "features"
    name = builder.op("Flatten", tensor.name, axis=1)
    return replace(tensor, name=name).with_shape(tensor.shape[0], features, layout=Layout.VECTOR)


def _cast(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    dtype = block.word("dtype")
    name = tensor.name
    if tensor.dtype.startswith("float") and not dtype.startswith("float"):
        name = _within(builder, tensor, dtype)
    to = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return replace(tensor, name=builder.op("Cast", name, to=to), dtype=dtype)


def _within(builder: Builder, tensor: Tensor, dtype: str) -> str:
    """The values held inside the integer type's range: ONNX leaves a cast from outside it undefined."""
    limits, real = np.iinfo(dtype), np.dtype(tensor.dtype)
    low, high = np.asarray(limits.min, real), np.asarray(limits.max, real)
    # The largest integer of a wide type rounds up to a real number outside it.
    high = high if int(high) <= limits.max else np.nextafter(high, real.type(0))
    return builder.op("Clip", tensor.name, builder.constant(low, real.name), builder.constant(high, real.name))


EMITTERS: dict[str, Emitter] = {
    "flatten": _flatten,
    "cast": _cast,
}
