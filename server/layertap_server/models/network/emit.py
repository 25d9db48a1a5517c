"""Compilation of a `Network` to ONNX. Layers use the emitters of heads and keep their names in the file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

import numpy as np
import onnx
from onnx import helper

from layertap import blocks
from layertap._nearest import did_you_mean, nearest
from layertap.blocks import BlockSpec, BoundBlock, ParameterType
from layertap.errors import BadParameterError, LayertapError
from layertap.types import Block, Layout, Value
from layertap_server.blocks import Builder, emit_block
from layertap_server.blocks import Layer as LayerWeights
from layertap_server.config.yaml_document import ManifestError
from layertap_server.models.network.composites import COMPOSITES
from layertap_server.models.network.layers import INPUT, Layer, Network, One, Parallel, Residual, Sequential, Work
from layertap_server.models.network.network import chain, takes_defaults
from layertap_server.models.network.weights import Weights
from layertap_server.tensor import Tensor

OPSET = 17
"""Opset of configured models."""
IR_VERSION = 8
"""ONNX IR version of configured models."""
DEEPEST_PATH = 64
"""Maximum number of dots in the path of a layer."""
NEEDED_STATISTICS = {"batch_norm": ("mean", "variance")}
"""Parameters that a weights file must contain, by block; other per-channel parameters have useful defaults."""


def build(network: Network, name: str, image_size: tuple[int, int] | None, weights: Weights | None) -> onnx.ModelProto:
    """Compile a network to an ONNX model.

    Args:
        network: The network.
        name: Name of the graph.
        image_size: Height and width of the input in pixels; free if None.
        weights: Arrays of the weights file, if there is one.

    Returns:
        A model with the input N×C×H×W, in the network's precision, and the outputs that the network names.

    Raises:
        ManifestError: A layer cannot be applied to its input, lacks a weight, or is not connected. The message gives
            the file, the line and the layer.
    """
    return _Emitter(network, weights).model(name, image_size)


class _Emitter:
    """Emitter of a network's layers."""

    def __init__(self, network: Network, weights: Weights | None) -> None:
        """Start with an empty graph."""
        self._network = network
        self._weights = weights
        self._builder = Builder(OPSET, prefix="layertap/build")
        self._types: list[onnx.ValueInfoProto] = []
        self._taken = {INPUT}
        """Names of layers, nodes and weights that are in use."""

    def model(self, name: str, image_size: tuple[int, int] | None) -> onnx.ModelProto:
        """Emit the whole network and return its model."""
        network = self._network
        shape = ("N", network.channels, *(image_size or ("H", "W")))
        start = Tensor(INPUT, network.precision, shape, Layout.NCHW)
        results = self._emit_list(network.layers, start, "", network.outputs)
        graph = helper.make_graph(
            self._builder.nodes,
            name,
            [start.info],
            [results[output].info for output in network.outputs],
            self._builder.initializers,
            value_info=self._types,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)

    def _emit_list(
        self, layers: tuple[Layer, ...], start: Tensor, prefix: str, outputs: Iterable[str], result: str = ""
    ) -> Mapping[str, Tensor]:
        """Emit a list of layers and return their results by name.

        The tensor of the last layer is named ``result`` unless that is empty.
        """
        tensors = {INPUT: start}
        for layer in _in_order(layers, outputs):
            before = _sources(layer, layers)
            path = f"{prefix}{layer.name}"
            is_result = bool(result) and layer.name == layers[-1].name
            source = self._join_sources([tensors[source] for source in before], layer, path)
            tensors[layer.name] = self._emit_layer(layer.work, source, path, result if is_result else path, layer.where)
        return tensors

    def _join_sources(self, sources: list[Tensor], layer: Layer, path: str) -> Tensor:
        """Return the input of a layer, after a join if it has several."""
        if len(sources) == 1:
            return sources[0]
        return self._join(layer.join, sources, f"{path}.{layer.join}", f"{path}.{layer.join}", layer.where)

    def _emit_layer(self, work: Work, source: Tensor, path: str, name: str, where: str) -> Tensor:
        """Emit one layer. Its weights and its node are named ``path``, its result ``name``."""
        if path.count(".") > DEEPEST_PATH:
            raise ManifestError(
                f"{where}: layer {path[:60]}… contains itself, or is nested more than {DEEPEST_PATH} levels deep"
            )
        match work:
            case One(block) if block.name.startswith("$"):
                return self._emit_layer(self._default(block.name[1:], path, where), source, path, name, where)
            case One(block):
                return self._emit_block(block, source, path, name, where)
            case Sequential(layers):
                return self._emit_chain(layers, source, path, name)
            case Residual(layers, shortcut):
                inner = self._emit_chain(layers, source, path)
                beside = self._emit_chain(shortcut, source, f"{path}.shortcut") if shortcut else source
                return self._join("add", [inner, beside], f"{path}.add", name, where)
            case Parallel(branches, join):
                inner_layers = [
                    self._emit_layer(
                        branch.work, source, f"{path}.{branch.name}", f"{path}.{branch.name}", branch.where
                    )
                    for branch in branches
                ]
                return self._join(join, inner_layers, f"{path}.{join}", name, where)

    def _emit_chain(self, layers: tuple[Layer, ...], source: Tensor, path: str, name: str = "") -> Tensor:
        """Emit a list of layers and return the result of the last."""
        last = layers[-1].name
        return self._emit_list(layers, source, f"{path}.", (last,), name)[last]

    def _default(self, name: str, path: str, where: str) -> Work:
        """Return the layers that a placeholder such as ``$norm`` stands for."""
        head = self._network.placeholders.get(name)
        if head is None:
            message = f"layer {path!r} needs ${name}; set {name} in source.defaults"
            raise ManifestError(f"{where}: {message}")
        if "$" in head:
            raise ManifestError(f"{where}: ${name} stands for {head!r}, which uses another placeholder")
        return chain(head, f"{where}: ${name}")

    def _emit_block(self, block: Block, source: Tensor, path: str, name: str, where: str) -> Tensor:
        """Emit a block of the catalogue or a composite block."""
        builder, start = self._builder, len(self._builder.nodes)
        try:
            composite = COMPOSITES.get(block.name)
            bound = self._bind(block, composite.spec if composite else blocks.get(block.name), path)
            if composite:
                return self._emit_layer(composite.expand(bound, source, where), source, path, name, where)
            result = emit_block(builder, source, bound)
            if result.quantization is not None:
                raise BadParameterError(
                    "quantize must be the last block of a head; it cannot be used inside a model", block="quantize"
                )
        except LayertapError as error:
            raise ManifestError(f"{where}: layer {path!r}: {error.message}") from error
        return self._name_result(start, result, name, path, bound.name, where)

    def _name_result(self, start: int, result: Tensor, name: str, path: str, block: str, where: str) -> Tensor:
        """Name the result of the nodes since ``start``; raise `ManifestError` if the name is taken."""
        for taken in sorted({name, path} & self._taken):
            raise ManifestError(f"{where}: the name {taken!r} is taken by another layer, a part of one, or a weight")
        self._taken |= {name, path, *(tensor.name for tensor in self._builder.initializers)}
        named = self._builder.name_result(start, result, name, node=path, block=block, path=path)
        self._types.append(named.info)
        return named

    def _bind(self, block: Block, spec: BlockSpec, path: str) -> BoundBlock:
        """Bind a block. A parameter comes from the block itself, the weights file, or the defaults of the file."""
        known = {parameter.name: parameter for parameter in spec.parameters}
        stored = self._weights.of(path) if self._weights else {}
        self._builder.layer = LayerWeights(path, stored)
        given: dict[str, Value] = {}
        for name, parameter in known.items():
            if parameter.type is ParameterType.PER_CHANNEL and name in stored:
                given[name] = tuple(np.asarray(stored[name], np.float64).ravel().tolist())
            elif name == "weight" and name in stored:
                continue  # the weights file takes precedence over a default
            elif takes_defaults(spec) and name in self._network.parameters:
                given[name] = self._network.parameters[name]
        bound = spec.bind(Block(block.name, {**given, **block.parameters}))
        if blocks.find(bound.name) and spec.looks_across_images(bound):
            message = f"{bound.name} combines the images of a request; it can be used in a head, not inside a model"
            raise BadParameterError(message, block=bound.name)
        for name in NEEDED_STATISTICS.get(bound.name, ()) if self._weights else ():
            if name not in given and name not in block.parameters:
                message = f"{bound.name} needs its {name}, and the weights file has no {path}.{name}"
                raise BadParameterError(message, block=bound.name, parameter=name)
        return bound

    def _join(self, join: str, tensors: list[Tensor], path: str, name: str, where: str) -> Tensor:
        """Emit the sum of tensors, or their concatenation along the channels."""
        first = tensors[0]
        axis = first.channel_axis
        shapes = [list(tensor.shape) for tensor in tensors]
        if join == "concat":
            shapes = [shape[:axis] + shape[axis + 1 :] for shape in shapes]
        kinds = {(tensor.dtype, tensor.layout) for tensor in tensors}
        if len(kinds) > 1 or any(shape != shapes[0] for shape in shapes):
            shapes_text = " and ".join(tensor.shape_text for tensor in tensors)
            raise ManifestError(f"{where}: layer {name!r}: {shapes_text} cannot be joined by {join}")
        start, joined = len(self._builder.nodes), first
        if join == "concat":
            sizes = [tensor.shape[axis] for tensor in tensors]
            total = sum(size for size in sizes if isinstance(size, int))
            concatenated = self._builder.op("Concat", *(tensor.name for tensor in tensors), axis=axis)
            joined = first.with_axis(concatenated, axis, total)
        else:
            for tensor in tensors[1:]:
                joined = first.with_axis(self._builder.op("Add", joined.name, tensor.name), axis, first.shape[axis])
        return self._name_result(start, joined, name, path, join, where)


def _sources(layer: Layer, layers: tuple[Layer, ...]) -> tuple[str, ...]:
    """Return the names of a layer's inputs: those in ``from``, or the layer before it."""
    index = layers.index(layer)
    return layer.inputs or ((layers[index - 1].name,) if index else (INPUT,))


def _in_order(layers: tuple[Layer, ...], outputs: Iterable[str]) -> list[Layer]:
    """Return the layers in topological order.

    Raises:
        ManifestError: A layer names an input that does not exist, depends on itself, or is needed by no output.
    """
    by_name = {layer.name: layer for layer in layers}
    needs: dict[str, set[str]] = {}
    for layer in layers:
        needs[layer.name] = set(_sources(layer, layers))
        for unknown in sorted(needs[layer.name] - by_name.keys() - {INPUT}):
            names = (*by_name, INPUT)
            message = f"there is no layer {unknown!r}{did_you_mean(nearest(unknown, names))}"
            raise ManifestError(f"{layer.where}: layer {layer.name!r}: {message}")
    try:
        order = [name for name in TopologicalSorter(needs).static_order() if name != INPUT]
    except CycleError as error:
        circle = error.args[1]
        message = f"layer {circle[0]!r} depends on itself: {' <- '.join(circle)}"
        raise ManifestError(f"{by_name[circle[0]].where}: {message}") from error
    needed, waiting = set(outputs), list(outputs)
    while waiting:
        new = needs.get(waiting.pop(), set()) - needed - {INPUT}
        needed |= new
        waiting += new
    for layer in layers:
        if layer.name not in needed:
            message = f"layer {layer.name!r} is needed by no output; name it in source.outputs, or remove it"
            raise ManifestError(f"{layer.where}: {message}")
    return [by_name[name] for name in order]
