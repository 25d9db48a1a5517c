"""Activation blocks as ONNX nodes."""

from __future__ import annotations

from dataclasses import replace

from layertap.blocks import BoundBlock
from layertap_server.blocks.builder import Builder, Emitter, Tensor, elementwise


def _identity(_builder: Builder, tensor: Tensor, _block: BoundBlock) -> Tensor:
    return tensor


def _softmax(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
    axis = tensor.axis(block.integer("axis"))
    return replace(tensor, name=builder.op("Softmax", tensor.name, axis=axis))


EMITTERS: dict[str, Emitter] = {
    "identity": _identity,
    "relu": elementwise("Relu"),
    "sigmoid": elementwise("Sigmoid"),
    "softmax": _softmax,
}
