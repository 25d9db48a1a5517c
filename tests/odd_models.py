"""Create small models of every kind that a user may provide, with the layers that cannot be tapped and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, parser

from layertap.types import Array
from tests.models import vision_transformer

OPSET = '<ir_version: 8, opset_import: ["" : 17]>'
"""Header of ONNX text."""


@dataclass(frozen=True)
class Odd:
    """A model with inputs, and its layers that cannot be tapped with a part of each reason."""

    make: Callable[[], onnx.ModelProto]
    """Function that creates the model."""
    image: tuple[int, ...] = (2, 3, 8, 8)
    """Shape of the images."""
    dtype: str = "float32"
    """dtype of the images."""
    inputs: Mapping[str, Array] = field(default_factory=dict)
    """Values of the other inputs by name."""
    not_tappable: Mapping[str, str] = field(default_factory=dict)
    """Part of the reason why a layer cannot be tapped, by layer."""
    batch_axes: Mapping[str, int] = field(default_factory=dict)
    """Axis of the batch in the graph, by layer, where it is not the first."""
    inexact: frozenset[str] = frozenset()
    """Layers that a tap changes by rounding."""
    one_by_one: bool = False
    """Whether the graph takes one image at a time."""
    external: bool = False
    """Whether the weights are in a separate file."""

    def images(self) -> Array:
        """Return random images."""
        return np.random.default_rng(1).normal(size=self.image).astype(self.dtype)

    def write(self, models: Path, name: str) -> Path:
        """Write the model as the only file of a folder."""
        path = models / name / "model.onnx"
        path.parent.mkdir(parents=True)
        if self.external:
            onnx.save(self.make(), path, save_as_external_data=True, location="weights.data", size_threshold=0)
        else:
            onnx.save(self.make(), path)
        return path


def of_text(text: str, dtype: str = "float32", /, **weights: tuple[int, ...] | Array) -> onnx.ModelProto:
    """Return the model of ONNX text; each weight is given as values, or as a shape to fill at random."""
    model = parser.parse_model(text)
    random = np.random.default_rng(0)
    for name, weight in weights.items():
        values = weight if isinstance(weight, np.ndarray) else (random.normal(size=weight) / 4).astype(dtype)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    return model


def channels_last() -> onnx.ModelProto:
    """Return a model with channels-last input and output."""
    text = f"""{OPSET}
    nhwc (float[batch, 8, 8, 3] image) => (float[batch, 8, 8, 4] maps) {{
        turned = Transpose <perm = [0, 3, 1, 2]> (image)
        conv = Conv <pads = [1, 1, 1, 1]> (turned, w)
        maps = Transpose <perm = [0, 2, 3, 1]> (conv)
    }}"""
    return of_text(text, w=(4, 3, 3, 3))


def fixed_batch() -> onnx.ModelProto:
    """Return a model with a batch of 1."""
    text = f"""{OPSET}
    fixed (float[1, 3, 8, 8] image) => (float[1, 5] scores) {{
        conv = Conv (image, w)
        act = Relu (conv)
        row = Reshape (act, to_row)
        scores = Gemm (row, head)
    }}"""
    return of_text(text, w=(4, 3, 3, 3), to_row=np.array([1, 144]), head=(144, 5))


def free_size() -> onnx.ModelProto:
    """Return a model for images of any size."""
    text = f"""{OPSET}
    free (float[batch, 3, height, width] image) => (float[batch, 4] scores) {{
        conv = Conv <strides = [2, 2]> (image, w)
        act = Relu (conv)
        mean = GlobalAveragePool (act)
        scores = Flatten (mean)
    }}"""
    return of_text(text, w=(4, 3, 3, 3))


def two_inputs() -> onnx.ModelProto:
    """Return a model with inputs besides the image."""
    text = f"""{OPSET}
    two (float[batch, 4] condition, float[batch, 3, 8, 8] image, float[4] bias) => (float[batch, 4] scores) {{
        conv = Conv (image, w)
        mean = GlobalAveragePool (conv)
        vector = Flatten (mean)
        gated = Mul (vector, condition)
        scores = Add (gated, bias)
    }}"""
    return of_text(text, w=(4, 3, 3, 3))


def if_body() -> onnx.ModelProto:
    """Return a model with an If."""
    text = f"""{OPSET}
    branch (float[batch, 3, 8, 8] image) => (float[batch, 4, 6, 6] result) {{
        conv = Conv (image, w)
        largest = ReduceMax <keepdims = 0> (conv)
        limit = Constant <value_float = 0.5> ()
        is_large = Greater (largest, limit)
        chosen = If (is_large) <
            then_branch = positive () => (float[batch, 4, 6, 6] doubled) {{
                rectified = Relu (conv)
                doubled = Add (rectified, rectified)
            }},
            else_branch = negative () => (float[batch, 4, 6, 6] turned) {{ turned = Neg (conv) }}
        >
        result = Sigmoid (chosen)
    }}"""
    return of_text(text, w=(4, 3, 3, 3))


def loop_body() -> onnx.ModelProto:
    """Return a model with a Loop."""
    text = f"""{OPSET}
    repeated (float[batch, 3, 8, 8] image) => (float[batch, 3, 8, 8] result) {{
        times = Constant <value_int = 3> ()
        always = Constant <value = bool {{1}}> ()
        last = Loop (times, always, image) <
            body = again (int64 number, bool go_on, float[batch, 3, 8, 8] state)
                => (bool still, float[batch, 3, 8, 8] next) {{
                still = Identity (go_on)
                convolved = Conv <pads = [1, 1, 1, 1]> (state, w)
                next = Tanh (convolved)
            }}
        >
        result = Relu (last)
    }}"""
    return of_text(text, w=(3, 3, 3, 3))


def half() -> onnx.ModelProto:
    """Return a float16 model."""
    text = f"""{OPSET}
    half (float16[batch, 3, 8, 8] image) => (float16[batch, 4, 6, 6] act) {{
        conv = Conv (image, w)
        act = Relu (conv)
    }}"""
    return of_text(text, "float16", w=(4, 3, 3, 3))


def quantized() -> onnx.ModelProto:
    """Return a model as a quantizer writes it, with every convolution between DequantizeLinear and QuantizeLinear."""
    text = f"""{OPSET}
    qdq (float[batch, 3, 8, 8] image) => (float[batch, 4] scores) {{
        image_q = QuantizeLinear (image, scale, zero)
        image_dq = DequantizeLinear (image_q, scale, zero)
        w1 = DequantizeLinear (w1_q, weight_scale, zero)
        conv1 = Conv (image_dq, w1)
        act1 = Relu (conv1)
        act1_q = QuantizeLinear (act1, scale, zero)
        act1_dq = DequantizeLinear (act1_q, scale, zero)
        w2 = DequantizeLinear (w2_q, weight_scale, zero)
        conv2 = Conv (act1_dq, w2)
        conv2_q = QuantizeLinear (conv2, scale, zero)
        conv2_dq = DequantizeLinear (conv2_q, scale, zero)
        mean = GlobalAveragePool (conv2_dq)
        scores = Flatten (mean)
    }}"""
    random = np.random.default_rng(0)
    return of_text(
        text,
        scale=np.array(0.03, np.float32),
        weight_scale=np.array(0.01, np.float32),
        zero=np.array(0, np.int8),
        w1_q=random.integers(-60, 60, (4, 3, 3, 3)).astype(np.int8),
        w2_q=random.integers(-60, 60, (4, 4, 3, 3)).astype(np.int8),
    )


def empty_outputs() -> onnx.ModelProto:
    """Return a recurrent network over the rows, of which only the last of three outputs is used."""
    text = f"""{OPSET}
    recurrent (float[batch, 3, 8, 8] image) => (float[batch, 5] state) {{
        gray = ReduceMean <axes = [1], keepdims = 0> (image)
        rows = Transpose <perm = [1, 0, 2]> (gray)
        final = LSTM <hidden_size = 5> (rows, w, r)
        state = Squeeze (final, first)
    }}"""
    model = of_text(text, w=(1, 20, 8), r=(1, 20, 5), first=np.array([0]))
    del model.graph.node[2].output[:]
    model.graph.node[2].output.extend(["", "final"])
    return model


def strange_names() -> onnx.ModelProto:
    """Return a model whose tensors need quoting in tap expressions, and whose node names are empty or duplicated."""
    names = ["conv|relu", "a -> b", "with spaces", 'quote"d', "стадия:1", "back\\slash", "{layer}", "out"]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 8, 8])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", 3, 8, 8])
    nodes = [
        helper.make_node(operator, [source], [name], name=node)
        for operator, source, name, node in zip(
            ["Neg", "Relu", "Sigmoid", "Tanh", "Neg", "Relu", "Sigmoid", "Tanh"],
            ["image", *names],
            names,
            ["same", "same", "", "", "a | b", "same", "", "out"],
            strict=False,
        )
    ]
    graph = helper.make_graph(nodes, "strange", [image], [out])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def functions() -> onnx.ModelProto:
    """Return a model with a local function."""
    text = """
    <ir_version: 8, opset_import: ["" : 17, "local" : 1]>
    calling (float[batch, 3, 8, 8] image) => (float[batch, 4, 6, 6] act) {
        conv = Conv (image, w)
        act = local.swish (conv)
    }
    <domain: "local", opset_import: ["" : 17]>
    swish (x) => (y) {
        gate = Sigmoid (x)
        y = Mul (x, gate)
    }"""
    return of_text(text, w=(4, 3, 3, 3))


def sequences() -> onnx.ModelProto:
    """Return a model with a sequence of tensors."""
    text = f"""{OPSET}
    parts (float[batch, 3, 8, 8] image) => (seq(float[batch, 1, 8, 8]) pieces, float[batch, 3, 8, 8] back) {{
        act = Relu (image)
        pieces = SplitToSequence <axis = 1> (act)
        back = ConcatFromSequence <axis = 1> (pieces)
    }}"""
    return of_text(text)


def other_types() -> onnx.ModelProto:
    """Return a model with integer, boolean and float64 layers."""
    text = f"""{OPSET}
    types (float[batch, 3, 8, 8] image) => (int64[batch, 1, 8, 8] best, bool[batch, 3, 8, 8] positive) {{
        zero = Constant <value_float = 0.0> ()
        best = ArgMax <axis = 1> (image)
        positive = Greater (image, zero)
        precise = Cast <to = 11> (image)
        count = Shape (image)
        total = ReduceSum <keepdims = 0> (image)
    }}"""
    return of_text(text)


def contributed() -> onnx.ModelProto:
    """Return a model with an operator of onnxruntime's own domain, which ONNX does not define."""
    text = """
    <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
    contributed (float[batch, 3, 8, 8] image) => (float[batch, 4] scores) {
        conv = Conv (image, w)
        gated = com.microsoft.QuickGelu (conv)
        act = Relu (gated)
        mean = GlobalAveragePool (act)
        scores = Flatten (mean)
    }"""
    return of_text(text, w=(4, 3, 3, 3))


def old_resize(operator: str, opset: int) -> Callable[[], onnx.ModelProto]:
    """Return a function that creates a model with an old interpolation operator, which places corners differently."""

    def make() -> onnx.ModelProto:
        """Return the model."""
        text = f"""<ir_version: 5, opset_import: ["" : {opset}]>
        old (float[batch, 3, 8, 8] image) => (float[batch, 3, 16, 16] act) {{
            large = {operator} <mode = "linear"> (image, scales)
            act = Relu (large)
        }}"""
        model = of_text(text, scales=np.array([1, 1, 2, 2], np.float32))
        model.graph.input.append(helper.make_tensor_value_info("scales", TensorProto.FLOAT, [4]))
        return model

    return make


def old_functions() -> onnx.ModelProto:
    """Return `functions` with an older opset."""
    model = functions()
    model.opset_import[0].version = 15
    model.functions[0].opset_import[0].version = 15
    return model


def decoder() -> onnx.ModelProto:
    """Return a model in which shape inference loses the batch at a Resize by a factor."""
    text = f"""{OPSET}
    decoder (float[batch, 3, 8, 8] image) => (float[batch, 2, 16, 16] out) {{
        small = Conv <pads = [1, 1, 1, 1]> (image, w1)
        large = Resize <mode = "nearest"> (small, , scales)
        out = Conv <pads = [1, 1, 1, 1]> (large, w2)
    }}"""
    return of_text(text, w1=(4, 3, 3, 3), scales=np.array([1, 1, 2, 2], np.float32), w2=(2, 4, 3, 3))


def contributed_fixed() -> onnx.ModelProto:
    """Return `contributed` with a batch of 1."""
    model = contributed()
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    return model


def contributed_free() -> onnx.ModelProto:
    """Return `contributed` for images of any size."""
    model = contributed()
    for axis, name in ((2, "height"), (3, "width")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    return model


def another_n() -> onnx.ModelProto:
    """Return a model that uses the name N for a dimension other than the batch."""
    text = f"""{OPSET}
    boxes (float[batch, 3, 8, 8] image, float[N, 5] boxes) => (float[batch, 4] scores, float[N, 5] moved) {{
        conv = Conv (image, w)
        mean = GlobalAveragePool (conv)
        scores = Flatten (mean)
        moved = Relu (boxes)
    }}"""
    return of_text(text, w=(4, 3, 3, 3))


def as_many_as_there_are() -> onnx.ModelProto:
    """Return a model whose number of output rows depends on the values of its single image."""
    text = f"""{OPSET}
    detector (float[1, 3, 8, 8] image) => (float[1, many, 1] found) {{
        zero = Constant <value_float = 0.5> ()
        flat = Reshape (image, row)
        high = Greater (flat, zero)
        picked = Compress (flat, high)
        found = Reshape (picked, column)
    }}"""
    return of_text(text, row=np.array([192]), column=np.array([1, -1, 1]))


def no_output_shape() -> onnx.ModelProto:
    """Return a model as some exporters write it: an output has a type but no shape."""
    model = free_size()
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


NOT_FIRST = "first axis is not the batch"
"""Reason for layers without a batch."""
MODELS: Mapping[str, Odd] = {
    "transformer": Odd(vision_transformer, (2, 3, 24, 32), not_tappable={"sizes": NOT_FIRST, "many": NOT_FIRST}),
    "channels_last": Odd(channels_last, (2, 8, 8, 3)),
    "fixed_batch": Odd(fixed_batch, (3, 3, 8, 8), one_by_one=True),
    "free_size": Odd(free_size, (2, 3, 11, 17)),
    "two_inputs": Odd(
        two_inputs,
        inputs={"condition": np.ones((2, 4), np.float32) * 3, "bias": np.arange(4, dtype=np.float32)},
        not_tappable={"bias": NOT_FIRST},
    ),
    "if_body": Odd(
        if_body,
        not_tappable={
            "largest": NOT_FIRST,
            "is_large": NOT_FIRST,
            "rectified": "inside the body of If",
            "doubled": "inside the body of If",
            "turned": "inside the body of If",
        },
    ),
    "loop_body": Odd(loop_body, not_tappable=dict.fromkeys(("still", "convolved", "next"), "inside the body of Loop")),
    "external_data": Odd(free_size, (2, 3, 8, 8), external=True),
    "half": Odd(half, dtype="float16"),
    "quantized": Odd(quantized, inexact=frozenset({"conv1", "act1", "conv2"})),
    "empty_outputs": Odd(empty_outputs, batch_axes={"rows": 1, "final": 1}),
    "strange_names": Odd(strange_names),
    "functions": Odd(functions),
    "sequences": Odd(sequences, not_tappable={"pieces": "not a tensor"}),
    "other_types": Odd(other_types, not_tappable={"count": NOT_FIRST, "total": NOT_FIRST}),
    "resize_10": Odd(old_resize("Resize", 10)),
    "upsample_9": Odd(old_resize("Upsample", 9)),
    "old_functions": Odd(old_functions),
    "decoder": Odd(decoder),
    "contributed_fixed": Odd(contributed_fixed, (2, 3, 8, 8), one_by_one=True),
    "contributed_free": Odd(contributed_free, (2, 3, 9, 13)),
    "another_n": Odd(
        another_n,
        inputs={"boxes": np.linspace(-1, 1, 25, dtype=np.float32).reshape(5, 5)},
        not_tappable={"boxes": NOT_FIRST, "moved": NOT_FIRST},
    ),
    "as_many_as_there_are": Odd(
        as_many_as_there_are, (1, 3, 8, 8), not_tappable=dict.fromkeys(("flat", "high", "picked"), NOT_FIRST)
    ),
    "contributed": Odd(contributed),
    "no_output_shape": Odd(no_output_shape),
}
"""All models by name."""
