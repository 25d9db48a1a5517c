"""Repair of impossible sizes that exporters write, before native code computes with them."""

from __future__ import annotations

import onnx

from layertap_server.graph.walk import written_types


def repair_sizes(graph: onnx.GraphProto) -> None:
    """Clear all negative sizes, and sizes of 0 in the model's inputs and outputs, so that they are free.

    Some exporters write -1 or 0 for a free size. Inside a model a size of 0 can be intended and is kept. Changes
    ``graph`` in place.
    """
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    for value in (*inputs, *graph.output):
        _free(value.type.tensor_type, most=0)
    for type_ in (*(value.type.tensor_type for value in graph.input), *written_types(graph)):
        _free(type_, most=-1)


def _free(type_: onnx.TypeProto.Tensor, most: int) -> None:
    """Clear sizes up to ``most``. Reading an unset type does not change the message."""
    for dim in type_.shape.dim:
        if dim.HasField("dim_value") and dim.dim_value <= most:
            dim.Clear()
