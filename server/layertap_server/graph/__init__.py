"""Analysis and compilation of ONNX graphs: read a model's layers, extract a plan's subgraph, append the heads.

`read` analyzes a model once and returns a `ModelGraph`. `compile_plan` builds the ONNX model of each plan from it. All
functions are pure.
"""

from onnx import ModelProto

from layertap_server.graph.batch_axis import APART, Mixing, Verdict, mixing_of, worst
from layertap_server.graph.compile import (
    CompiledPlan,
    HeadType,
    compile_inspection,
    compile_plan,
    computed_layers,
    cost_of,
    head_type,
    whole_with_outputs,
)
from layertap_server.graph.edits import Edit, check_edit
from layertap_server.graph.feeds import Feed, with_feeds
from layertap_server.graph.gradient import (
    TARGET_INDEX,
    Gradient,
    GradientError,
    NoRuleError,
    Target,
    differentiate,
    target_size,
)
from layertap_server.graph.heads import COTANGENT, compile_head, compile_head_gradient, tensor_type
from layertap_server.graph.inspect import COLUMNS
from layertap_server.graph.layers import INPUT
from layertap_server.graph.load import LARGEST_MODEL_BYTES, GraphError, check_size, explained, first_line, load
from layertap_server.graph.main_input import ImageInput
from layertap_server.graph.model_graph import ModelGraph, ObservedType, spatial_axes
from layertap_server.graph.native import InProcess, Native, NativeLostError
from layertap_server.graph.parameters import bytes_of, read_weights
from layertap_server.graph.preprocessing_nodes import Normalization
from layertap_server.graph.price import price_of, prices_of
from layertap_server.graph.probe import probe_model
from layertap_server.graph.quantized import inexact_layers
from layertap_server.graph.read import at_shape, at_size, read, read_file, reread, with_observed
from layertap_server.graph.size_formulas import SAMPLES, describe_any_size
from layertap_server.graph.sized_by_values import sized_by_values
from layertap_server.graph.structure import Structure, structure_of
from layertap_server.graph.surgery import Operation, operate
from layertap_server.graph.tails import Tail, find_tail

Proto = ModelProto
"""Type of an ONNX model, for packages that only pass it on."""

__all__ = [
    "APART",
    "COLUMNS",
    "COTANGENT",
    "INPUT",
    "LARGEST_MODEL_BYTES",
    "SAMPLES",
    "TARGET_INDEX",
    "CompiledPlan",
    "Edit",
    "Feed",
    "Gradient",
    "GradientError",
    "GraphError",
    "HeadType",
    "ImageInput",
    "InProcess",
    "Mixing",
    "ModelGraph",
    "Native",
    "NativeLostError",
    "NoRuleError",
    "Normalization",
    "ObservedType",
    "Operation",
    "Proto",
    "Structure",
    "Tail",
    "Target",
    "Verdict",
    "at_shape",
    "at_size",
    "bytes_of",
    "check_edit",
    "check_size",
    "compile_head",
    "compile_head_gradient",
    "compile_inspection",
    "compile_plan",
    "computed_layers",
    "cost_of",
    "describe_any_size",
    "differentiate",
    "explained",
    "find_tail",
    "first_line",
    "head_type",
    "inexact_layers",
    "load",
    "mixing_of",
    "operate",
    "price_of",
    "prices_of",
    "probe_model",
    "read",
    "read_file",
    "read_weights",
    "reread",
    "sized_by_values",
    "spatial_axes",
    "structure_of",
    "target_size",
    "tensor_type",
    "whole_with_outputs",
    "with_feeds",
    "with_observed",
    "worst",
]
