"""Resolve the edits of a request to heads after layers, and check that something reads what they change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from layertap import blocks
from layertap.errors import BadEditError, LayertapError, TooManyTapsError
from layertap.types import Tap
from layertap_server.graph import INPUT, Edit, ModelGraph, check_edit, computed_layers, head_type
from layertap_server.planning.layer_finders import Selection
from layertap_server.planning.plan import across_images
from layertap_server.request.limits import check_head

MOST_EDITS = 256
"""Maximum edits of one request."""


def find_edits(
    given: Sequence[Tap | str], select: Callable[[Tap | str], tuple[Tap, Selection]], graph: ModelGraph
) -> tuple[tuple[Edit, ...], ...]:
    """Return the layers and heads of each edit of a request.

    Args:
        given: edits, which are taps without a name.
        select: function that parses an edit and finds its layers.
        graph: the model at the size of the images.

    Raises:
        BadEditError: an edit has a name or no head, names gradients or an input, or changes a shape.
        LayertapError: an edit's selector or head is not valid; the field of the error names the edit.
    """
    if len(given) > MOST_EDITS:
        message = f"the request has {len(given)} edits and the limit is {MOST_EDITS}; a selector may name many layers"
        raise TooManyTapsError(message, field="edits", limit=MOST_EDITS)
    found = []
    for index, text in enumerate(given):
        try:
            found.append(tuple(_edits_of(*select(text), graph)))
        except LayertapError as error:
            raise error.about_field(f"edits[{index}]") from None
    return tuple(found)


def _edits_of(tap: Tap, selection: Selection, graph: ModelGraph) -> Iterator[Edit]:
    """Yield the edits of each layer that one edit of the request names."""
    if tap.name or not tap.blocks:
        what = f"the name {tap.name!r}" if tap.name else "no head"
        message = f"expected an edit as 'LAYER | BLOCK', such as 'stage:2 | zero_channels([3])', got {what}"
        raise BadEditError(message, layer=tap.selector)
    if selection.is_gradient:
        raise BadEditError("an edit changes layers, and gradients are none", layer=tap.selector)
    check_head(tap.blocks)
    head = tuple(blocks.bind(block) for block in tap.blocks)
    if across := across_images(tap.blocks, head):
        raise BadEditError(f"an edit changes each image by itself, and {across} takes its statistics from all images")
    layers = [layer for layer in selection.layers if selection.single or layer.op_type != INPUT]
    if not layers:
        raise BadEditError(f"{tap.selector!r} names inputs of the model only; change what you send instead")
    for layer in layers:
        edit = Edit(layer.name, head)
        check_edit(graph, edit)
        yield edit


def check_read(edits: Sequence[Sequence[Edit]], layers: Sequence[str], graph: ModelGraph) -> tuple[Edit, ...]:
    """Return the edits of layers that the plan computes.

    Raises:
        BadEditError: nothing that the request asks for reads any layer of an edit.
    """
    computed = computed_layers(graph, layers)
    read = []
    for index, several in enumerate(edits):
        kept = [edit for edit in several if edit.layer in computed]
        if not kept:
            message = f"no tap reads {several[0].layer!r}; edit a layer before the tapped ones"
            raise BadEditError(message, field=f"edits[{index}]", layer=several[0].layer)
        read += kept
    return tuple(read)


def price_of_edits(edits: Sequence[Edit], graph: ModelGraph) -> int:
    """Return the estimated number of operations that edits of the network add for one image."""
    return sum(head_type(graph, edit.layer, edit.head).operations for edit in edits)
