"""Find the target of a request's gradients, and the layers with respect to which it can be differentiated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from layertap import blocks
from layertap.errors import BadTargetError, LayertapError, NotDifferentiableError
from layertap.expression import format_tap
from layertap.types import Tap
from layertap_server.blocks import Builder
from layertap_server.graph import (
    Edit,
    GradientError,
    GraphError,
    ModelGraph,
    NoRuleError,
    Target,
    differentiate,
    head_type,
    target_size,
)
from layertap_server.planning.layer_finders import Selection
from layertap_server.planning.plan import FoundTarget, across_images
from layertap_server.planning.sized_graphs import unavailable_if_lost
from layertap_server.request.limits import check_head

BACKWARD = 3
"""Price of the backward pass through a node, as a multiple of the node's own price."""
KEPT = 2
"""Number of tensors that the backward pass keeps for each output of a node, of the output's size."""


@dataclass(frozen=True, slots=True)
class Derivatives:
    """The gradients of a request with their cost, or the reasons why there are none."""

    target: FoundTarget | None = None
    """The target; None if the request has no gradients."""
    errors: Mapping[str, LayertapError] = field(default_factory=dict)
    """Reasons why there is no gradient, by layer."""
    through: tuple[str, ...] = ()
    """First outputs of the nodes that the backward pass goes through."""
    computed_bytes: int = 0
    """Bytes that the backward pass computes per image, as far as the sizes are known."""


NONE = Derivatives()
"""What a request without gradients has."""


def find_target(tap: Tap, selection: Selection, graph: ModelGraph) -> FoundTarget:
    """Return the target that a tap describes.

    Raises:
        BadTargetError: the tap has a name, names several layers or gradients, computes across images, or has neither
            one number nor one vector per image.
        ShapeMismatchError, BadParameterError, UnknownBlockError: the head is not valid.
    """
    text = format_tap(tap)
    if tap.name:
        raise BadTargetError(f"a target has no name; leave out '-> {tap.name}'", target=text)
    if selection.is_gradient or not selection.single:
        what = "a gradient" if selection.is_gradient else f"{len(selection.layers)} layers"
        raise BadTargetError(f"expected one layer as the target, got {text!r}, which names {what}", target=text)
    check_head(tap.blocks)
    head = tuple(blocks.bind(block) for block in tap.blocks)
    if across := across_images(tap.blocks, head):
        message = f"a target is computed from one image, and {across} takes its statistics from all images"
        raise BadTargetError(message, target=text)
    return _found(Target(selection.layers[0].name, head), text, Tap(selection.layers[0].name, tap.blocks), graph)


def default_target(graph: ModelGraph) -> FoundTarget:
    """Return the model's only vector output as the target; if it is a softmax, the softmax's input.

    Raises:
        BadTargetError: the model has no vector output, or several.
    """
    vectors = [info.name for info in graph.outputs if _is_vector(graph, info.name)]
    if len(vectors) != 1:
        outputs = ", ".join(info.name for info in graph.outputs)
        what = f"has {len(vectors)} vector outputs ({', '.join(vectors)})" if vectors else "has no vector output"
        message = f"name the target: the model {what}; its outputs are {outputs}. A head can make one: 'LAYER | gap'"
        raise BadTargetError(message, outputs=outputs)
    makers = {name: node for node in graph.proto.graph.node for name in node.output}
    output = name = vectors[0]
    while name in makers and makers[name].op_type == "Identity":
        name = makers[name].input[0]
    if name in makers and makers[name].op_type == "Softmax":
        logits = makers[name].input[0]
        return _found(Target(logits), f"{logits} (the input of the softmax {output})", Tap(logits), graph)
    return _found(Target(output), output, Tap(output), graph)


def _is_vector(graph: ModelGraph, name: str) -> bool:
    """Return whether an output is a vector of floating-point numbers for each image."""
    if name not in graph.types:
        return False
    tensor = graph.tapped(name)
    is_batched = tensor.shape[:1] == graph.types[graph.main_input.name].shape[:1]
    return is_batched and target_size(tensor) is not None and np.dtype(tensor.dtype).kind == "f"


def _found(target: Target, text: str, tap: Tap, graph: ModelGraph) -> FoundTarget:
    """Return a target after checking that it is a number or a vector of floating-point numbers."""
    tensor = head_type(graph, target.layer, target.head).tensor
    size = target_size(tensor)
    if size is None:
        message = f"a target is one number per image, or a vector and an index, and after {text!r} {tensor.describe()}"
        raise BadTargetError(f"{message}; add blocks such as select and gap", target=text, got=tensor.shape_text)
    if np.dtype(tensor.dtype).kind != "f":
        message = f"a target is a floating-point number, and after {text!r} {tensor.describe()}"
        raise BadTargetError(message, target=text, got=tensor.dtype)
    return FoundTarget(target, size if isinstance(size, int) else None, text, tap)


def find_derivatives(
    graph: ModelGraph, target: FoundTarget, layers: Iterable[str], edits: Sequence[Edit] = ()
) -> Derivatives:
    """Return which layers the target can be differentiated by, and the cost of that.

    Raises:
        BadTargetError: the shapes inside the target's head cannot be inferred.
        UnavailableError: the process that infers them was lost.
    """
    wanted = tuple(dict.fromkeys(layers))
    floats = [layer for layer in wanted if np.dtype(graph.types[layer].dtype).kind == "f"]
    try:
        with unavailable_if_lost():
            made = differentiate(Builder(graph.opset), graph, target.target, floats, edits)
    except GraphError as error:
        message = f"the shapes that the target {target.text} needs cannot be inferred: {error}"
        raise BadTargetError(message, field="target") from error
    judged = (
        made.errors
        if _is_sized(graph)
        else {layer: error for layer, error in made.errors.items() if not _is_detail(error)}
    )
    errors = {layer: explain(error, layer, target, graph) for layer, error in judged.items()}
    for layer in set(wanted).difference(floats):
        message = f"the layer {layer!r} has values of {graph.types[layer].dtype}, which have no gradient"
        errors[layer] = NotDifferentiableError(message, layer=layer)
    outputs = [name for node in made.nodes for name in node.output if name in graph.types]
    return Derivatives(
        target=target,
        errors=errors,
        through=tuple(name for node in made.nodes if (name := next(filter(None, node.output), ""))),
        computed_bytes=KEPT * sum(graph.types[name].bytes_for(1) or 0 for name in outputs),
    )


def _is_sized(graph: ModelGraph) -> bool:
    """Return whether the size of the images is known."""
    return all(isinstance(size, int) for size in graph.types[graph.main_input.name].shape[1:])


def _is_detail(error: GradientError) -> bool:
    """Return whether an error may depend on the size of the images, so that only a request with images decides it."""
    return isinstance(error, NoRuleError) and error.is_detail


def explain(error: GradientError, layer: str, target: FoundTarget, graph: ModelGraph) -> NotDifferentiableError:
    """Return the error for a layer without a gradient, with what to do."""
    if isinstance(error, NoRuleError):
        nearest = error.nearest if error.nearest in graph.types else ""
        message = f"there is no gradient of {target.text} with respect to {layer}: {error}"
        if nearest:
            message += f". The nearest layer that works is grad:{nearest}"
        return NotDifferentiableError(message, layer=layer, operator=error.operator, nearest=nearest)
    message = (
        f"the target {target.text} does not depend on {layer}, or only through operators whose derivative is 0, such "
        "as ArgMax; choose a layer before the target"
    )
    return NotDifferentiableError(message, layer=layer)
