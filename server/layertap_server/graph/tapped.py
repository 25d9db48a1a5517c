"""Layers as taps see them: batch first, although a network may hold the batch at another axis.

Sequence-first transformers (``batch_first=False`` in PyTorch) compute on tokens×batch×channels, and some exports fix
the size of the batch axis to 1 by a Reshape. A tap returns batch×tokens×channels in all of these cases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from layertap.types import Layout
from layertap_server.blocks import Builder
from layertap_server.graph.batch_axis import Fact, Mixing
from layertap_server.graph.batch_axis.facts import Axis
from layertap_server.graph.layouts import Axes
from layertap_server.graph.tokens import typed
from layertap_server.tensor import Dim, Tensor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Tapped:
    """The layers whose batch axis the graph does not show as a first axis of the batch's size."""

    types: Mapping[str, Tensor] = field(default_factory=dict)
    """Types batch first, by layer."""
    axes: Mapping[str, int] = field(default_factory=dict)
    """Indices of the batch axis in the graph's own tensor, by layer."""


def find_tapped(types: Mapping[str, Tensor], axes: Mapping[str, Axes], facts: Mapping[str, Fact], batch: Dim) -> Tapped:
    """Return the layers that are tapped batch first although the graph does not show them so.

    Args:
        types: Types of the graph's tensors.
        axes: Roles of the tensors' axes.
        facts: Facts about the tensors' batch axes.
        batch: Size of the batch axis of the image input.
    """
    found: dict[str, Tensor] = {}
    indices: dict[str, int] = {}
    for name, tensor in types.items():
        index = _batch_axis(tensor, facts.get(name), batch)
        if index is not None:
            shape = (batch, *_without(tensor.shape, index))
            own = axes.get(name, ())
            moved = (own[index], *_without(own, index)) if own else ()
            found[name] = typed(name, tensor.dtype, shape, moved)
            indices[name] = index
    return Tapped(found, indices)


def _batch_axis(tensor: Tensor, fact: Fact | None, batch: Dim) -> int | None:
    """Return the index of a tensor's batch axis; None if it is not known, or is the first and of the batch's size."""
    if fact is None or fact.axis is None or fact.sizes is not None or fact.of_run:
        return None
    index = fact.axis.index
    if fact.axis != Axis(index) or fact.verdict.mixing is Mixing.UNKNOWN or index >= tensor.rank:
        return None
    return None if tensor.shape[0] == batch and index == 0 else index


def _without(values: tuple[T, ...], index: int) -> tuple[T, ...]:
    """Return the values without one of them."""
    return (*values[:index], *values[index + 1 :])


def emit_batch_first(builder: Builder, tensor: Tensor, index: int) -> Tensor:
    """Emit a layer batch first.

    Args:
        builder: Builder of the plan.
        tensor: Type of the layer batch first, under the name of the graph's own tensor.
        index: Index of the batch axis in the graph's own tensor.
    """
    if index == 0:
        return tensor
    order = (index, *_without(tuple(range(tensor.rank)), index))
    return replace(tensor, name=builder.op("Transpose", tensor.name, perm=order))


def emit_batch_at(builder: Builder, tensor: Tensor, index: int) -> Tensor:
    """Emit a tensor that is batch first with its batch axis at another index; the inverse of `emit_batch_first`."""
    if index == 0:
        return tensor
    order = (*range(1, index + 1), 0, *range(index + 1, tensor.rank))
    moved = builder.op("Transpose", tensor.name, perm=order)
    return replace(tensor, name=moved, shape=tuple(tensor.shape[axis] for axis in order), layout=Layout.OTHER)
