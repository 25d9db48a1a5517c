"""Detection of taps that change the results of a quantized model.

A model in QDQ form contains chains such as ``DequantizeLinear -> Conv -> Relu -> QuantizeLinear``, which onnxruntime
fuses to one integer operator. A tap inside such a chain prevents the fusion, so the chain is computed in floating
point. The values of the tap and of all layers after it can then differ by up to one quantization step.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx

from layertap_server.graph.walk import depends_on, needed_nodes, reads

_QUANTIZE, _DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


def inexact_layers(graph: onnx.GraphProto, layers: Collection[str]) -> frozenset[str]:
    """Return the tapped layers whose values may differ because of the taps."""
    ends = {name for node in graph.node if node.op_type in {_QUANTIZE, _DEQUANTIZE} for name in node.output}
    if not ends:
        return frozenset()
    # A tap at either end of a chain prevents a fusion only if the plan also reads that tensor.
    nodes, _ = needed_nodes(graph, layers)
    read = {name for node in nodes for name in reads(node)}
    breaking = (_inside_chains(graph) | (ends & read)).intersection(layers)
    return depends_on(graph, breaking).intersection(layers)


def _inside_chains(graph: onnx.GraphProto) -> frozenset[str]:
    """Return every tensor on a path from a DequantizeLinear to a QuantizeLinear, except the two ends."""
    real = {name for node in graph.node if node.op_type == _DEQUANTIZE for name in node.output}
    after: set[str] = set()
    for node in graph.node:
        if node.op_type not in {_QUANTIZE, _DEQUANTIZE} and any(name in real or name in after for name in reads(node)):
            after.update(node.output)
    before: set[str] = set()
    for node in reversed(graph.node):
        if node.op_type == _QUANTIZE:
            before.add(node.input[0])
        elif node.op_type != _DEQUANTIZE and before.intersection(node.output):
            before.update(reads(node))
    return frozenset(after & before)
