"""Layers of a model: every tensor of the graph that depends on its inputs, in execution order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import onnx

from layertap.types import LayerInfo, Layout, ReceptiveField, TokenGrid
from layertap_server.blocks import BLOCK, INNER
from layertap_server.graph import cost
from layertap_server.graph.activations import Activation
from layertap_server.graph.attention import attentions_of
from layertap_server.graph.module_path import module_path_of
from layertap_server.graph.parameters import Parameters
from layertap_server.graph.receptive_field import receptive_fields
from layertap_server.graph.walk import bodies, depends_on, metadata_of
from layertap_server.tensor import Dim, Tensor

INPUT = "Input"
"""Operator name that is reported for layers that are inputs of the model."""
_SENDABLE = frozenset(
    {"float16", "float32", "float64", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "bool"}
)
"""NumPy dtypes that the protocol can send."""


@dataclass(frozen=True, slots=True)
class _Known:
    """Facts about a graph's tensors, by name: types, weight shapes, receptive fields, activations and attentions."""

    image: Tensor
    types: Mapping[str, Tensor]
    weights: Mapping[str, cost.Shape]
    fields: Mapping[str, ReceptiveField]
    activations: Mapping[str, Activation]
    attentions: Mapping[str, int]
    parameters: Parameters

    def macs(self, node: onnx.NodeProto, output: str) -> int | None:
        """Return the multiply-accumulates of a node for one image, or None if they are not known."""
        read = {name: self.types[name].shape for name in node.input if name in self.types}
        return cost.macs(node, self.types.get(output), {**self.weights, **read})


def list_layers(
    graph: onnx.GraphProto,
    inputs: Sequence[str],
    types: Mapping[str, Tensor],
    activations: Mapping[str, Activation] = MappingProxyType({}),
) -> Iterator[LayerInfo]:
    """Yield the layers of a graph: its inputs in the given order, then the outputs of each node.

    Args:
        graph: The graph, its nodes in execution order.
        inputs: Names of its inputs, first the image input.
        types: The tensors whose types are known, by name.
        activations: The activations of the graph by the names of their results.
    """
    weights: dict[str, cost.Shape] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    fed = depends_on(graph, inputs)
    fields, attentions = receptive_fields(graph, types, inputs[0]), attentions_of(graph, fed)
    known = _Known(types[inputs[0]], types, weights, fields, activations, attentions, Parameters(graph))
    for number, name in enumerate(inputs):
        yield _layer(name, None, number, known)
    ordinal = len(inputs)
    inner: list[onnx.NodeProto] = []
    for node in graph.node:
        for name in bodies(node):
            yield _hidden(name, node, ordinal)
            ordinal += 1
        if metadata_of(node, INNER):
            inner.append(node)
            continue
        for index, name in enumerate(node.output):
            # Tensors that do not depend on an input, such as reshaped weights, are not layers.
            if name and name in fed:
                yield _computed(name, index, node, ordinal, inner, known)
                ordinal += 1
        inner = []


def _computed(
    name: str, index: int, node: onnx.NodeProto, ordinal: int, inner: Sequence[onnx.NodeProto], known: _Known
) -> LayerInfo:
    """Return the layer of a node's output.

    ``inner`` are the nodes of the same block before it. They have no layers; their costs count for this layer.
    """
    layer = _layer(name, node, ordinal, known)
    is_mask = node.op_type == "Dropout" and index > 0
    return replace(
        layer,
        output_index=index,
        not_tappable_reason="the mask of a Dropout has no meaning at inference"
        if is_mask
        else layer.not_tappable_reason,
        macs=_total(layer.macs, [known.macs(one, one.output[0]) for one in inner]),
        parameters=_total(layer.parameters, [cost.parameters(one, known.weights) for one in inner]),
        weights=known.parameters.of([*inner, node]),
    )


def _total(own: int | None, inner: Sequence[int | None]) -> int | None:
    """Return the sum of counts, or None if none is known."""
    return sum(count or 0 for count in (own, *inner)) or None


def _hidden(name: str, node: onnx.NodeProto, ordinal: int) -> LayerInfo:
    """Return the layer of a tensor inside the body of an If, Loop or Scan; it cannot be tapped."""
    return LayerInfo(
        name=name,
        node="",
        op_type="",
        module_path="",
        ordinal=ordinal,
        dtype="",
        symbolic_shape=(),
        shape=(),
        layout=Layout.OTHER,
        not_tappable_reason=f"it is computed inside the body of {node.op_type} {node.name or node.output[0]}",
    )


def _layer(name: str, node: onnx.NodeProto | None, ordinal: int, known: _Known) -> LayerInfo:
    """Return the layer of a tensor that ``node`` computes, or that is an input of the model if ``node`` is None."""
    tensor, field, activation = known.types.get(name), known.fields.get(name), known.activations.get(name)
    return LayerInfo(
        name=name,
        node=node.name if node else "",
        op_type=_operator(node, activation) if node else INPUT,
        module_path=module_path_of(node) if node else "",
        ordinal=ordinal,
        dtype=tensor.dtype if tensor else "",
        symbolic_shape=tuple(map(_symbol, tensor.shape)) if tensor else (),
        shape=tuple(size if isinstance(size, int) else -1 for size in tensor.shape) if tensor else (),
        layout=tensor.layout if tensor else Layout.OTHER,
        channels=cost.channels(tensor),
        stride=field.stride if field else cost.stride(tensor, known.image),
        receptive_field=field,
        tokens=_token_grid(tensor),
        parameters=cost.parameters(node, known.weights) if node else None,
        macs=known.macs(node, name) if node else None,
        bytes_per_image=cost.bytes_per_image(tensor),
        not_tappable_reason=_why_not_tappable(tensor, known.image),
        activation=activation.name if activation else "",
        attention=known.attentions.get(name),
    )


def _symbol(size: Dim) -> str:
    """Return a size as text; names that shape inference makes up become ``?``."""
    return "?" if str(size).startswith("unk__") else str(size)


def _token_grid(tensor: Tensor | None) -> TokenGrid | None:
    """Return the grid of a token layer and its number of prefix tokens, or None if it has no grid."""
    if tensor is None or tensor.grid is None:
        return None
    return TokenGrid(tensor.prefix or 0, *tensor.grid)


def _operator(node: onnx.NodeProto, activation: Activation | None) -> str:
    """Return the name of the block or of the activation of several nodes that ends with a node, or its operator."""
    block = metadata_of(node, BLOCK)
    if not block and activation is not None and activation.is_composite:
        return activation.name
    return block or node.op_type


def _why_not_tappable(tensor: Tensor | None, image: Tensor) -> str:
    """Return the reason why a tensor cannot be tapped, or "" if it can."""
    if tensor is None:
        return "it is not a tensor, or its type is not known before the model runs"
    if tensor.dtype not in _SENDABLE:
        return f"it holds {tensor.dtype or 'no numbers'}, which cannot be sent"
    if not tensor.shape or tensor.shape[0] != image.shape[0]:
        return "its first axis is not the batch"
    return ""
