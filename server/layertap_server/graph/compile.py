"""A plan's own model: what its taps need of the graph, the front before it and the heads behind it.

Every set of taps gets its own graph because a session computes all it holds, whatever is fetched: a tap at a tenth of
the network then costs a tenth of it. A tapped tensor cannot be fused away, so nothing that is not tapped is an output.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx
from onnx import helper

from layertap.blocks import BoundBlock
from layertap.types import Layout
from layertap_server.blocks import Builder, Tensor, emit_head, value_info
from layertap_server.graph.inspect import emit_inspection
from layertap_server.graph.model_graph import ModelGraph, onnx_bytes
from layertap_server.graph.preprocessing_nodes import IMAGES, Normalization, emit_front, front_input
from layertap_server.graph.saturation import saturation_of
from layertap_server.graph.walk import needed_nodes

HEAD_OPSET = 17
HEAD_IR_VERSION = 8
HEAD_INPUT = "layertap/tensor"
BATCH = "N"


@dataclass(frozen=True, slots=True)
class CompiledPlan:
    """A model for one session."""

    model: bytes
    """The topology; its weights lie in the model's weights folder."""
    input_name: str
    output_names: tuple[str, ...]
    """One a head, in order; equal heads name the same output."""
    weight_bytes: int
    """What the weights that it refers to take."""
    other_inputs: tuple[str, ...] = ()
    """The model's own inputs that it needs beside the images."""
    quantization: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Output that is quantized -> the outputs of its scale and its zero point."""

    @property
    def fetched(self) -> tuple[str, ...]:
        """Every output, each once."""
        return tuple(
            dict.fromkeys([*self.output_names, *(name for pair in self.quantization.values() for name in pair)])
        )


@dataclass(frozen=True, slots=True)
class HeadType:
    """What a head gives and what it costs, as far as the sizes are known."""

    tensor: Tensor
    """Dtype, shape and layout of the result."""
    computed_bytes: int
    """Bytes that it computes for one image."""
    operations: int
    """Price of one image; see `blocks.operations`."""
    dearest: tuple[str, int]
    """Its block with the highest price, and that."""
    nodes: int
    """Operators that it consists of."""


def head_type(graph: ModelGraph, layer: str, head: Iterable[BoundBlock]) -> HeadType:
    """Return what a head on a layer gives and costs.

    Raises:
        ShapeMismatchError: a block does not fit.
    """
    return _typed(Builder(graph.opset), graph.types[layer], head)


def tensor_type(dtype: str, sizes: Sequence[int], layout: Layout, head: Iterable[BoundBlock]) -> HeadType:
    """Return what a head gives and costs on a tensor of its own, N×sizes."""
    return _typed(Builder(HEAD_OPSET), _given(dtype, sizes, layout), head)


def _typed(builder: Builder, tensor: Tensor, head: Iterable[BoundBlock]) -> HeadType:
    result = emit_head(builder, tensor, head)
    return HeadType(result, builder.computed_bytes, builder.operations, builder.dearest, len(builder.nodes))


def _given(dtype: str, sizes: Sequence[int], layout: Layout) -> Tensor:
    return Tensor(HEAD_INPUT, dtype, (BATCH, *sizes), layout)


def compile_head(dtype: str, sizes: Sequence[int], layout: Layout, head: Iterable[BoundBlock]) -> CompiledPlan:
    """The model of a head alone, on tensors N×sizes."""
    builder = Builder(HEAD_OPSET)
    given = _given(dtype, sizes, layout)
    result = emit_head(builder, given, head)
    output = _as_output(builder, result, is_input=result.name == HEAD_INPUT)
    input_ = given.info
    outputs = [output, *_quantization_outputs(result)]
    graph = helper.make_graph(builder.nodes, "head", [input_], outputs, builder.initializers)
    opset = helper.make_opsetid("", HEAD_OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=HEAD_IR_VERSION)
    return CompiledPlan(
        model.SerializeToString(), HEAD_INPUT, (output.name,), weight_bytes=0, quantization=_quantization([result])
    )


def compile_plan(
    graph: ModelGraph,
    heads: Sequence[tuple[str, tuple[BoundBlock, ...]]],
    *,
    front: Normalization | None,
    image_size: tuple[int, int] | None,
) -> CompiledPlan:
    """The model that computes the heads, each a layer and the blocks on it.

    With ``front`` it takes uint8 images of ``image_size``, without it the model's own input; and the model's other
    inputs, as far as the layers need them.
    """
    builder = Builder(graph.opset)
    results = [emit_head(builder, graph.types[layer], blocks) for layer, blocks in heads]
    return _assembled(graph, builder, results, {layer for layer, _ in heads}, front, image_size)


def compile_inspection(
    graph: ModelGraph, layers: Sequence[str], *, front: Normalization | None, image_size: tuple[int, int] | None
) -> CompiledPlan:
    """The model that computes the statistics of layers: for each its summary and its channels, one after the other."""
    builder = Builder(graph.opset)
    results: list[Tensor] = []
    for layer in layers:
        results += emit_inspection(builder, graph.types[layer], saturation_of(graph, layer))
    return _assembled(graph, builder, results, set(layers), front, image_size)


def whole_with_outputs(graph: ModelGraph, names: Iterable[str]) -> bytes:
    """The model with these tensors as its only outputs, whatever their types; on its own input."""
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    _unname_doubles(proto.graph)
    return bytes(proto.SerializeToString())


def cost_of(graph: ModelGraph, layers: Collection[str]) -> tuple[int, int]:
    """Multiply-accumulates of one image for so many layers and all that they need, as far as known, and the nodes."""
    nodes, _ = needed_nodes(graph.proto.graph, layers)
    made = {name for node in nodes for name in node.output}
    return sum(layer.macs or 0 for layer in graph.layers if layer.name in made), len(nodes)


def _assembled(
    graph: ModelGraph,
    builder: Builder,
    results: Sequence[Tensor],
    layers: Collection[str],
    front: Normalization | None,
    image_size: tuple[int, int] | None,
) -> CompiledPlan:
    """The front, the nodes that the layers need, and what the builder put on them."""
    nodes, needed = needed_nodes(graph.proto.graph, layers)
    weights = [graph.weights[name] for name in sorted(needed & graph.weights.keys())]
    image = graph.image_input
    model_inputs = {info.name for info in graph.inputs}
    others = tuple(info.name for info in graph.inputs if info.name in needed and info.name != image.name)
    before = Builder(graph.opset, prefix="layertap/front")
    if front is not None and image_size is not None:
        inputs = [front_input(graph.fixed_batch, image_size, len(front.mean))]
        start = emit_front(before, front, image)
        before.nodes.append(helper.make_node("Identity", [start], [image.name]))
    else:
        inputs = [value for value in graph.proto.graph.input if value.name == image.name]
    inputs += [value for value in graph.proto.graph.input if value.name in others]
    outputs = [_as_output(builder, result, is_input=result.name in model_inputs) for result in results]
    names = tuple(output.name for output in outputs)
    outputs += [output for result in results for output in _quantization_outputs(result)]
    plan = helper.make_graph(
        [*before.nodes, *nodes, *builder.nodes],
        graph.proto.graph.name or "plan",
        inputs,
        list({output.name: output for output in outputs}.values()),
        [*weights, *before.initializers, *builder.initializers],
    )
    _unname_doubles(plan)
    model = helper.make_model(
        plan,
        opset_imports=graph.proto.opset_import,
        functions=graph.proto.functions,
        ir_version=graph.proto.ir_version,
    )
    return CompiledPlan(
        model=model.SerializeToString(),
        input_name=IMAGES if front is not None else image.name,
        output_names=names,
        weight_bytes=sum(onnx_bytes(weight) for weight in weights),
        other_inputs=others,
        quantization=_quantization(results),
    )


def _unname_doubles(graph: onnx.GraphProto) -> None:
    """Nodes of one name are valid ONNX, and onnxruntime refuses them."""
    seen: set[str] = set()
    for node in graph.node:
        if node.name in seen:
            node.ClearField("name")
        seen.add(node.name)


def _quantization(results: Iterable[Tensor]) -> Mapping[str, tuple[str, str]]:
    return {result.name: result.quantization for result in results if result.quantization is not None}


def _quantization_outputs(result: Tensor) -> list[onnx.ValueInfoProto]:
    if result.quantization is None:
        return []
    scale, zero_point = result.quantization
    return [
        helper.make_tensor_value_info(scale, onnx.TensorProto.FLOAT, None),
        helper.make_tensor_value_info(zero_point, onnx.TensorProto.INT64, None),
    ]


def _as_output(builder: Builder, result: Tensor, *, is_input: bool) -> onnx.ValueInfoProto:
    # A graph's input is no result of it until a node hands it on.
    name = builder.op("Identity", result.name) if is_input else result.name
    return value_info(name, result.dtype, result.shape)
