"""Tests of the layout of an input by its first convolution."""

from __future__ import annotations

import pytest
from onnx import parser

from layertap.types import Layout
from layertap_server.graph.input_layout import layout_by_use

GRAPH = """
<ir_version: 8, opset_import: ["" : 18]>
graph (float[N, 11, 60, 3] x) => (float[N, 4, 58, 1] y) <float[4, 11, 3, 3] w, float one = {{1.0}}, float[11] c>
{{ {body} }}
"""


@pytest.mark.parametrize(
    ("body", "layout"),
    [
        ("y = Conv (x, w)", Layout.NCHW),
        ("s = Sub (x, one) d = Div (s, one) y = Conv (d, w)", Layout.NCHW),
        ("y = BatchNormalization (x, c, c, c, c)", Layout.NCHW),
        ("t = Transpose <perm = [0, 3, 1, 2]> (x) y = Conv (t, w)", Layout.NHWC),
        (
            "t = Transpose <perm = [0, 2, 3, 1]> (x) u = Transpose <perm = [0, 3, 1, 2]> (t) y = Conv (u, w)",
            Layout.NCHW,
        ),
        ("t = Transpose <perm = [0, 2, 1, 3]> (x) y = Conv (t, w)", None),
        ("r = Flatten (x) y = Relu (r)", None),
        ("y = Relu (x)", None),
    ],
)
def test_the_first_convolution_tells_the_channels(body: str, layout: Layout | None) -> None:
    assert layout_by_use(parser.parse_model(GRAPH.format(body=body)).graph, "x") is layout
