"""Tests of the inferred layouts, in networks that permute, split and merge axes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from layertap.types import Layout
from layertap_server.graph import read
from tests.models import vision_transformer
from tests.odd_models import OPSET, channels_last, of_text


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
