"""Tests of graph traversal, including bodies."""

from __future__ import annotations

from onnx import parser

from layertap_server.graph.walk import depends_on, needed_nodes, reads

CAPTURING = """
<ir_version: 8, opset_import: ["" : 17]>
capturing (float[n] x, bool flag) => (float[n] y) {
    used = Relu (x)
    unused = Neg (x)
    constant = Constant <value_float = 1.0> ()
    y = If (flag) <
        then_branch = yes () => (float[n] a) { b = Abs (used)  a = Add (b, constant) },
        else_branch = no () => (float[n] c) { c = Identity (x) }
    >
}
"""


def test_what_a_body_captures_is_read_and_its_own_tensors_are_not() -> None:
    graph = parser.parse_model(CAPTURING).graph
    assert set(reads(graph.node[-1])) == {"flag", "used", "constant", "x"}


def test_needed_nodes_follow_captures() -> None:
    graph = parser.parse_model(CAPTURING).graph
    nodes, needed = needed_nodes(graph, {"y"})
    assert [node.output[0] for node in nodes] == ["used", "constant", "y"]
    assert "unused" not in needed
    assert [node.output[0] for node in needed_nodes(graph, {"used"})[0]] == ["used"]


def test_what_depends_on_an_input() -> None:
    graph = parser.parse_model(CAPTURING).graph
    assert depends_on(graph, ["x"]) == {"x", "used", "unused", "y"}
    assert depends_on(graph, ["flag"]) == {"flag", "y"}
    assert depends_on(graph, ["x", "flag"]) == {"x", "used", "unused", "y", "flag"}
