"""Which taps change what a quantized model computes.

A model in QDQ form says ``DequantizeLinear -> Conv -> Relu -> QuantizeLinear``, and onnxruntime makes one integer
operator of it. A tap between the two is an output in real numbers, so the operators stay as they are written: they work
on real numbers, and what comes out differs by up to a step of the quantization, in the tap and in all that follows it.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx

from layertap_server.graph.walk import depends_on, needed_nodes, reads

_QUANTIZE, _DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


def inexact_layers(graph: onnx.GraphProto, layers: Collection[str]) -> frozenset[str]:
    """Those of the tapped layers whose values the taps may change."""
    ends = {name for node in graph.node if node.op_type in {_QUANTIZE, _DEQUANTIZE} for name in node.output}
    if not ends:
        return frozenset()
    # An end of a unit is tapped without harm unless the plan goes on from there: then it is read twice.
    nodes, _ = needed_nodes(graph, layers)
    read = {name for node in nodes for name in reads(node)}
    breaking = (_inside_units(graph) | (ends & read)).intersection(layers)
    return depends_on(graph, breaking).intersection(layers)


def _inside_units(graph: onnx.GraphProto) -> frozenset[str]:
    """Every tensor on a way from a DequantizeLinear to a QuantizeLinear, without the two ends."""
    real = {name for node in graph.node if node.op_type == _DEQUANTIZE for name in node.output}
    behind: set[str] = set()
    for node in graph.node:
        if node.op_type not in {_QUANTIZE, _DEQUANTIZE} and any(name in real or name in behind for name in reads(node)):
            behind.update(node.output)
    before: set[str] = set()
    for node in reversed(graph.node):
        if node.op_type == _QUANTIZE:
            before.add(node.input[0])
        elif node.op_type != _DEQUANTIZE and before.intersection(node.output):
            before.update(reads(node))
    return frozenset(behind & before)
