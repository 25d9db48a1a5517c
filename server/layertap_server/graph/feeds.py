"""Feeds: layers whose values the caller gives, so that the network goes on from there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import onnx

from layertap.errors import BadFeedError
from layertap.types import TensorInfo
from layertap_server.blocks import Builder
from layertap_server.graph.model_graph import ModelGraph
from layertap_server.graph.read import reread
from layertap_server.graph.tapped import emit_batch_at
from layertap_server.tensor import Tensor, value_info

PREFIX = "feed:"
"""Start of the name of the input that takes the values of a layer."""


@dataclass(frozen=True, slots=True)
class Feed:
    """A layer that the caller feeds."""

    layer: str
    sizes: tuple[int, ...] | None = None
    """Sizes of the values without the batch; None if only the layer is known, as in a preview."""

    @property
    def input(self) -> str:
        """Name of the input that takes the values, batch first."""
        return PREFIX + self.layer


def with_feeds(graph: ModelGraph, feeds: Sequence[Feed]) -> ModelGraph:
    """Return a model that takes the values of layers as inputs; what computes them is left in, and nothing reads it.

    Shapes that the size of the images does not fix are inferred from the sizes of the feeds.

    Raises:
        BadFeedError: the values of a feed do not have the shape of the layer.
        GraphError: the sizes of several feeds do not go together.
    """
    for feed in feeds:
        _check_sizes(graph, feed)
    types = {feed.input: _input_type(graph, feed) for feed in feeds}
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    _cut(proto.graph, graph, feeds, types)
    if any(feed.sizes is not None and types[feed.input].shape != graph.tapped(feed.layer).shape for feed in feeds):
        return reread(graph, proto)
    layers = {feed.layer for feed in feeds}
    return replace(
        graph,
        proto=proto,
        inputs=(*graph.inputs, *(_info(tensor) for tensor in types.values())),
        types={**graph.types, **types},
        layers=tuple(replace(layer, macs=0) if layer.name in layers else layer for layer in graph.layers),
    )


def _check_sizes(graph: ModelGraph, feed: Feed) -> None:
    """Raise `BadFeedError` if the values of a feed do not have the shape of the layer."""
    expected = graph.tapped(feed.layer)
    if feed.sizes is None:
        return
    sizes = expected.shape[1:]
    fits = len(sizes) == len(feed.sizes) and all(
        not isinstance(size, int) or size == got for size, got in zip(sizes, feed.sizes, strict=True)
    )
    if not fits:
        got = f"[N, {', '.join(map(str, feed.sizes))}]"
        message = f"the layer {feed.layer!r} has {expected.shape_text}, and its feed has {got}"
        raise BadFeedError(message, field="inputs", layer=feed.layer, expected=expected.shape_text, got=got)


def _input_type(graph: ModelGraph, feed: Feed) -> Tensor:
    """Return the type of the input for a feed, batch first."""
    tensor = graph.tapped(feed.layer)
    batch = graph.types[graph.main_input.name].shape[0]
    sizes = tensor.shape[1:] if feed.sizes is None else feed.sizes
    return replace(tensor, name=feed.input, shape=(batch, *sizes), quantization=None)


def _info(tensor: Tensor) -> TensorInfo:
    """Return a type as the description of an input, with -1 for unknown sizes."""
    shape = tuple(size if isinstance(size, int) else -1 for size in tensor.shape)
    return TensorInfo(tensor.name, tensor.dtype, shape, tensor.layout)


def _cut(proto: onnx.GraphProto, graph: ModelGraph, feeds: Sequence[Feed], types: dict[str, Tensor]) -> None:
    """Add the inputs for feeds and the nodes from them to the layers; other nodes no longer compute these layers."""
    builder = Builder(graph.opset, prefix="layertap/feed")
    layers = {feed.layer for feed in feeds}
    for node in proto.node:
        node.output[:] = [builder.fresh("unused") if name in layers else name for name in node.output]
    for feed in feeds:
        tensor = emit_batch_at(builder, types[feed.input], graph.batch_axes.get(feed.layer, 0))
        builder.nodes.append(onnx.helper.make_node("Identity", [tensor.name], [feed.layer], name=builder.fresh("fed")))
    own = list(proto.node)
    del proto.node[:]
    proto.node.extend([*builder.nodes, *own])
    proto.initializer.extend(builder.initializers)
    proto.input.extend(value_info(name, tensor.dtype, tensor.shape) for name, tensor in types.items())
