"""Targets, the numbers whose gradients are taken, and the gradients of a target with respect to layers of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import onnx

from layertap.blocks import BoundBlock
from layertap.types import Array
from layertap_server.blocks import Builder, emit_head
from layertap_server.graph.edits import Edit, EditedNodes, edit_nodes
from layertap_server.graph.gradient.backward import GradientError, emit_gradients
from layertap_server.graph.gradient.types import infer_types, type_of_weight, value_of
from layertap_server.graph.model_graph import ModelGraph
from layertap_server.graph.tapped import emit_batch_first
from layertap_server.graph.walk import needed_nodes
from layertap_server.tensor import Dim, Tensor, value_info

TARGET_INDEX = "layertap/target_index"
"""Name of a plan's input that holds the index of the target in each image's vector, int64 N; -1 for the largest."""


@dataclass(frozen=True, slots=True)
class Gradient:
    """The gradient of a plan's target with respect to a layer, in the layer's own shape."""

    layer: str

    def __str__(self) -> str:
        """Return the selector of the gradient."""
        return f"grad:{self.layer}"


@dataclass(frozen=True, slots=True)
class Target:
    """A head on a layer whose result has one number per image, or a vector from which an index chooses one."""

    layer: str
    head: tuple[BoundBlock, ...] = ()
    guided: bool = False
    """Whether relu passes positive cotangents only."""


@dataclass(frozen=True, slots=True)
class Differentiated:
    """A target and its gradients in a plan that is being compiled."""

    index: str
    """Name of the tensor of the indices that were chosen, int64 N×1."""
    value: str
    """Name of the tensor of the target's values, N×1."""
    dtype: str
    """Dtype of the values."""
    gradients: Mapping[str, Tensor]
    """Gradients by layer, batch first."""
    errors: Mapping[str, GradientError]
    """Reasons why there is no gradient, by layer."""
    nodes: tuple[onnx.NodeProto, ...]
    """The model's nodes that the backward pass goes through."""


def differentiate(
    builder: Builder, graph: ModelGraph, target: Target, layers: Sequence[str], edits: Sequence[Edit] = ()
) -> Differentiated:
    """Emit a target, and its gradients with respect to layers.

    Args:
        builder: builder of the plan, which has emitted no node yet.
        graph: the model at the size of the images.
        target: the target.
        layers: names of the layers.
        edits: edits of the network. The gradient of an edited layer is that of its edited value.

    Raises:
        ShapeMismatchError: the head does not fit the target's layer.
        GraphError: the types of the head's tensors cannot be inferred.
    """
    tapped = emit_batch_first(builder, graph.tapped(target.layer), graph.batch_axes.get(target.layer, 0))
    value, index, dtype = _choose(builder, emit_head(builder, tapped, target.head))
    own, _ = needed_nodes(graph.proto.graph, {target.layer})
    edited = edit_nodes(graph, own, edits)
    constants = {**graph.weights, **{tensor.name: tensor for tensor in (*builder.initializers, *edited.initializers)}}
    weights = {name: type_of_weight(tensor) for name, tensor in constants.items()}
    emitted = {**_types_of_head(builder, graph, target.layer), **_types_of_edits(graph, edited)}
    types = {**weights, **graph.types, **emitted}

    def constant_of(name: str) -> Array | None:
        return value_of(constants[name]) if name in constants else None

    nodes = [*edited.nodes, *builder.nodes]
    found = emit_gradients(builder, nodes, types, constant_of, value, layers, guided=target.guided)
    passed = {name for node in own for name in node.output}
    return Differentiated(
        index=index,
        value=value,
        dtype=dtype,
        gradients={layer: _tapped(builder, graph, layer, name) for layer, name in found.names.items()},
        errors=found.errors,
        nodes=tuple(node for node in found.nodes if passed.intersection(node.output)),
    )


def target_size(tensor: Tensor) -> Dim | None:
    """Return the number of values per image of which the target is one; None if the tensor is no vector or number."""
    sizes = [size for size in tensor.shape[1:] if size != 1]
    if len(sizes) > 1 or tensor.rank < 1:
        return None
    return sizes[0] if sizes else 1


def _choose(builder: Builder, tensor: Tensor) -> tuple[str, str, str]:
    """Emit the choice of one value per image; return the names of value and index, both N×1, and the value's dtype."""
    rows = builder.op("Reshape", tensor.name, builder.constant([0, -1], "int64"))
    given = builder.op("Reshape", TARGET_INDEX, builder.constant([-1, 1], "int64"))
    # onnxruntime's ArgMax lacks float16 on the CPU.
    comparable = builder.cast(rows, "float32") if tensor.dtype == "float16" else rows
    largest = builder.op("ArgMax", comparable, axis=1, keepdims=1)
    is_given = builder.op("GreaterOrEqual", given, builder.constant(0, "int64"))
    index = builder.op("Where", is_given, given, largest)
    return builder.op("GatherElements", rows, index, axis=1), index, tensor.dtype


def _types_of_head(builder: Builder, graph: ModelGraph, layer: str) -> dict[str, Tensor]:
    """Return the types of the tensors that the target's head emits; see `_types_of` for the errors."""
    given = graph.types[layer]
    inputs = [value_info(layer, given.dtype, given.shape), index_input(graph)]
    return _types_of(graph, builder.nodes, builder.initializers, inputs)


def _types_of_edits(graph: ModelGraph, edited: EditedNodes) -> dict[str, Tensor]:
    """Return the types of the tensors inside edits; see `_types_of` for the errors."""
    if not edited.inner:
        return {}
    starts = {name: replace(graph.types[layer], name=name) for name, layer in edited.starts.items()}
    inputs = [value_info(tensor.name, tensor.dtype, tensor.shape) for tensor in starts.values()]
    return {**starts, **_types_of(graph, edited.inner, edited.initializers, inputs)}


def _types_of(
    graph: ModelGraph,
    nodes: Sequence[onnx.NodeProto],
    constants: Sequence[onnx.TensorProto],
    inputs: Sequence[onnx.ValueInfoProto],
) -> dict[str, Tensor]:
    """Return the types of the tensors that nodes compute which are emitted for a model; see `infer_types`."""
    proto = graph.proto
    types = infer_types(nodes, constants, inputs, proto.opset_import, proto.ir_version, graph.native)
    return {name: tensor for name, tensor in types.items() if name not in graph.types}


def index_input(graph: ModelGraph) -> onnx.ValueInfoProto:
    """Return the description of the plan's input of target indices."""
    return value_info(TARGET_INDEX, "int64", (graph.types[graph.main_input.name].shape[0],))


def _tapped(builder: Builder, graph: ModelGraph, layer: str, gradient: str) -> Tensor:
    """Emit the gradient with respect to a layer batch first, with the layer's layout."""
    tensor = replace(graph.tapped(layer), name=gradient, max_pools=())
    return emit_batch_first(builder, tensor, graph.batch_axes.get(layer, 0))
