"""Test which layers mix the images of a batch, compared with runs of the images in one batch and one by one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper, parser

from layertap.types import Array
from layertap_server.graph import APART, Mixing, ModelGraph, Verdict, at_size, mixing_of, prices_of, read
from tests import odd_models
from tests.light_models import LIGHT
from tests.models import branching, built_model, vision_transformer
from tests.paths import MODELS
from tests.sweeps import EXAMPLES

HEAD = '<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1]>\n'
INPUT = "g (float[batch, 3, 4, 6] image) => ({output}) {{\n"


def model_of(
    body: str, weights: Mapping[str, Array] = MappingProxyType({}), output: str = "float[batch, m] out", opset: int = 17
) -> onnx.ModelProto:
    text = HEAD.format(opset=opset) + INPUT.format(output=output) + body + "\n}"
    model = parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    return model


def graph_of(model: onnx.ModelProto, folder: Path) -> ModelGraph:
    graph = read(model, folder)
    if graph.image_size is None:
        height, width = graph.image_sides
        graph = at_size(graph, (height or 64, width or 64))
    return graph


def verdict_of(model: onnx.ModelProto, folder: Path, layer: str = "out") -> Verdict:
    return mixing_of(graph_of(model, folder)).get(layer, APART)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def floats(*shape: int) -> Array:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


FLAT = "flat = Flatten(image)\n"
IMAGE_BY_IMAGE: Mapping[str, tuple[str, dict[str, Array]]] = {
    "convolution": ("c = Conv<pads=[1,1,1,1]>(image, w)\nout = Relu(c)", {"w": floats(5, 3, 3, 3)}),
    "softmax of channels": ("out = Softmax<axis=1>(image)", {}),
    "softmax of the last axis": ("out = Softmax<axis=-1>(image)", {}),
    "mean over places": ("m = ReduceMean<axes=[-1,-2]>(image)\nout = Sub(image, m)", {}),
    "sum without the axes": ("out = ReduceSum<keepdims=0>(image, a)", {"a": ints(1, 2)}),
    "matrix of weights": (FLAT + "out = MatMul(flat, w)", {"w": floats(72, 5)}),
    "gemm": (FLAT + "out = Gemm<transB=1>(flat, w, b)", {"w": floats(5, 72), "b": floats(5)}),
    "attention": (
        "r = Reshape(image, s)\nt = Transpose<perm=[0,2,1]>(r)\np = MatMul(r, t)\nout = Softmax<axis=-1>(p)",
        {"s": ints(0, 3, 24)},
    ),
    "windows of Swin": (
        ("t = Transpose<perm=[0,2,3,1]>(image)\nr = Reshape(t, a)\nw = Transpose<perm=[0,1,3,2,4,5]>(r)\n"
        "v = Reshape(w, b)\nm = MatMul(v, k)\ns = Softmax<axis=1>(m)\nu = Reshape(s, c)\n"
        "x = Transpose<perm=[0,1,3,2,4,5]>(u)\nout = Reshape(x, d)"),
        {"a": ints(-1, 2, 2, 3, 2, 3), "b": ints(-1, 4, 3), "c": ints(-1, 2, 3, 2, 2, 3), "d": ints(-1, 4, 6, 3)}
        | {"k": floats(3, 3)},
    ),
    "tokens first": (
        ("r = Reshape(image, s)\nt = Transpose<perm=[2,0,1]>(r)\nm = ReduceMean<axes=[0]>(t)\nd = Sub(t, m)\n"
        "out = Transpose<perm=[1,0,2]>(d)"),
        {"s": ints(0, 3, 24)},
    ),
    "tokens and images merged": (
        ("r = Reshape(image, s)\nt = Transpose<perm=[2,0,1]>(r)\nf = Reshape(t, a)\nm = MatMul(f, w)\n"
        "u = Reshape(m, b)\nout = Transpose<perm=[1,0,2]>(u)"),
        {"s": ints(0, 3, 24), "a": ints(-1, 3), "b": ints(24, -1, 3), "w": floats(3, 3)},
    ),
    "class token": (
        ("n = Shape<start=0,end=1>(image)\ns = Concat<axis=0>(n, one)\nk = Expand(token, s)\nr = Reshape(image, t)\n"
        "out = Concat<axis=1>(k, r)"),
        {"one": ints(1, 24), "token": floats(1, 1, 24), "t": ints(0, 3, 24)},
    ),
    "two views, concatenated and parted": (
        "h = Neg(image)\nb = Concat<axis=0>(image, h)\nr = Relu(b)\nout, other = Split<axis=0>(r)",
        {},
    ),
    "recurrent": (
        ("r = Reshape(image, s)\nt = Transpose<perm=[1,0,2]>(r)\ny, h = GRU<hidden_size=2>(t, w, v)\n"
        "q = Squeeze(h, z)\nout = Identity(q)"),
        {"s": ints(0, 3, 24), "w": floats(1, 6, 24), "v": floats(1, 6, 2), "z": ints(0)},
    ),
    "sizes of the picture": (
        "s = Shape(image)\nh = Gather(s, two)\nf = Cast<to=1>(h)\nout = Div(image, f)",
        {"two": np.array(2)},
    ),
    "einsum": ('out = Einsum<equation="nchw,cd->ndhw">(image, w)', {"w": floats(3, 5)}),
    "resized to sizes of its own": (
        "n = Shape<start=0,end=2>(image)\ns = Concat<axis=0>(n, twice)\nout = Resize(image, , , s)",
        {"twice": ints(8, 12)},
    ),
    "slice of rows": ("out = Slice(image, a, b, c)", {"a": ints(1), "b": ints(3), "c": ints(2)}),
}  # fmt: skip
"""Nodes and weights of graphs that keep images independent, by name of the test case."""
REQUEST: Mapping[str, tuple[str, dict[str, Array]]] = {
    "mean over images": ("m = ReduceMean<axes=[0]>(image)\nout = Sub(image, m)", {}),
    "mean over all": ("m = ReduceMean(image)\nout = Sub(image, m)", {}),
    "softmax over images": ("out = Softmax<axis=0>(image)", {}),
    "softmax over images, counted from the end": ("out = Softmax<axis=-4>(image)", {}),
    "running sum": ("out = CumSum(image, z)", {"z": np.array(0)}),
    "reversed": ("out = Slice(image, a, b, c, s)", {"a": ints(-1), "b": ints(-(2**31)), "c": ints(0), "s": ints(-1)}),
    "rolled": (
        "l = Slice(image, a, b, z)\nf = Slice(image, z, a, z)\nout = Concat<axis=0>(l, f)",
        {"a": ints(1), "b": ints(2**31), "z": ints(0)},
    ),
    "the first of them": ("f = Gather<axis=0>(image, i)\nout = Sub(image, f)", {"i": ints(0)}),
    "similarity of images": (FLAT + "t = Transpose(flat)\nout = MatMul(flat, t)", {}),
    "similarity by gemm": (FLAT + "out = Gemm<transB=1>(flat, flat)", {}),
    "product over images": (FLAT + "t = Transpose(flat)\np = MatMul(t, flat)\nout = MatMul(flat, p)", {}),
    "einsum over images": ('m = Einsum<equation="nchw->chw">(image)\nout = Sub(image, m)', {}),
    "mean after a transposition": (
        ("t = Transpose<perm=[1,0,2,3]>(image)\nm = ReduceMean<axes=[1]>(t)\nd = Sub(t, m)\n"
        "out = Transpose<perm=[1,0,2,3]>(d)"),
        {},
    ),
    "normalization over images": ("out = MeanVarianceNormalization(image)", {}),
    "layer norm from axis 0": ("out, m, d = LayerNormalization<axis=0>(image, w)", {"w": np.ones(1, np.float32)}),
    "random": ("r = RandomNormalLike(image)\nout = Add(image, r)", {}),
    "largest of images": ("a = ArgMax<axis=0>(image)\nf = Cast<to=1>(a)\nout = Mul(image, f)", {}),
    "best of images": ("v, i = TopK<axis=0>(image, k)\nout = Sub(image, v)", {"k": ints(1)}),
    "windows, then over all of them": (
        "r = Reshape(image, a)\nm = ReduceMax<axes=[0]>(r)\nd = Sub(r, m)\nout = Reshape(d, b)",
        {"a": ints(-1, 24), "b": ints(-1, 3, 24)},
    ),
}  # fmt: skip
"""Nodes and weights of graphs that combine the images of a request, by name of the test case."""
ONE_IMAGE: Mapping[str, tuple[str, dict[str, Array]]] = {
    "dynamic quantization": (
        FLAT + "q, s, z = DynamicQuantizeLinear(flat)\nm = MatMulInteger(q, w, z)\nf = Cast<to=1>(m)\nout = Mul(f, s)",
        {"w": np.arange(360, dtype=np.uint8).reshape(72, 5)},
    ),
    "batch norm in training": (
        "out, m, v = BatchNormalization<training_mode=1>(image, s, s, s, s)",
        {"s": np.ones(3, np.float32)},
    ),
    "a Reshape to one image": ("out = Reshape(image, s)", {"s": ints(1, 3, 24)}),
    "a class token of one image": ("r = Reshape(image, s)\nout = Concat<axis=1>(t, r)", {"s": ints(0, 3, 24)}
                                   | {"t": floats(1, 1, 24)}),
    "places of a pool": ("p, i = MaxPool<kernel_shape=[2,2]>(image)\nout = Cast<to=1>(i)", {}),
}  # fmt: skip
"""Nodes and weights of graphs that run one image at a time, by name of the test case."""


@pytest.mark.parametrize("name", IMAGE_BY_IMAGE)
def test_operators_along_other_axes_keep_images_independent(name: str, tmp_path: Path) -> None:
    body, weights = IMAGE_BY_IMAGE[name]
    model = model_of(body, weights)
    expected = run_one_by_one(model, images(3))
    np.testing.assert_allclose(run_in_one_batch(model, images(3)), expected, rtol=1e-4, atol=1e-5)
    assert verdict_of(model, tmp_path) == APART


@pytest.mark.parametrize("name", REQUEST)
def test_operators_along_the_batch_axis_keep_a_request_in_one_batch(name: str, tmp_path: Path) -> None:
    body, weights = REQUEST[name]
    verdict = verdict_of(model_of(body, weights), tmp_path)
    assert verdict.mixing is Mixing.REQUEST, verdict
    assert verdict.why


@pytest.mark.parametrize("name", ONE_IMAGE)
def test_operators_with_a_number_from_the_whole_batch_run_one_image(name: str, tmp_path: Path) -> None:
    body, weights = ONE_IMAGE[name]
    assert verdict_of(model_of(body, weights), tmp_path).mixing in {Mixing.RUN, Mixing.ONE}


def test_undecided_layers_are_not_split_after_a_dynamic_scale(tmp_path: Path) -> None:
    body = "q, s, z = DynamicQuantizeLinear(image)\nd = DequantizeLinear(q, s, z)\nout = com.microsoft.Inverse(d)"
    found = mixing_of(graph_of(model_of(body), tmp_path))
    assert found["d"].mixing is Mixing.RUN
    assert found["out"].mixing is Mixing.UNKNOWN


def test_layers_before_the_mixing_node_keep_images_independent(tmp_path: Path) -> None:
    body = "a = Relu(image)\nm = ReduceMean<axes=[0]>(a)\nout = Sub(a, m)"
    found = mixing_of(graph_of(model_of(body), tmp_path))
    assert found["a"] == APART
    assert found["out"].mixing is Mixing.REQUEST


@pytest.mark.parametrize("body", ["n = Size(image)\nf = Cast<to=1>(n)\nout = Div(image, f)", "out = Blur(image)"])
def test_layers_that_the_graph_does_not_determine_are_unknown(body: str, tmp_path: Path) -> None:
    if "Blur" in body:
        body = body.replace("Blur", "com.microsoft.Inverse")
    assert verdict_of(model_of(body), tmp_path).mixing is Mixing.UNKNOWN


VALUES = "flat = Reshape(image, minus)\nv = Cast<to=7>(flat)\n"
"""Nodes that compute ``v``, integers that depend on the values of the images."""
OF_VALUES: Mapping[str, tuple[str, dict[str, Array]]] = {
    "Gather indices": ("out = Gather<axis=2>(image, v)", {}),
    "Pad amounts": ("out = Pad(image, v)", {}),
    "Pad value": ("f = Cast<to=1>(v)\nout = Pad(image, none, f)", {"none": ints(*[0] * 8)}),
    "Reshape sizes": ("out = Reshape(image, v)", {}),
    "Expand sizes": ("out = Expand(image, v)", {}),
    "Expand of a constant": ("out = Expand(one, v)", {"one": floats(1)}),
    "ConstantOfShape": ("out = ConstantOfShape(v)", {}),
    "Resize sizes": ("out = Resize(image, , , v)", {}),
    "Resize scales": ("f = Cast<to=1>(v)\nout = Resize(image, , f)", {}),
    "Slice bounds": ("out = Slice(image, v, ends, axis)", {"ends": ints(4), "axis": ints(2)}),
    "Slice ends": ("out = Slice(image, starts, v, axis)", {"starts": ints(0), "axis": ints(2)}),
    "Split sizes": ("out, other = Split<axis=1>(image, v)", {}),
    "Tile repeats": ("out = Tile(image, v)", {}),
    "TopK k": ("out, places = TopK(image, v)", {}),
    "OneHot depth": ("i = Cast<to=7>(image)\nout = OneHot(i, v, off_on)", {"off_on": ints(0, 1)}),
    "Trilu k": ("out = Trilu(image, v)", {}),
    "CumSum axis": ("out = CumSum(image, v)", {}),
    "ReduceSum axes": ("out = ReduceSum(image, v)", {}),
    "Where condition": ("c = Cast<to=9>(v)\nout = Where(c, image, image)", {}),
    "Conv filters": ("f = Reshape(image, filters)\nout = Conv(image, f)", {"filters": ints(-1, 3, 2, 2)}),
    "Conv filters of the images' axes": ("out = Conv(image, image)", {}),
    "ConvTranspose filters": ("out = ConvTranspose(image, image)", {}),
    "BatchNormalization mean": ("out = BatchNormalization(image, s, s, flat, s)", {"s": np.ones(3, np.float32)}),
    "InstanceNormalization scale": ("out = InstanceNormalization(image, flat, s)", {"s": np.ones(3, np.float32)}),
    "LayerNormalization scale": ("out = LayerNormalization(image, flat)", {}),
    "GRU weights": (
        ("r = Reshape(image, s)\nt = Transpose<perm=[1,0,2]>(r)\nout, h = GRU<hidden_size=2>(t, t, t)"),
        {"s": ints(0, 3, 24)},
    ),
    "MatMul of both": ("t = Transpose<perm=[1,0,2,3]>(image)\nout = MatMul(image, t)", {}),
    "Einsum of a repeated letter": ('out = Einsum<equation="nnhw->nhw">(image)', {}),
    "GridSample of a constant grid": ("out = GridSample(image, g)", {"g": floats(2, 4, 6, 2)}),
    "DeformConv weights": ("out = DeformConv(image, image, o)", {"o": floats(1, 8, 3, 5)}),
    "MaxUnpool places": ("i = Cast<to=7>(image)\nout = MaxUnpool<kernel_shape=[2,2]>(image, i)", {}),
    "RoiAlign": ("out = RoiAlign(image, rois, v)", {"rois": floats(1, 4)}),
    "ReverseSequence lengths": ("out = ReverseSequence<batch_axis=0,time_axis=1>(image, l)", {"l": ints(1, 2)}),
    "one scale an image": ("out = QuantizeLinear<axis=0>(image, s)", {"s": np.ones(2, np.float32)}),
    "sizes after NonZero": (
        ("b = Greater(image, ten)\nz = NonZero(b)\ns = Shape(z)\nf = Cast<to=1>(s)\nm = ReduceMax(f)\n"
        "out = Sub(image, m)"),
        {"ten": np.array(10, np.float32)},
    ),
    "Resize along the batch axis": (
        "out = Resize<axes=[-4]>(image, , twice)", {"twice": np.full(1, 2, np.float32)},
    ),
    "Resize to twice as many": (
        "s = Shape(image)\nd = Mul(s, twice)\nout = Resize(image, , , d)", {"twice": ints(2, 1, 1, 1)},
    ),
    "Reshape that moves the images": (
        ("n = Shape<start=0,end=1>(image)\ns = Concat<axis=0>(three, n, rest)\nout = Reshape(image, s)"),
        {"three": ints(3), "rest": ints(4, 6)},
    ),
    "Expand of rows of their own": (
        "s = Shape(image)\nout = Expand(rows, s)", {"rows": floats(4, 3, 4, 6)},
    ),
    "the whole run's random numbers": (
        "out = Dropout(image, half, yes)", {"half": np.array(0.5, np.float32), "yes": np.array(True)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OF_VALUES)
def test_settings_computed_from_the_images_do_not_keep_images_independent(name: str, tmp_path: Path) -> None:
    body, weights = OF_VALUES[name]
    graph = graph_of(model_of("out = Relu(image)"), tmp_path)
    model = model_of(VALUES + body, {"minus": ints(-1)} | weights, opset=19)
    del graph.proto.graph.node[:]  # replaced after the graph was read, so the nodes need not be valid
    graph.proto.graph.node.extend(model.graph.node)
    graph.proto.graph.initializer.extend(model.graph.initializer)
    flat = replace(graph.types["image"], shape=("?",))
    graph = replace(graph, types={**graph.types, "v": flat, "flat": flat})
    assert mixing_of(graph)["out"].mixing is not Mixing.NONE


FUNCTION = """
<ir_version: 8, opset_import: ["" : 18, "{domain}" : 1]>
g (float[batch, 3, 4, 6] image) => (float[batch, 3, 4, 6] out) {{ out = {domain}.Relu(image) }}
<domain: "{domain}", opset_import: ["" : 18]>
Relu (x) => (y) {{ m = ReduceMax<keepdims=0>(x)  y = Sub(x, m) }}
"""


def test_a_function_of_the_model_does_not_use_the_rule_of_the_operator_with_its_name(tmp_path: Path) -> None:
    model = parser.parse_model(FUNCTION.format(domain="local"))
    assert verdict_of(model, tmp_path).mixing is Mixing.UNKNOWN
    model.functions[0].domain = model.graph.node[0].domain = ""
    graph = graph_of(model_of("out = Relu(image)"), tmp_path)
    graph.proto.functions.extend(model.functions)
    assert mixing_of(graph)["out"].mixing is Mixing.UNKNOWN


def test_a_body_that_draws_at_random_mixes_images(tmp_path: Path) -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 18]>
    g (float[batch, 3, 4, 6] image) => (float[batch, 3, 4, 6] out) <bool yes = {1}> {
        r = If (yes) <
            then_branch = a () => (float[1] x) { x = RandomNormal<shape=[1]>() },
            else_branch = b () => (float[1] y) { y = RandomUniform<shape=[1]>() }
        >
        out = Add(image, r)
    }
    """
    assert verdict_of(parser.parse_model(text), tmp_path).mixing is Mixing.REQUEST


def test_a_softmax_before_opset_13_computes_along_all_axes_after_its_axis(tmp_path: Path) -> None:
    for axis, mixing in ((0, Mixing.REQUEST), (1, Mixing.NONE)):
        model = model_of(f"out = Softmax<axis={axis}>(image)", output="float[batch,3,4,6] out", opset=11)
        assert verdict_of(model, tmp_path).mixing is mixing


def light(name: str) -> onnx.ModelProto:
    """Return one of onnx's own models, with its batch changed to a free size."""
    model = onnx.load(LIGHT / f"light_{name}.onnx")
    for value in (*model.graph.input[:1], *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return model


ORDINARY: Mapping[str, Callable[[], onnx.ModelProto]] = {
    "branching": branching,
    "transformer": vision_transformer,
    **{name: partial(built_model, MODELS / name) for name in ("efficientnet_lite0", "gabor_energy")},
    **{name: partial(light, name) for name in ("inception_v2", "resnet50")},
    "channels_last": odd_models.channels_last,
    "free_size": odd_models.free_size,
    "half": odd_models.half,
    "quantized": odd_models.quantized,
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_models_keep_images_independent_in_all_layers(name: str, tmp_path: Path) -> None:
    graph = graph_of(ORDINARY[name](), tmp_path)
    found = mixing_of(graph)
    mixed = {layer.name: found[layer.name] for layer in graph.layers if layer.tappable and found[layer.name] != APART}
    # The Reshape at the end of ResNet-50 and Inception has a batch of one.
    assert {verdict.mixing for verdict in mixed.values()} <= {Mixing.ONE}
    assert len(mixed) <= (3 if name in {"inception_v2", "resnet50"} else 0)


def images(count: int) -> Array:
    random = np.random.default_rng(3)
    return (random.normal(size=(count, 3, 4, 6)) * np.arange(1, count + 1)[:, None, None, None]).astype(np.float32)


def session_of(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    free = onnx.ModelProto()
    free.CopyFrom(model)
    del free.graph.output[:]
    free.graph.output.append(onnx.ValueInfoProto(name="out"))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(free.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run_in_one_batch(model: onnx.ModelProto, batch: Array) -> Array:
    return np.asarray(session_of(model).run(["out"], {"image": batch})[0])


def run_one_by_one(model: onnx.ModelProto, batch: Array, axis: int = 0) -> Array:
    session = session_of(model)
    apart = [session.run(["out"], {"image": batch[index : index + 1]})[0] for index in range(len(batch))]
    return np.concatenate(apart, axis)


# The tests below draw chains of operators, some of which move the batch axis or compute along it, and end each chain
# with a Reshape to the batch. If the verdict is `APART`, one batch must give the results of the images one by one.
STEPS = (
    "Relu({x})", "Softmax<axis={a}>({x})", "Transpose<perm={perm}>({x})", "ReduceMean<axes=[{a}]>({x})",
    "CumSum({x}, i{a})", "Reshape({x}, free)", "Reshape({x}, split)", "Reshape({x}, merged)", "Add({x}, row)",
    "Slice({x}, one, many, s{a})", "Concat<axis={a}>({x}, {x})", "Mul({x}, {x})", "Flatten<axis={a}>({x})",
    "Gather<axis={a}>({x}, one)", "Tile({x}, twice)", "LpNormalization<axis={a}>({x})", "Unsqueeze({x}, s{a})",
    "ReduceMax<axes=[{a}],keepdims=0>({x})", "MatMul({x}, square)", "Identity({x})",
)  # fmt: skip
WEIGHTS: Mapping[str, Array] = {
    **{f"i{axis}": np.array(axis) for axis in range(4)},
    **{f"s{axis}": ints(axis) for axis in range(4)},
    "free": ints(-1, 3, 2, 2), "split": ints(-1, 6, 4), "merged": ints(6, -1), "row": floats(1, 3, 1, 1),
    "one": ints(1), "many": ints(2**31), "twice": ints(1, 2, 1, 1), "square": floats(6, 6), "back": ints(-1, 6),
}  # fmt: skip


@st.composite
def chains(draw: st.DrawFn) -> str:
    name, lines = "image", []
    for number in range(draw(st.integers(1, 6))):
        step = draw(st.sampled_from(STEPS))
        perm = list(draw(st.permutations(range(4))))
        lines.append(f"t{number} = {step.format(x=name, a=draw(st.integers(0, 3)), perm=perm)}")
        name = f"t{number}"
    return "\n".join([*lines, f"out = Identity({name})"])


@settings(max_examples=int(os.environ.get("BATCHING_EXAMPLES", 8 * EXAMPLES)), deadline=None)
@given(chains())
def test_independent_layers_give_the_same_results_in_one_batch_and_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, body: str
) -> None:
    check_chain(tmp_path_factory, body)


def check_chain(tmp_path_factory: pytest.TempPathFactory, body: str) -> None:
    model = model_of(body, WEIGHTS, "float out")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    runnable = onnx.ModelProto()
    runnable.CopyFrom(model)
    try:
        graph = graph_of(model, tmp_path_factory.mktemp("chain"))
        verdict = mixing_of(graph).get("out", APART)
        expected = run_one_by_one(runnable, images(3), graph.batch_axes.get("out", 0))
    except Exception:  # noqa: BLE001 - a chain with shapes that do not match is not tested
        return
    if verdict.mixing is Mixing.NONE:
        np.testing.assert_allclose(run_in_one_batch(runnable, images(3)), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("body", ["out = Transpose<perm=[3,3,3,3]>(image)", "out = Gather<axis=9>(image, one)"])
def test_nodes_that_contradict_themselves_are_unknown(body: str, tmp_path: Path) -> None:
    graph = graph_of(model_of("out = Relu(image)", WEIGHTS), tmp_path)
    model = model_of(body, WEIGHTS)
    del graph.proto.graph.node[:]
    graph.proto.graph.node.extend(model.graph.node)
    graph.proto.graph.initializer.extend(model.graph.initializer)
    assert mixing_of(graph)["out"].mixing is Mixing.UNKNOWN
    assert prices_of(graph)["out"] > 0
