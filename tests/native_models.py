"""Create small models, valid or nearly so, that crash native code or keep it busy for too long."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.odd_models import OPSET, of_text

LOCAL = "local"
"""Domain of local functions."""


def negative_slice() -> onnx.ModelProto:
    """Return a model with a height of -1 and a Slice along it, which triggers an assertion in shape inference."""
    model = of_text(
        f"""{OPSET}
        sliced (float[N, 3, height, 10] image) => (float[N, 3, rows, 10] out) {{ out = Slice (image, s, e, a) }}""",
        s=np.array([1]),
        e=np.array([7]),
        a=np.array([2]),
    )
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = -1
    return model


def wide_kernel() -> onnx.ModelProto:
    """Return a valid model of free size whose shape inference computes a negative size for small images."""
    return of_text(
        f"""{OPSET}
        wide (float[batch, 3, height, width] image) => (float[batch, 4, rows, columns] out) {{
            conv = Conv (image, w)
            out = Slice (conv, s, e, a)
        }}""",
        w=(4, 3, 7, 7),
        s=np.array([1]),
        e=np.array([7]),
        a=np.array([2]),
    )


def too_small() -> onnx.ModelProto:
    """Return `wide_kernel` for images of 3×3: no size is left, and shape inference aborts."""
    model = wide_kernel()
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_value = 3
    return model


def hanging(depth: int = 40) -> onnx.ModelProto:
    """Return a model whose functions each call the previous one twice: shape inference takes 2^depth steps."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(LOCAL, 1)]
    functions = [
        helper.make_function(LOCAL, "f0", ["x"], ["y"], [helper.make_node("Relu", ["x"], ["y"])], opsets),
    ]
    for level in range(1, depth + 1):
        inner = f"f{level - 1}"
        nodes = [helper.make_node(inner, [a], [b], domain=LOCAL) for a, b in (("x", "half"), ("half", "y"))]
        functions.append(helper.make_function(LOCAL, f"f{level}", ["x"], ["y"], nodes, opsets))
    image, out = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, 8, 8]) for name in ("image", "out"))
    calls = [helper.make_node(f"f{depth}", ["image"], ["out"], domain=LOCAL)]
    graph = helper.make_graph(calls, "hanging", [image], [out])
    return helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=8)


def endless_loop() -> onnx.ModelProto:
    """Return a model with a Loop that runs for days: shape inference is quick, but the first run is not."""
    model = of_text(f"""{OPSET}
    endless (float[batch, 3, 8, 8] image) => (float[batch, 3, 8, 8] result) {{
        always = Constant <value = bool {{1}}> ()
        last = Loop (times, always, image) <
            body = again (int64 number, bool go_on, float[batch, 3, 8, 8] state)
                => (bool still, float[batch, 3, 8, 8] next) {{
                still = Identity (go_on)
                next = Tanh (state)
            }}
        >
        result = Relu (last)
    }}""")
    model.graph.initializer.append(numpy_helper.from_array(np.array(2**60), "times"))
    return model


def greedy(values: int = 2**24) -> onnx.ModelProto:
    """Return a model with values of one byte each in the file that become eight bytes each in memory."""
    model = of_text(f"""{OPSET}
    greedy (float[batch, 3, 8, 8] image) => (float[batch, 3, 8, 8] out) {{ out = Relu (image) }}""")
    model.graph.initializer.add(name="many", data_type=TensorProto.INT64, dims=[values]).int64_data.extend([1] * values)
    return model
