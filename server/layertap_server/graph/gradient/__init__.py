"""Gradients as plain ONNX: for each node of a graph the nodes that pass a cotangent from its outputs to its inputs.

The *cotangent* of a tensor is the derivative of the target with respect to it, in the tensor's own shape. Each operator
has one rule, a function of a `Step`. `emit_gradients` applies the rules from the target back to the wanted layers, and
`differentiate` does so for the layers of a model.
"""

from layertap_server.graph.gradient.backward import (
    GradientError,
    NoRuleError,
    UnrelatedTargetError,
    add_gradients,
    emit_gradients,
)
from layertap_server.graph.gradient.rules import RULES, WITHOUT_GRADIENT
from layertap_server.graph.gradient.target import (
    TARGET_INDEX,
    Differentiated,
    Gradient,
    Target,
    differentiate,
    index_input,
    target_size,
)
from layertap_server.graph.gradient.types import infer_types, type_of_weight, value_of

__all__ = [
    "RULES",
    "TARGET_INDEX",
    "WITHOUT_GRADIENT",
    "Differentiated",
    "Gradient",
    "GradientError",
    "NoRuleError",
    "Target",
    "UnrelatedTargetError",
    "add_gradients",
    "differentiate",
    "emit_gradients",
    "index_input",
    "infer_types",
    "target_size",
    "type_of_weight",
    "value_of",
]
