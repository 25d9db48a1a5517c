"""Edits: heads put after layers of a network for one request; all that follows computes on the edited values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import onnx

from layertap.blocks import BoundBlock
from layertap.errors import BadEditError
from layertap_server.blocks import Builder, emit_head
from layertap_server.graph.model_graph import ModelGraph
from layertap_server.graph.tapped import emit_batch_at, emit_batch_first


@dataclass(frozen=True, slots=True)
class Edit:
    """A head after a layer. Edits of one layer apply one after the other; taps see the edited value."""

    layer: str
    head: tuple[BoundBlock, ...]


@dataclass(frozen=True, slots=True)
class EditedNodes:
    """The nodes of a network with edits."""

    nodes: tuple[onnx.NodeProto, ...]
    """All nodes, in execution order."""
    inner: tuple[onnx.NodeProto, ...]
    """Those that the edits have emitted."""
    starts: Mapping[str, str]
    """Edited layers, by the names of their values before the edits."""
    initializers: tuple[onnx.TensorProto, ...]
    """Constants of the edits."""


def check_edit(graph: ModelGraph, edit: Edit) -> None:
    """Check that an edit keeps the type of its layer.

    Raises:
        BadEditError: the layer is an input, or the head changes its shape or dtype.
        ShapeMismatchError, BadParameterError: the head does not fit the layer.
    """
    if all(edit.layer not in node.output for node in graph.proto.graph.node):
        message = f"{edit.layer!r} is an input of the model; change the images or arrays that you send instead"
        raise BadEditError(message, layer=edit.layer)
    before = graph.tapped(edit.layer)
    after = emit_head(Builder(graph.opset), before, edit.head)
    if (after.dtype, after.shape) != (before.dtype, before.shape) or after.quantization is not None:
        message = (
            f"an edit keeps shape and dtype: {edit.layer!r} has {before.shape_text} ({before.dtype}), and its head "
            f"results in {after.shape_text} ({after.dtype})"
        )
        raise BadEditError(message, layer=edit.layer, expected=before.shape_text, got=after.shape_text)


def edit_nodes(graph: ModelGraph, nodes: Sequence[onnx.NodeProto], edits: Sequence[Edit]) -> EditedNodes:
    """Return the nodes of a plan with edits after the nodes that compute the edited layers.

    Edits of layers that the nodes do not compute are left out.
    """
    by_layer: dict[str, list[Edit]] = {}
    for edit in edits:
        by_layer.setdefault(edit.layer, []).append(edit)
    builder = Builder(graph.opset, prefix="layertap/edit")
    starts: dict[str, str] = {}
    kept: list[onnx.NodeProto] = []
    for node in nodes:
        changed = [name for name in node.output if name in by_layer]
        renamed, start = (_renamed(builder, node, changed, starts) if changed else node), len(builder.nodes)
        for name in changed:
            _emit(builder, graph, starts, by_layer[name])
        kept += [renamed, *builder.nodes[start:]]
    return EditedNodes(tuple(kept), tuple(builder.nodes), starts, tuple(builder.initializers))


def _renamed(builder: Builder, node: onnx.NodeProto, layers: Sequence[str], starts: dict[str, str]) -> onnx.NodeProto:
    """Return a node whose edited outputs have new names, and add these to ``starts``."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    names = {layer: builder.fresh("before") for layer in layers}
    copy.output[:] = [names.get(name, name) for name in node.output]
    starts.update({name: layer for layer, name in names.items()})
    return copy


def _emit(builder: Builder, graph: ModelGraph, starts: Mapping[str, str], edits: Sequence[Edit]) -> None:
    """Emit the edits of one layer, whose result has the layer's own name."""
    layer = edits[0].layer
    before = next(name for name, edited in starts.items() if edited == layer)
    tapped, axis = graph.tapped(layer), graph.batch_axes.get(layer, 0)
    tensor = emit_batch_first(builder, replace(tapped, name=before), axis)
    for edit in edits:
        tensor = emit_head(builder, tensor, edit.head)
    tensor = emit_batch_at(builder, tensor, axis)
    builder.nodes.append(onnx.helper.make_node("Identity", [tensor.name], [layer], name=builder.fresh("edited")))
