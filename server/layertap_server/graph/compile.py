"""Compilation of a plan to an ONNX model: preprocessing nodes, the subgraph that the taps need, and the heads.

Each set of taps gets its own model, because a session computes its whole graph whichever outputs are fetched. A tap
after a tenth of the network then costs a tenth of the network. Only tapped tensors are outputs, because the runtime
cannot fuse operators across an output.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx
from onnx import helper

from layertap.blocks import BoundBlock
from layertap_server.blocks import Builder, emit_head
from layertap_server.graph.edits import Edit, edit_nodes
from layertap_server.graph.gradient import Differentiated, Gradient, Target, differentiate, index_input
from layertap_server.graph.inspect import emit_inspection
from layertap_server.graph.model_graph import ModelGraph, onnx_bytes
from layertap_server.graph.preprocessing_nodes import IMAGES, Normalization, emit_preprocessing, images_input
from layertap_server.graph.saturation import saturation_of
from layertap_server.graph.tapped import emit_batch_first
from layertap_server.graph.walk import needed_nodes
from layertap_server.tensor import Tensor, value_info


@dataclass(frozen=True, slots=True)
class CompiledPlan:
    """An ONNX model for one session."""

    model: bytes
    """Serialized ONNX model; its large weights are stored in the model's weights folder."""
    input_name: str
    output_names: tuple[str, ...]
    """Output name for each head, in order; equal heads share an output."""
    weight_bytes: int
    """Size of the weights that the model uses, in bytes."""
    other_inputs: tuple[str, ...] = ()
    """Names of the model's inputs that are needed in addition to the image input."""
    quantization: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Names of the scale and zero-point outputs, by the name of the quantized output."""
    target_outputs: tuple[str, ...] = ()
    """Names of the outputs of the target's indices and values; empty without a target.

    A plan with a target takes the input `TARGET_INDEX` too.
    """

    @property
    def fetched(self) -> tuple[str, ...]:
        """Names of all outputs, without duplicates."""
        quantization = (name for pair in self.quantization.values() for name in pair)
        return tuple(dict.fromkeys([*self.output_names, *quantization, *self.target_outputs]))


@dataclass(frozen=True, slots=True)
class Preamble:
    """How a plan receives the batch."""

    normalization: Normalization | None
    """Normalization of uint8 images; None for arrays of one of the model's own inputs."""
    image_size: tuple[int, int] | None
    """Height and width of the images in pixels."""
    batch_input: str = ""
    """Name of the input that the batch is given for; empty for the main input."""


@dataclass(frozen=True, slots=True)
class HeadType:
    """Result type and cost of a head. Sizes that are not known are left out of the costs."""

    tensor: Tensor
    """Result, with its dtype, shape and layout."""
    computed_bytes: int
    """Size of the tensors computed for one image, in bytes."""
    operations: int
    """Estimated operations for one image, in the unit of ``blocks.operations``."""
    most_expensive: tuple[str, int]
    """Name of the most expensive block, and its operations."""
    nodes: int
    """Number of ONNX nodes."""


def head_type(graph: ModelGraph, layer: str, head: Iterable[BoundBlock]) -> HeadType:
    """Return the result type and the cost of a head on a layer, or on a gradient with respect to it.

    Raises:
        ShapeMismatchError: A block cannot be applied to the tensor before it.
    """
    return type_of_head(Builder(graph.opset), graph.tapped(layer), head)


def type_of_head(builder: Builder, tensor: Tensor, head: Iterable[BoundBlock]) -> HeadType:
    """Emit a head on a tensor and return its result type and cost."""
    result = emit_head(builder, tensor, head)
    return HeadType(result, builder.computed_bytes, builder.operations, builder.most_expensive, len(builder.nodes))


def compile_plan(
    graph: ModelGraph,
    heads: Sequence[tuple[str | Gradient, tuple[BoundBlock, ...]]],
    *,
    normalization: Normalization | None,
    image_size: tuple[int, int] | None,
    batch_input: str = "",
    target: Target | None = None,
    edits: Sequence[Edit] = (),
) -> CompiledPlan:
    """Compile a model that computes heads, each given as a layer or gradient and the blocks that are applied to it.

    Args:
        graph: The graph of the whole model.
        heads: Layer name or gradient, and blocks, of each head.
        normalization: Normalization of uint8 images. With None the plan takes the model's own image input instead.
        image_size: Height and width of the images in pixels.
        batch_input: Name of the input that the batch is given for; empty for the main input.
        target: Target of the gradients; None if there are none.
        edits: Edits of the network.

    Returns:
        The compiled plan. It takes the model's other inputs too, as far as the layers need them.

    Raises:
        ShapeMismatchError: A block cannot be applied to the tensor before it.
    """
    builder = Builder(graph.opset)
    wanted = tuple(dict.fromkeys(source.layer for source, _ in heads if isinstance(source, Gradient)))
    made = differentiate(builder, graph, target, wanted, edits) if target else None
    results = [emit_head(builder, _source(builder, graph, source, made), blocks) for source, blocks in heads]
    layers = {source for source, _ in heads if isinstance(source, str)} | {*wanted, *([target.layer] if target else [])}
    preamble = Preamble(normalization, image_size, batch_input)
    return _assembled(graph, builder, results, layers, preamble, made, edits)


def compile_inspection(
    graph: ModelGraph,
    layers: Sequence[str],
    *,
    normalization: Normalization | None,
    image_size: tuple[int, int] | None,
    batch_input: str = "",
    edits: Sequence[Edit] = (),
) -> CompiledPlan:
    """Compile a model that computes the statistics of layers.

    Its outputs are the summary and the channel maxima of each layer, in the order of ``layers``; see `emit_inspection`.
    The other arguments are as in `compile_plan`.
    """
    builder = Builder(graph.opset)
    results: list[Tensor] = []
    for layer in layers:
        results += emit_inspection(builder, _layer(builder, graph, layer), saturation_of(graph, layer))
    preamble = Preamble(normalization, image_size, batch_input)
    return _assembled(graph, builder, results, set(layers), preamble, edits=edits)


def _source(builder: Builder, graph: ModelGraph, source: str | Gradient, made: Differentiated | None) -> Tensor:
    """Emit a layer batch first, or return the gradient with respect to it.

    Raises:
        GradientError: there is no gradient with respect to the layer.
    """
    if isinstance(source, str):
        return _layer(builder, graph, source)
    if made is None:
        raise ValueError(f"{source} needs a target")
    if error := made.errors.get(source.layer):
        raise error
    return made.gradients[source.layer]


def _layer(builder: Builder, graph: ModelGraph, layer: str) -> Tensor:
    """Emit a layer batch first."""
    return emit_batch_first(builder, graph.tapped(layer), graph.batch_axes.get(layer, 0))


def whole_with_outputs(graph: ModelGraph, names: Iterable[str]) -> bytes:
    """Return the serialized model with these tensors as its only outputs, of any type. Its inputs stay as they are."""
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    _unname_doubles(proto.graph)
    return bytes(proto.SerializeToString())


def computed_layers(graph: ModelGraph, layers: Collection[str]) -> frozenset[str]:
    """Return the names of all tensors that are computed for layers, including these."""
    nodes, _ = needed_nodes(graph.proto.graph, layers)
    return frozenset(name for node in nodes for name in node.output if name)


def cost_of(graph: ModelGraph, layers: Collection[str]) -> tuple[int, int]:
    """Return the cost of computing layers for one image.

    Returns:
        The multiply-accumulates of all layers that are computed, as far as they are known, and the number of nodes.
    """
    nodes, _ = needed_nodes(graph.proto.graph, layers)
    made = {name for node in nodes for name in node.output}
    return sum(layer.macs or 0 for layer in graph.layers if layer.name in made), len(nodes)


def _assembled(
    graph: ModelGraph,
    builder: Builder,
    results: Sequence[Tensor],
    layers: Collection[str],
    preamble: Preamble,
    made: Differentiated | None = None,
    edits: Sequence[Edit] = (),
) -> CompiledPlan:
    """Return a plan of the preprocessing nodes, the nodes that the layers need, and the builder's nodes.

    The plan has the index and the value of the target of ``made`` as outputs too.
    """
    own, needed = needed_nodes(graph.proto.graph, layers)
    edited = edit_nodes(graph, own, edits)
    weights = [graph.weights[name] for name in sorted(needed & graph.weights.keys())]
    image = graph.main_input
    fed = preamble.batch_input or image.name
    model_inputs = {info.name for info in graph.inputs}
    others = tuple(info.name for info in graph.inputs if info.name in needed and info.name != fed)
    before = Builder(graph.opset, prefix="layertap/front")
    if preamble.normalization is not None and preamble.image_size is not None:
        inputs = [images_input(graph.fixed_batch, preamble.image_size, len(preamble.normalization.mean))]
        start = emit_preprocessing(before, preamble.normalization, image)
        before.nodes.append(helper.make_node("Identity", [start], [image.name]))
    else:
        inputs = [value for value in graph.proto.graph.input if value.name == fed]
    inputs += [value for value in graph.proto.graph.input if value.name in others]
    outputs = [as_output(builder, result, is_input=result.name in model_inputs) for result in results]
    names = tuple(output.name for output in outputs)
    outputs += [output for result in results for output in quantization_outputs(result)]
    if made is not None:
        inputs.append(index_input(graph))
        outputs += [value_info(made.index, "int64", (None, 1)), value_info(made.value, made.dtype, (None, 1))]
    plan = helper.make_graph(
        [*before.nodes, *edited.nodes, *builder.nodes],
        graph.proto.graph.name or "plan",
        inputs,
        list({output.name: output for output in outputs}.values()),
        [*weights, *before.initializers, *edited.initializers, *builder.initializers],
    )
    remove_unread(plan)
    _unname_doubles(plan)
    model = helper.make_model(
        plan,
        opset_imports=graph.proto.opset_import,
        functions=graph.proto.functions,
        ir_version=graph.proto.ir_version,
    )
    return CompiledPlan(
        model=model.SerializeToString(),
        input_name=IMAGES if preamble.normalization is not None else fed,
        output_names=names,
        weight_bytes=sum(onnx_bytes(weight) for weight in weights),
        other_inputs=others,
        quantization=quantization_of(results),
        target_outputs=(made.index, made.value) if made else (),
    )


def remove_unread(graph: onnx.GraphProto) -> None:
    """Remove nodes and constants that no output needs, such as gradients of parameters; onnxruntime would run them."""
    nodes, needed = needed_nodes(graph, [output.name for output in graph.output])
    kept = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)


def _unname_doubles(graph: onnx.GraphProto) -> None:
    """Clear the names of nodes whose name is taken. ONNX allows duplicate names, onnxruntime rejects them."""
    seen: set[str] = set()
    for node in graph.node:
        if node.name in seen:
            node.ClearField("name")
        seen.add(node.name)


def quantization_of(results: Iterable[Tensor]) -> Mapping[str, tuple[str, str]]:
    """Return the names of scale and zero point of each quantized result, by the result's name."""
    return {result.name: result.quantization for result in results if result.quantization is not None}


def quantization_outputs(result: Tensor) -> list[onnx.ValueInfoProto]:
    """Return the outputs for scale and zero point of a quantized result; an empty list for any other result."""
    if result.quantization is None:
        return []
    scale, zero_point = result.quantization
    return [
        helper.make_tensor_value_info(scale, onnx.TensorProto.FLOAT, None),
        helper.make_tensor_value_info(zero_point, onnx.TensorProto.INT64, None),
    ]


def as_output(builder: Builder, result: Tensor, *, is_input: bool) -> onnx.ValueInfoProto:
    """Return a result as a graph output. An input of the graph needs an Identity node to become an output."""
    name = builder.op("Identity", result.name) if is_input else result.name
    return value_info(name, result.dtype, result.shape)
