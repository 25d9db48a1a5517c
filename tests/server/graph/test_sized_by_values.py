"""Test which layers count as sized by the values of the image."""

from __future__ import annotations

from onnx import parser

from layertap_server.graph.sized_by_values import sized_by_values


def sized(nodes: str) -> frozenset[str]:
    """Return the tensors of a graph with the image ``x`` that are sized by its values."""
    text = f"<ir_version: 8, opset_import: ['' : 17]> g (float[1,3,H,W] x) => (float[n] y) {{ {nodes} }}"
    return sized_by_values(parser.parse_model(text.replace("'", '"')).graph, "x")


def test_choosing_operators_and_what_follows_are_sized_by_values() -> None:
    assert sized("a = Relu(x) b = NonZero(a) c = Cast<to=1>(b) y = Relu(c)") == {"b", "c", "y"}


def test_a_size_computed_from_values_counts() -> None:
    assert sized("m = ReduceMax(x) k = Cast<to=7>(m) y = TopK(x, k)") == {"y"}
    assert sized("m = ReduceMax(x) y = ConstantOfShape(m)") == {"y"}


def test_a_size_computed_from_sizes_does_not_count() -> None:
    assert sized("s = Shape(x) y = ConstantOfShape(s)") == frozenset()
    assert sized("s = Shape(x) r = Resize(x, , , s) y = Reshape(r, s)") == frozenset()
    assert sized("e = Size(x) y = Range(e, e, e)") == frozenset()
