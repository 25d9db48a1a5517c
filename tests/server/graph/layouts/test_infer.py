"""Tests of the inferred layouts, in networks that permute, split and merge axes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from layertap.types import Layout
from layertap_server.graph import read
from layertap_server.graph.layouts import axes_of, roles_of, tokens_of
from tests.models import vision_transformer
from tests.odd_models import OPSET, channels_last, of_text
from tests.paths import ROOT

CASES = ROOT / "tests" / "data" / "cases"


def shuffle() -> onnx.ModelProto:
    """Follow a ShuffleNet, which splits channels into groups, transposes them and merges them again."""
    text = f"""{OPSET}
    shuffle (float[batch, 3, 8, 8] image) => (float[batch, 4, 8, 8] out) {{
        conv = Conv <pads = [1, 1, 1, 1]> (image, w)
        groups = Reshape (conv, apart)
        turned = Transpose <perm = [0, 2, 1, 3, 4]> (groups)
        mixed = Reshape (turned, together)
        out = Relu (mixed)
    }}"""
    return of_text(text, w=(4, 3, 3, 3), apart=np.array([0, 2, 2, 8, 8]), together=np.array([0, 4, 8, 8]))


def attention() -> onnx.ModelProto:
    """Follow attention heads, which have four axes but are not maps; the layer after them has tokens again."""
    text = f"""{OPSET}
    heads (float[batch, 3, 16, 16] image) => (float[batch, 8, 4, 4] map) {{
        patches = Conv <strides = [4, 4]> (image, w)
        flat = Reshape (patches, row)
        tokens = Transpose <perm = [0, 2, 1]> (flat)
        queries = MatMul (tokens, wq)
        parts = Reshape (queries, in_heads)
        heads = Transpose <perm = [0, 2, 1, 3]> (parts)
        back = Transpose <perm = [0, 2, 1, 3]> (heads)
        joined = Reshape (back, in_tokens)
        turned = Transpose <perm = [0, 2, 1]> (joined)
        map = Reshape (turned, in_map)
    }}"""
    shapes = {"row": [0, 8, -1], "in_heads": [0, 16, 2, 4], "in_tokens": [0, 16, 8], "in_map": [0, 8, 4, 4]}
    return of_text(text, w=(8, 3, 4, 4), wq=(8, 8), **{name: np.array(sizes) for name, sizes in shapes.items()})


def group_norm() -> onnx.ModelProto:
    """Follow a group normalization as an exporter writes it: a reshape to groups, a normalization, a reshape back."""
    text = f"""{OPSET}
    group (float[batch, 3, 8, 8] image) => (float[batch, 4, 8, 8] scaled) {{
        conv = Conv <pads = [1, 1, 1, 1]> (image, w)
        folded = Reshape (conv, groups)
        normed = InstanceNormalization (folded, ones, zeros)
        unfolded = Reshape (normed, maps)
        scaled = Mul (unfolded, gain)
    }}"""
    weights = {"ones": np.ones(2, np.float32), "zeros": np.zeros(2, np.float32), "gain": np.ones((4, 1, 1), np.float32)}
    return of_text(text, w=(4, 3, 3, 3), groups=np.array([0, 2, -1]), maps=np.array([0, 4, 8, 8]), **weights)


def dynamically_quantized() -> onnx.ModelProto:
    """Follow a quantization by onnxruntime, which multiplies scalar scales, one of them a weight."""
    text = f"""{OPSET}
    quantized (float[batch, 3, 8, 8] image) => (float[batch, 64, 4] out) {{
        row = Reshape (image, in_row)
        tokens = Transpose <perm = [0, 2, 1]> (row)
        bytes, scale, zero = DynamicQuantizeLinear (tokens)
        sums = MatMulInteger (bytes, w, zero)
        real = Cast <to = 1> (sums)
        step = Mul (scale, w_scale)
        out = Mul (real, step)
    }}"""
    return of_text(text, in_row=np.array([0, 3, -1]), w=np.ones((3, 4), np.int8), w_scale=np.array(0.1, np.float32))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (channels_last, {"image": Layout.NHWC, "turned": Layout.NCHW, "conv": Layout.NCHW, "maps": Layout.NHWC}),
        (shuffle, {"conv": Layout.NCHW, "groups": Layout.OTHER, "mixed": Layout.NCHW, "out": Layout.NCHW}),
        (group_norm, {"conv": Layout.NCHW, "unfolded": Layout.NCHW, "scaled": Layout.NCHW}),
        (
            attention,
            {
                "patches": Layout.NCHW, "flat": Layout.NCT, "tokens": Layout.TOKENS, "queries": Layout.TOKENS,
                "parts": Layout.OTHER, "heads": Layout.OTHER, "joined": Layout.TOKENS, "map": Layout.NCHW,
            },
        ),
        (dynamically_quantized, {"out": Layout.TOKENS}),
        (vision_transformer, {"places": Layout.TOKENS, "tokens": Layout.TOKENS, "cls": Layout.VECTOR}),
    ],
)  # fmt: skip
def test_layouts(make: Callable[[], onnx.ModelProto], expected: dict[str, Layout], tmp_path: Path) -> None:
    layers = {layer.name: layer for layer in read(make(), tmp_path).layers}
    assert {name: layers[name].layout for name in expected} == expected


def roles(body: str, shape: str = "N, 3, 8, 8", **weights: tuple[int, ...] | np.ndarray) -> dict[str, str]:
    """Return the roles of the axes of each layer of a graph of one image, after shape inference."""
    text = f"""{OPSET}
    graph (float[{shape}] image) => (float[N] out) {{ {body} }}"""
    proto = onnx.shape_inference.infer_shapes(of_text(text, **weights), data_prop=True)
    values = [*proto.graph.input, *proto.graph.value_info]
    shapes = {
        value.name: tuple(size.dim_value or size.dim_param or "?" for size in value.type.tensor_type.shape.dim)
        for value in values
    }
    axes = axes_of(proto.graph, shapes, {"image": Layout.NCHW if shapes["image"][1] == 3 else None})
    return {name: roles_of(axes[name]) for name in axes}


def tokens(body: str) -> tuple[int | None, tuple[int | str, ...]]:
    """Return prefix and grid of the tokens ``t`` made from the flattened map ``p`` of 4×4 positions."""
    weights: dict[str, Any] = {"w": (8, 3, 2, 2), "cls": (1, 1, 8), "reg": (1, 4, 8), "row": np.array([0, 8, 16])}
    numbers = {name: np.array([value]) for name, value in (("n0", 0), ("n1", 1), ("n5", 5), ("end", 2**31))}
    text = f"""{OPSET}
    graph (float[1, 3, 8, 8] image) => (float[1, a, b] t) {{
        m = Conv <strides = [2, 2]> (image, w) f = Reshape (m, row) p = Transpose <perm = [0, 2, 1]> (f) {body}
    }}"""
    proto = onnx.shape_inference.infer_shapes(of_text(text, **weights, **numbers), data_prop=True)
    values = [*proto.graph.input, *proto.graph.value_info, *proto.graph.output]
    shapes = {
        value.name: tuple(size.dim_value or size.dim_param for size in value.type.tensor_type.shape.dim)
        for value in values
    }
    return tokens_of(axes_of(proto.graph, shapes, {"image": Layout.NCHW})["t"][1])


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("t = Relu (p)", (0, (4, 4))),
        ("t = Concat <axis = 1> (cls, p)", (1, (4, 4))),
        ("t = Concat <axis = 1> (cls, reg, p)", (5, (4, 4))),
        ("r = Concat <axis = 1> (reg, p) t = Concat <axis = 1> (cls, r)", (5, (4, 4))),
        ("c = Concat <axis = 1> (cls, reg, p) t = Slice (c, n1, end, n1)", (4, (4, 4))),
        ("c = Concat <axis = 1> (cls, reg, p) t = Slice (c, n5, end, n1)", (0, (4, 4))),
        ("c = Concat <axis = 1> (cls, p) t = Slice (c, n5, end, n1)", (None, ())),
        ("c = Concat <axis = 1> (cls, p) t = Slice (c, n0, n5, n1)", (None, ())),
        ("t = Concat <axis = 1> (p, cls)", (None, (4, 4))),
        ("t = Concat <axis = 1> (p, p)", (None, ())),
    ],
)
def test_the_prefix_is_the_learned_tokens_before_the_positions(
    body: str, expected: tuple[int | None, tuple[int, ...]]
) -> None:
    assert tokens(body) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param("a = Relu (image) out = Conv (a, w)", {"image": "NCT", "a": "NCT"}, id="convolved series"),
        pytest.param("a = Relu (image) out = MatMul (a, v)", {"image": "NTC", "a": "NTC"}, id="projected sequence"),
        pytest.param("a = Relu (image) out = LayerNormalization (a, g)", {"a": "NTC"}, id="normalized sequence"),
        pytest.param(
            "a = Transpose <perm = [0, 2, 1]> (image) out = MatMul (a, v)", {"image": "NCT", "a": "NTC"}, id="turned"
        ),
        pytest.param("a = Relu (image) out = Sigmoid (a)", {"image": "N??", "a": "N??"}, id="nothing tells"),
    ],
)
def test_the_axes_of_a_series_follow_from_its_use(body: str, expected: dict[str, str]) -> None:
    got = roles(body, "N, 6, 6", w=(4, 6, 3), v=(6, 4), g=(6,))
    assert {name: got[name] for name in expected} == expected


def test_a_product_over_positions_makes_an_axis_of_its_own() -> None:
    body = (
        "a = Conv <strides = [2, 2]> (image, w) f = Reshape (a, row) m = MatMul (f, v) b = MatMul (m, u) "
        "s = Add (b, f) out = Relu (s)"
    )
    got = roles(body, w=(8, 3, 2, 2), row=np.array([0, 8, 16]), v=(16, 5), u=(5, 16))
    assert (got["f"], got["m"], got["b"]) == ("NCT", "NCM", "NCT")


def test_a_series_of_two_axes_is_positions_where_a_convolution_reads_it(tmp_path: Path) -> None:
    graph = read(onnx.load(CASES / "wave.onnx"), tmp_path)
    assert {name: graph.types[name].layout for name in ("x", "u", "c1")} == {
        "x": Layout.VECTOR,
        "u": Layout.NCT,
        "c1": Layout.NCT,
    }
