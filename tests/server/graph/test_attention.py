"""Tests of the detection of attention probabilities."""

from __future__ import annotations

import pytest
from onnx import parser

from layertap_server.graph.attention import attentions_of
from layertap_server.graph.walk import depends_on

GRAPH = """
<ir_version: 8, opset_import: ["" : 18]>
graph (float[N, 2, 5, 4] q, float[N, 2, 4, 5] k, float[N, 2, 5, 4] v) => (float[N, 2, 5, 4] y)
<float scale = {{0.5}}, float[5, 4] table> {{ {body} }}
"""


def attentions(body: str) -> dict[str, int]:
    """Return the attentions of a graph of queries, transposed keys and values."""
    graph = parser.parse_model(GRAPH.format(body=body)).graph
    return dict(attentions_of(graph, depends_on(graph, ["q", "k", "v"])))


@pytest.mark.parametrize(
    "body",
    [
        "s = MatMul (q, k) p = Softmax <axis = -1> (s) y = MatMul (p, v)",
        "s = MatMul (q, k) m = Mul (s, scale) b = Add (m, scale) p = Softmax (b) d = Dropout (p) y = MatMul (d, v)",
        (
            's = Einsum <equation = "nhtc,nhcu->nhtu"> (q, k) p = Softmax (s) '
            'y = Einsum <equation = "nhtu,nhuc->nhtc"> (p, v)'
        ),
    ],
)
def test_the_softmax_between_two_products(body: str) -> None:
    assert attentions(body) == {"p": 1}


def test_attentions_are_numbered_in_order() -> None:
    body = "s = MatMul (q, k) p = Softmax (s) c = MatMul (p, v) s2 = MatMul (c, k) p2 = Softmax (s2) y = MatMul (p2, v)"
    assert attentions(body) == {"p": 1, "p2": 2}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("s = MatMul (q, k) y = Softmax (s)", id="scores of classes"),
        pytest.param("p = Softmax (q) y = MatMul (p, table)", id="weight after it"),
        pytest.param(
            "s = Mul (q, scale) p = Softmax (s) t = MatMul (p, k) y = MatMul (t, v)", id="no queries and keys"
        ),
        pytest.param("s = MatMul (q, k) p = Sigmoid (s) y = MatMul (p, v)", id="sigmoid"),
    ],
)
def test_other_softmaxes_are_no_attention(body: str) -> None:
    assert attentions(body) == {}
