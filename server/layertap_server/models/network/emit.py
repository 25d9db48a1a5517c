"""`Network` -> ONNX: every layer by the emitter that heads use, under the name that it has in the file."""

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
from layertap_server.blocks import Builder, Tensor, emit_block
from layertap_server.blocks import Layer as LayerWeights
from layertap_server.config.yaml_document import ManifestError
from layertap_server.models.network.composites import COMPOSITES
from layertap_server.models.network.layers import INPUT, Layer, Network, One, Parallel, Residual, Sequential, Work
from layertap_server.models.network.network import chain, takes_defaults
from layertap_server.models.network.weights import Weights

OPSET = 17
IR_VERSION = 8
DEEPEST_PATH = 64
NEEDED_STATISTICS = {"batch_norm": ("mean", "variance")}
"""What a weights file must hold of a block; other numbers a channel have defaults that mean something."""


def build(network: Network, name: str, image_size: tuple[int, int] | None, weights: Weights | None) -> onnx.ModelProto:
    """The model: input N×C×H×W, one output for each that the network names.

    Raises:
        ManifestError: a layer does not fit, lacks a weight, or is not connected; says file, line and layer.
    """
    return _Emitter(network, weights).model(name, image_size)


class _Emitter:
    def __init__(self, network: Network, weights: Weights | None) -> None:
        self._network = network
        self._weights = weights
        self._builder = Builder(OPSET, prefix="layertap/build")
        self._types: list[onnx.ValueInfoProto] = []
        self._taken = {INPUT}
        """Names of layers, nodes and weights."""

    def model(self, name: str, image_size: tuple[int, int] | None) -> onnx.ModelProto:
        network = self._network
        shape = ("N", network.channels, *(image_size or ("H", "W")))
        start = Tensor(INPUT, network.precision, shape, Layout.NCHW)
        results = self._list(network.layers, start, "", network.outputs)
        graph = helper.make_graph(
            self._builder.nodes,
            name,
            [start.info],
            [results[output].info for output in network.outputs],
            self._builder.initializers,
            value_info=self._types,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)

    def _list(
        self, layers: tuple[Layer, ...], start: Tensor, prefix: str, outputs: Iterable[str], result: str = ""
    ) -> Mapping[str, Tensor]:
        """Every layer's result. The last one's tensor is called ``result``, where that is given."""
        tensors = {INPUT: start}
        for layer in _in_order(layers, outputs):
            before = _sources(layer, layers)
            path = f"{prefix}{layer.name}"
            is_result = bool(result) and layer.name == layers[-1].name
            source = self._joined([tensors[source] for source in before], layer, path)
            tensors[layer.name] = self._layer(layer.work, source, path, result if is_result else path, layer.where)
        return tensors

    def _joined(self, sources: list[Tensor], layer: Layer, path: str) -> Tensor:
        if len(sources) == 1:
            return sources[0]
        return self._join(layer.join, sources, f"{path}.{layer.join}", f"{path}.{layer.join}", layer.where)

    def _layer(self, work: Work, source: Tensor, path: str, name: str, where: str) -> Tensor:
        """One layer: ``path`` is what its weights and its node are called, ``name`` its result."""
        if path.count(".") > DEEPEST_PATH:
            raise ManifestError(f"{where}: layer {path[:60]}… holds itself, or lies more than {DEEPEST_PATH} deep")
        match work:
            case One(block) if block.name.startswith("$"):
                return self._layer(self._default(block.name[1:], path, where), source, path, name, where)
            case One(block):
                return self._one(block, source, path, name, where)
            case Sequential(layers):
                return self._last(layers, source, path, name)
            case Residual(layers, shortcut):
                inner = self._last(layers, source, path)
                beside = self._last(shortcut, source, f"{path}.shortcut") if shortcut else source
                return self._join("add", [inner, beside], f"{path}.add", name, where)
            case Parallel(branches, join):
                inner_layers = [
                    self._layer(branch.work, source, f"{path}.{branch.name}", f"{path}.{branch.name}", branch.where)
                    for branch in branches
                ]
                return self._join(join, inner_layers, f"{path}.{join}", name, where)

    def _last(self, layers: tuple[Layer, ...], source: Tensor, path: str, name: str = "") -> Tensor:
        last = layers[-1].name
        return self._list(layers, source, f"{path}.", (last,), name)[last]

    def _default(self, name: str, path: str, where: str) -> Work:
        """What ``$norm`` and its like stand for."""
        head = self._network.placeholders.get(name)
        if head is None:
            message = f"layer {path!r} needs ${name}; give it a value as {name} in source.defaults"
            raise ManifestError(f"{where}: {message}")
        if "$" in head:
            raise ManifestError(f"{where}: ${name} stands for {head!r}, which names another default")
        return chain(head, f"{where}: ${name}")

    def _one(self, block: Block, source: Tensor, path: str, name: str, where: str) -> Tensor:
        builder, start = self._builder, len(self._builder.nodes)
        try:
            composite = COMPOSITES.get(block.name)
            bound = self._bound(block, composite.spec if composite else blocks.get(block.name), path)
            if composite:
                return self._layer(composite.expand(bound, source, where), source, path, name, where)
            result = emit_block(builder, source, bound)
            if result.quantization is not None:
                raise BadParameterError("quantize ends a head; it has no place inside a model", block="quantize")
        except LayertapError as error:
            raise ManifestError(f"{where}: layer {path!r}: {error.message}") from error
        return self._named(start, result, name, path, bound.name, where)

    def _named(self, start: int, result: Tensor, name: str, path: str, block: str, where: str) -> Tensor:
        for taken in sorted({name, path} & self._taken):
            raise ManifestError(f"{where}: the name {taken!r} is taken: a layer, a part of one or a weight has it")
        self._taken |= {name, path, *(tensor.name for tensor in self._builder.initializers)}
        named = self._builder.name_result(start, result, name, node=path, block=block, path=path)
        self._types.append(named.info)
        return named

    def _bound(self, block: Block, spec: BlockSpec, path: str) -> BoundBlock:
        """The block with its own parameters, else the file's defaults, else the numbers of the weights file."""
        known = {parameter.name: parameter for parameter in spec.parameters}
        stored = self._weights.of(path) if self._weights else {}
        self._builder.layer = LayerWeights(path, stored)
        given: dict[str, Value] = {}
        for name, parameter in known.items():
            if parameter.type is ParameterType.PER_CHANNEL and name in stored:
                given[name] = tuple(np.asarray(stored[name], np.float64).ravel().tolist())
            elif name == "weight" and name in stored:
                continue  # the file's own wins over a default
            elif takes_defaults(spec) and name in self._network.parameters:
                given[name] = self._network.parameters[name]
        bound = spec.bind(Block(block.name, {**given, **block.parameters}))
        if blocks.find(bound.name) and spec.looks_across_images(bound):
            message = f"{bound.name} looks across the images of a request; that works in a head, not inside a model"
            raise BadParameterError(message, block=bound.name)
        for name in NEEDED_STATISTICS.get(bound.name, ()) if self._weights else ():
            if name not in given and name not in block.parameters:
                message = f"{bound.name} needs its {name}, and the weights file has no {path}.{name}"
                raise BadParameterError(message, block=bound.name, parameter=name)
        return bound

    def _join(self, join: str, tensors: list[Tensor], path: str, name: str, where: str) -> Tensor:
        """The tensors added, or side by side along the channels."""
        first = tensors[0]
        axis = first.channel_axis
        shapes = [list(tensor.shape) for tensor in tensors]
        if join == "concat":
            shapes = [shape[:axis] + shape[axis + 1 :] for shape in shapes]
        kinds = {(tensor.dtype, tensor.layout) for tensor in tensors}
        if len(kinds) > 1 or any(shape != shapes[0] for shape in shapes):
            told = " and ".join(tensor.shape_text for tensor in tensors)
            raise ManifestError(f"{where}: layer {name!r}: {told} cannot be joined by {join}")
        start, joined = len(self._builder.nodes), first
        if join == "concat":
            sizes = [tensor.shape[axis] for tensor in tensors]
            total = sum(size for size in sizes if isinstance(size, int))
            concatenated = self._builder.op("Concat", *(tensor.name for tensor in tensors), axis=axis)
            joined = first.with_axis(concatenated, axis, total)
        else:
            for tensor in tensors[1:]:
                joined = first.with_axis(self._builder.op("Add", joined.name, tensor.name), axis, first.shape[axis])
        return self._named(start, joined, name, path, join, where)


def _sources(layer: Layer, layers: tuple[Layer, ...]) -> tuple[str, ...]:
    """The layers that one is put on: those that it names, or the one before it."""
    index = layers.index(layer)
    return layer.inputs or ((layers[index - 1].name,) if index else (INPUT,))


def _in_order(layers: tuple[Layer, ...], outputs: Iterable[str]) -> list[Layer]:
    """The layers so that each comes behind what it needs.

    Raises:
        ManifestError: a layer names one that is not there, needs itself, or is needed by no output.
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
        message = f"layer {circle[0]!r} needs itself: {' <- '.join(circle)}"
        raise ManifestError(f"{by_name[circle[0]].where}: {message}") from error
    needed, waiting = set(outputs), list(outputs)
    while waiting:
        found = needs.get(waiting.pop(), set()) - needed - {INPUT}
        needed |= found
        waiting += found
    for layer in layers:
        if layer.name not in needed:
            message = f"layer {layer.name!r} is needed by no output; name it in source.outputs, or take it away"
            raise ManifestError(f"{layer.where}: {message}")
    return [by_name[name] for name in order]
