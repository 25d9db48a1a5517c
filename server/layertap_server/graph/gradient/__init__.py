"""Gradients as plain ONNX: for each node of a graph the nodes that pass a cotangent from its outputs to its inputs.

The *cotangent* of a tensor is the derivative of the target with respect to it, in the tensor's own shape. Each operator
has one rule, a function of a `Step`. `add_gradients` applies the rules from the target back to the wanted layers.
"""

from layertap_server.graph.gradient.backward import NoRuleError, UnrelatedTargetError, add_gradients
from layertap_server.graph.gradient.rules import RULES, WITHOUT_GRADIENT

__all__ = ["RULES", "WITHOUT_GRADIENT", "NoRuleError", "UnrelatedTargetError", "add_gradients"]
