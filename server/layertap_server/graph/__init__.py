"""ONNX in, ONNX out: reading a model's layers, cutting a plan's graph out of it, grafting the heads on. Pure functions.

`read` makes a `ModelGraph` of a file's model once; `compile_plan` makes each plan's model of it.
"""

from onnx import ModelProto

from layertap_server.graph.compile import (
    CompiledPlan,
    compile_head,
    compile_inspection,
    compile_plan,
    head_type,
    macs_of,
    tensor_type,
)
from layertap_server.graph.front import Normalization
from layertap_server.graph.inspect import COLUMNS
from layertap_server.graph.layers import INPUT
from layertap_server.graph.model_graph import ModelGraph
from layertap_server.graph.probe import probe_model
from layertap_server.graph.read import GraphError, at_size, load, read, reread
from layertap_server.graph.surgery import Operation, operate

Proto = ModelProto
"""An ONNX model, for rooms that only hand it on."""

__all__ = [
    "COLUMNS",
    "INPUT",
    "CompiledPlan",
    "GraphError",
    "ModelGraph",
    "Normalization",
    "Operation",
    "Proto",
    "at_size",
    "compile_head",
    "compile_inspection",
    "compile_plan",
    "head_type",
    "load",
    "macs_of",
    "operate",
    "probe_model",
    "read",
    "reread",
    "tensor_type",
]
