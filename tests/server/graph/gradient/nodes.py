"""Small graphs of one node, the gradients that the rules emit for them, and float64 differences as the reference."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from layertap.types import Array, Layout
from layertap_server.blocks.builder import Builder
from layertap_server.graph.gradient import add_gradients
from layertap_server.tensor import Tensor
from tests.server.graph.gradient.forward import FORWARD, attributes_of

NOT_INFERRED = {"GroupNormalization"}
"""Operators whose result has the shape of the first input, which onnx's shape inference does not find."""
STEP = 1e-5
"""Distance of the float64 differences."""


@dataclass(frozen=True)
class Case:
    """One node with random inputs."""

    op_type: str
    inputs: tuple[tuple[int, ...], ...]
    """Shapes of the inputs with a gradient, which are drawn at random."""
    attributes: dict[str, Any] = field(default_factory=dict)
    constants: dict[int, Any] = field(default_factory=dict)
    """Values of the constant inputs, by position; None for an input that is left out."""
    opset: int = 17
    outputs: int = 1
    used: int = 0
    """Index of the output that is the target."""
    spread: tuple[float, float] = (-2, 2)
    """Range of the random values."""
    note: str = ""

    @property
    def name(self) -> str:
        """Name of the case."""
        parts = [self.op_type, self.note, f"opset {self.opset}" if self.opset != 17 else ""]
        return " ".join(part for part in parts if part)


def make_model(case: Case, dtype: str, *, free_batch: bool) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """Return the model ``target = weights · node(inputs)`` without its gradients, and random values of its inputs."""
    random = np.random.default_rng(7)
    inputs, feeds, initializers = [], {}, []
    names: list[str] = []
    shapes = iter(case.inputs)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    for index in range(len(case.inputs) + len(case.constants)):
        name = f"in{index}"
        if index in case.constants:
            value = case.constants[index]
            names.append("" if value is None else name)
            if value is not None:
                array = np.asarray(value)
                array = array.astype(dtype) if array.dtype.kind == "f" else array
                initializers.append(numpy_helper.from_array(array, name))
            continue
        shape = next(shapes)
        low, high = case.spread
        feeds[name] = random.uniform(low, high, shape).astype(dtype)
        names.append(name)
        free = free_batch and index == 0
        inputs.append(helper.make_tensor_value_info(name, kind, ["N", *shape[1:]] if free else shape))
    outputs = [f"out{index}" for index in range(case.outputs)]
    node = helper.make_node(case.op_type, names, outputs, **case.attributes)
    graph = helper.make_graph([node], "g", inputs, [], initializers)
    graph.output.append(onnx.ValueInfoProto(name=outputs[case.used]))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", case.opset)], ir_version=8)
    weights = random.uniform(0.5, 1.5, _result(case, model, feeds).shape).astype(dtype)
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(weights, "weights"))
    graph.node.append(helper.make_node("Mul", [outputs[case.used], "weights"], ["target"]))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("target", kind, None))
    if case.op_type in NOT_INFERRED:
        sizes = [dim.dim_value or dim.dim_param for dim in graph.input[0].type.tensor_type.shape.dim]
        graph.value_info.append(helper.make_tensor_value_info(outputs[0], kind, sizes))
    return model, feeds


def _result(case: Case, node: onnx.ModelProto, feeds: dict[str, Array]) -> Array:
    """Return the result of the node in the inputs' dtype, by NumPy or the reference evaluator."""
    if case.op_type not in FORWARD:
        (result,) = ReferenceEvaluator(node).run(None, feeds)
        return np.asarray(result)
    known = feeds | {item.name: numpy_helper.to_array(item) for item in node.graph.initializer}
    return FORWARD[case.op_type](*(known[name] for name in node.graph.node[0].input), **attributes_of(case.attributes))


def types_of(model: onnx.ModelProto) -> dict[str, Tensor]:
    """Return the types of all tensors of a model."""
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    types = {
        value.name: Tensor(
            value.name,
            str(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)),
            tuple(dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim),
            Layout.OTHER,
        )
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    for item in graph.initializer:
        dtype = str(helper.tensor_dtype_to_np_dtype(item.data_type))
        types[item.name] = Tensor(item.name, dtype, tuple(item.dims), Layout.OTHER)
    return types


def gradients(
    model: onnx.ModelProto, feeds: dict[str, Array], target: str = "target", wanted: tuple[str, ...] = ()
) -> dict[str, Array]:
    """Return the gradients of the sum of the target with respect to the inputs or ``wanted``, by onnxruntime."""
    opset = next(item.version for item in model.opset_import if not item.domain)
    constants = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    builder = Builder(opset)
    types = types_of(model)
    found = add_gradients(builder, list(model.graph.node), types, constants.get, target, wanted or tuple(feeds))
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    whole.graph.node.extend(builder.nodes)
    whole.graph.initializer.extend(builder.initializers)
    del whole.graph.output[:]
    kinds = {name: helper.np_dtype_to_tensor_dtype(np.dtype(types[name].dtype)) for name in found}
    whole.graph.output.extend(helper.make_tensor_value_info(new, kinds[old], None) for old, new in found.items())
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(whole.SerializeToString(), options, providers=["CPUExecutionProvider"])
    results = session.run(list(found.values()), feeds)
    return dict(zip(found, map(np.asarray, results), strict=True))


def differences(case: Case) -> dict[str, Array]:
    """Return the same gradients by central differences in float64."""
    model, _ = make_model(case, "float64", free_batch=False)
    _, feeds = make_model(case, "float32", free_batch=False)
    exact = {name: value.astype(np.float64) for name, value in feeds.items()}
    weights = next(numpy_helper.to_array(item) for item in model.graph.initializer if item.name == "weights")
    del model.graph.node[1:], model.graph.output[:]
    model.graph.output.append(onnx.ValueInfoProto(name=f"out{case.used}"))

    def target() -> float:
        return float(np.sum(_result(case, model, exact) * weights))

    found = {}
    for name, value in exact.items():
        gradient = np.zeros(value.size)
        flat = value.reshape(-1)
        for index in range(value.size):
            before = flat[index]
            flat[index] = before + STEP
            above = target()
            flat[index] = before - STEP
            gradient[index] = (above - target()) / (2 * STEP)
            flat[index] = before
        found[name] = gradient.reshape(value.shape)
    return found
