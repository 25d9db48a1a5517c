"""Check the gradient rules and print two tables (``make check-gradients``).

The first table compares each rule, in float32 and float16, with central differences in float64; the error is relative
to the largest value of a gradient, or to 1 if that is larger. The second table compares the gradient g of whole
networks at their input with the derivative of the target along a random direction v: ⟨g, v⟩ with
(f(x + εv) − f(x − εv))/2ε, which the reference evaluator of the package onnx computes in float64; the error is
relative to the norm of g·v, value by value. The target is a weighted sum of the result before a final softmax.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnxruntime.capi import onnxruntime_pybind11_state as errors_of_runtime

from layertap.types import Array
from layertap_server import graph
from tests.light_models import LIGHT, names
from tests.paths import ROOT
from tests.server.graph.gradient.cases import CASES
from tests.server.graph.gradient.forward import FORWARD
from tests.server.graph.gradient.networks import as_double
from tests.server.graph.gradient.nodes import Case, differences, gradients, make_model

TOLERANCES = {"float32": 2e-5, "float16": 2e-2}
"""Maximum relative error of a rule in each dtype."""
NETWORK_TOLERANCE = 1e-3
"""Maximum relative error of a derivative of a whole network, which includes that of the differences."""
DISTANCE = 1e-6
"""Length ε of a difference, for a direction of values around 1."""


class Erf(OpRun):
    """``Erf`` in float64, which the evaluator computes less exactly."""

    op_domain = ""

    def _run(self, x: Array) -> tuple[Array]:
        """Return the result."""
        return (FORWARD["Erf"](x),)


class Gelu(OpRun):
    """``Gelu`` in float64, which the evaluator computes less exactly."""

    op_domain = ""

    def _run(self, x: Array, approximate: str) -> tuple[Array]:
        """Return the result."""
        return (FORWARD["Gelu"](x, approximate),)


class LRN(OpRun):
    """``LRN``, in which the evaluator takes other channels than ONNX."""

    op_domain = ""

    def _run(self, x: Array, alpha: float, beta: float, bias: float, size: int) -> tuple[Array]:
        """Return the result."""
        return (FORWARD["LRN"](x, size, alpha, beta, bias),)


def is_runnable(model: onnx.ModelProto) -> bool:
    """Return whether onnxruntime has the operator in the dtype."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except (errors_of_runtime.InvalidGraph, errors_of_runtime.NotImplemented, errors_of_runtime.Fail):
        return False
    return True


def check_rule(case: Case, dtype: str, exact: dict[str, Array]) -> float | None:
    """Return the largest relative error of a case; None if onnxruntime does not have the operator in the dtype."""
    model, feeds = make_model(case, dtype, free_batch=False)
    if not is_runnable(model):
        return None
    found = gradients(model, feeds)
    return max(float(np.abs(found[name] - value).max() / max(np.abs(value).max(), 1)) for name, value in exact.items())


def check_rules() -> int:
    """Print the table of the rules and return the number of wrong ones."""
    print(f"{'rule':<44} {'float32':>9} {'float16':>9}")
    wrong = 0
    for case in CASES:
        exact = differences(case)
        errors = {dtype: check_rule(case, dtype, exact) for dtype in TOLERANCES}
        wrong += any(error is not None and not error <= TOLERANCES[dtype] for dtype, error in errors.items())
        wrong += errors["float32"] is None
        columns = (f"{'none' if error is None else f'{error:.1e}':>9}" for error in errors.values())
        print(f"{case.name:<44}", *columns, flush=True)
    return wrong


def find_result(network: onnx.GraphProto) -> str:
    """Return the name of the first output, or of the input of the softmax that it comes from."""
    makers = {output: node for node in network.node for output in node.output}
    node = makers[network.output[0].name]
    while node.op_type in {"Reshape", "Flatten", "Squeeze"}:
        node = makers[node.input[0]]
    return str(node.input[0] if node.op_type == "Softmax" else network.output[0].name)


def check_network(path: Path) -> float:
    """Return the relative error of a network's derivative along a direction."""
    with tempfile.TemporaryDirectory() as folder:
        read = graph.read(onnx.load(path), Path(folder))
        model = onnx.load_from_string(read.proto.SerializeToString())
        onnx.load_external_data_for_model(model, folder)
    result = find_result(model.graph)
    shape = [1, *(size for size in read.types[result].shape[1:] if isinstance(size, int))]
    random = np.random.default_rng(0)
    weights = random.uniform(-1, 1, shape).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weights, "target weights"))
    model.graph.node.append(helper.make_node("Mul", [result, "target weights"], ["target"]))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("target", onnx.TensorProto.FLOAT, shape))
    image = random.normal(size=[max(size, 1) for size in read.main_input.shape]).astype(np.float32)
    direction = random.normal(size=image.shape)
    name = read.main_input.name
    gradient = gradients(model, {name: image})[name]
    evaluator = ReferenceEvaluator(as_double(model), new_ops=[Erf, Gelu, LRN])

    def target(distance: float) -> float:
        (value,) = evaluator.run(None, {name: image + distance * direction})
        return float(np.sum(value))

    expected = (target(DISTANCE) - target(-DISTANCE)) / (2 * DISTANCE)
    scale = max(float(np.sqrt(np.sum((gradient * direction) ** 2))), float(np.finfo(np.float32).tiny))
    return abs(float(np.sum(gradient * direction)) - expected) / scale


def check_networks() -> int:
    """Print the table of the networks and return the number of wrong ones."""
    paths = {name: LIGHT / f"light_{name}.onnx" for name in names()}
    paths["digits_vit"] = ROOT / "examples/models/digits_vit/model.onnx"
    print(f"\n{'network':<44} {'error':>9}")
    wrong = 0
    for name, path in paths.items():
        error = check_network(path)
        wrong += not error <= NETWORK_TOLERANCE
        print(f"{name:<44} {error:>9.1e}", flush=True)
    return wrong


if __name__ == "__main__":
    sys.exit(1 if check_rules() + check_networks() else 0)
