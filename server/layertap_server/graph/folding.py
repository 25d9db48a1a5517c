"""Folding of constant integers, such as the sizes and indices that older exporters compute by several nodes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from layertap.types import Array

MOST_VALUES = 1024
"""Maximum number of values of a constant that is folded."""
FOLDED = frozenset(
    {
        *("Add", "Sub", "Mul", "Div", "Mod", "Neg", "Abs", "Max", "Min", "Equal", "Where", "ReduceProd", "ReduceSum"),
        *("Cast", "Concat", "ConstantOfShape", "Gather", "Identity", "Range", "Reshape", "Shape", "Slice", "Squeeze"),
        "Unsqueeze",
    }
)
"""Operators that are folded; on integers, their results are the same in every runtime."""


def fold_integers(proto: onnx.ModelProto) -> None:
    """Replace the nodes that compute constant integers or booleans from such constants with initializers.

    Changes ``proto`` in place. A node that cannot be computed is kept, and fails when it runs.
    """
    graph = proto.graph
    outputs = {value.name for value in graph.output}
    listed = {value.name for value in graph.input}
    known = {tensor.name: value for tensor in graph.initializer if (value := _value(tensor)) is not None}
    known = {name: value for name, value in known.items() if name not in listed}
    kept = []
    for node in graph.node:
        folded = None if outputs.intersection(node.output) else _compute(node, known, proto)
        if folded is None:
            kept.append(node)
            continue
        known[node.output[0]] = folded
        graph.initializer.append(numpy_helper.from_array(folded, node.output[0]))
    if len(kept) < len(graph.node):
        del graph.node[:]
        graph.node.extend(kept)


def _value(tensor: onnx.TensorProto) -> Array | None:
    """Return the value of an initializer of few integers or booleans; None for any other."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL or math.prod(tensor.dims) > MOST_VALUES:
        return None
    return _checked(numpy_helper.to_array(tensor))


def _checked(value: object) -> Array | None:
    """Return an array of few integers or booleans; None for any other value."""
    if not isinstance(value, (np.ndarray, np.generic)):
        return None
    array = np.asarray(value)
    return array if array.dtype.kind in "iub" and array.size <= MOST_VALUES else None


def _compute(node: onnx.NodeProto, known: Mapping[str, Array], proto: onnx.ModelProto) -> Array | None:
    """Return the only output of a node with known inputs; None if it cannot be folded."""
    names = [name for name in node.input if name]
    is_plain = node.domain in {"", "ai.onnx"} and node.op_type in FOLDED and len(node.output) == 1
    if not is_plain or not names or any(name not in known for name in names) or _is_large(node, known):
        return None
    if node.op_type in {"Div", "Mod"} and not known[names[-1]].all():
        return None
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(known[name].dtype), None)
        for name in dict.fromkeys(names)
    ]
    outputs = [onnx.ValueInfoProto(name=node.output[0])]
    graph = helper.make_graph([node], "folded", inputs, outputs)
    model = helper.make_model(graph, opset_imports=proto.opset_import, ir_version=proto.ir_version)
    try:
        (result,) = ReferenceEvaluator(model).run(None, {name: known[name] for name in names})
    except Exception:  # noqa: BLE001 - the evaluator raises exceptions of any type on invalid nodes
        return None
    return _checked(result)


def _is_large(node: onnx.NodeProto, known: Mapping[str, Array]) -> bool:
    """Return whether a node that makes a tensor of a given size would make a large one."""
    if node.op_type == "ConstantOfShape":
        return math.prod(max(int(size), 0) for size in known[node.input[0]].reshape(-1)) > MOST_VALUES
    if node.op_type == "Range" and len(node.input) == 3:  # noqa: PLR2004 - start, limit and delta
        start, limit, delta = (int(known[name].reshape(-1)[0]) for name in node.input)
        return not delta or abs(limit - start) // abs(delta) > MOST_VALUES
    return False
