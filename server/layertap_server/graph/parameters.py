"""Parameters of layers: the weights that the node of a layer reads, also through nodes that only convert them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from layertap.types import Array, WeightInfo
from layertap_server.graph.model_graph import ModelGraph

CONSTANTS = "layertap/"
"""Prefix of the names of constants that blocks create."""
SIZES = ("Reshape", "Slice", "Gather", "Resize", "Pad", "Tile", "Expand", "TopK", "Clip", "Unsqueeze", "Squeeze")
"""Operators whose inputs beside the first are sizes, indices or bounds and not parameters."""
CONVERTING = frozenset(
    {"Identity", "Cast", "Transpose", "DequantizeLinear", "Reshape", "Squeeze", "Unsqueeze", "Flatten"}
)
"""Operators through which weights are followed."""


class Parameters:
    """The parameters of the nodes of a graph."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        """Index the weights of a graph."""
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._makers = {name: node for node in graph.node for name in node.output if node.op_type in CONVERTING}

    def of(self, nodes: Sequence[onnx.NodeProto]) -> tuple[WeightInfo, ...]:
        """Return the parameters of nodes, each once, in the order of their inputs."""
        found = {tensor.name: tensor for node in nodes for tensor in self._read_by(node)}
        return tuple(WeightInfo(tensor.name, dtype_of(tensor), tuple(tensor.dims)) for tensor in found.values())

    def _read_by(self, node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
        """Yield the parameters that a node reads; scalars and sizes are none."""
        if node.op_type.startswith(SIZES):
            names = list(node.input[:1]) if node.op_type == "Gather" else []
        else:
            names = list(node.input)
        for name in names:
            tensor = self._weights.get(self._origin(name))
            if tensor is not None and not tensor.name.startswith(CONSTANTS) and math.prod(tensor.dims) > 1:
                yield tensor

    def _origin(self, name: str) -> str:
        """Return the tensor that a tensor is converted from."""
        seen: set[str] = set()
        while name in self._makers and name not in seen:
            seen.add(name)
            name = self._makers[name].input[0]
        return name


def dtype_of(tensor: onnx.TensorProto) -> str:
    """Return the name of the dtype in which a weight is sent; types that NumPy lacks are sent as float32 or int8."""
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    if kind.name in {"int4", "uint4", "int2", "uint2"}:
        return "int8" if kind.name.startswith("int") else "uint8"
    return kind.name if kind.kind in "biuf" and kind.isbuiltin == 1 else "float32"


def read_weights(graph: ModelGraph, infos: Sequence[WeightInfo]) -> Mapping[str, Array]:
    """Return the values of weights by name, as they are stored.

    Values of types that NumPy lacks, such as bfloat16, are converted to the dtype of their description, which holds
    them exactly.
    """
    tensors = {tensor.name: tensor for tensor in graph.proto.graph.initializer}
    folder = str(graph.weights_folder)
    return {
        info.name: np.asarray(numpy_helper.to_array(tensors[info.name], folder)).astype(info.dtype, copy=False)
        for info in infos
    }


def bytes_of(info: WeightInfo) -> int:
    """Return the size of the values of a weight in bytes."""
    return math.prod(info.shape) * np.dtype(info.dtype).itemsize
