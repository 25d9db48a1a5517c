"""A model's first session: whether it can be run at all, and the types that only running tells.

Such types come after a Loop, a Resize by a factor, an operator of onnxruntime's own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from layertap.types import LayerInfo
from layertap_server import graph
from layertap_server.graph import ModelGraph, ObservedType
from layertap_server.sandbox.trial import Inputs, Runs, Seen, Trial

log = logging.getLogger(__name__)

DEFAULT_SIZES = [(224, 224), (256, 256), (64, 64), (32, 32)]
"""Tried where neither the graph nor the model's folder says how large images are."""
LONGEST_SECONDS = 20.0
"""A model whose runs on noise take longer has its layers of unknown type left unknown."""


class TryModel(Protocol):
    """Opens a session of a model and runs it, where that can do no harm; see `sandbox.jobs.Sandbox`."""

    def __call__(self, model: bytes, weights_folder: Path, trial: Trial) -> Runs:
        """Return the outputs of the first attempt that succeeds.

        Raises:
            GraphError: the model cannot be opened, or ends the process that tries it.
        """


def observed(model: ModelGraph, size: tuple[int, int] | None, try_model: TryModel) -> ModelGraph:
    """Try a model and return it with the types that two runs on noise show of its layers.

    That is their type, or whether their first axis is the batch. What differs between a run on two images and one on
    three, of another size where the model takes any, stays open. A model that does not run on noise stays as it is.

    Raises:
        GraphError: as of `TryModel`.
    """
    names = [layer.name for layer in model.layers if _is_open(layer)]
    outputs = tuple(dict.fromkeys([*names, *(info.name for info in model.outputs)]))
    if not outputs:
        return model
    batches = (model.fixed_batch,) * 2 if model.fixed_batch else (2, 3)
    attempts = tuple(_attempts(model, size, batches if names else batches[:1]))
    trial = Trial(outputs, attempts, LONGEST_SECONDS)
    runs = try_model(graph.whole_with_outputs(model, outputs), model.weights_folder, trial)
    if not names or not runs:
        return model
    pairs = zip(names, *runs, strict=False)  # the model's outputs follow the names
    seen = {name: found for name, first, second in pairs if (found := _type_of(first, second, batches)) is not None}
    return graph.with_observed(model, seen)


def _is_open(layer: LayerInfo) -> bool:
    """Whether its type is not known, or only that its first axis is some size."""
    if not layer.op_type or layer.op_type == graph.INPUT:
        return False
    return not layer.dtype or (bool(layer.shape) and layer.shape[0] < 0 and not layer.tappable)


def _attempts(model: ModelGraph, size: tuple[int, int] | None, batches: Sequence[int]) -> Iterator[tuple[Inputs, ...]]:
    """The runs of each attempt, one a batch."""
    if any(not info.dtype for info in model.inputs):
        return
    for sizes in _sizes_to_try(model, size):
        yield tuple(_inputs(model, batch, at) for batch, at in zip(batches, sizes, strict=False))


def _sizes_to_try(model: ModelGraph, size: tuple[int, int] | None) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Heights and widths of two runs: different ones where the model takes any, then the same."""
    fixed = model.image_size or size
    for height, width in [fixed] if fixed else DEFAULT_SIZES:
        own_height, own_width = model.image_sides
        here = own_height or height, own_width or width
        if not fixed:
            yield here, (own_height or height + 32, own_width or width + 32)
        yield here, here


def _inputs(model: ModelGraph, batch: int, size: tuple[int, int]) -> Inputs:
    inputs = {}
    for info in model.inputs:
        is_image = info.name == model.image_input.name
        shape = model.image_shape(batch, size) if is_image else [max(side, 1) for side in info.shape]
        if not is_image and info.shape and info.shape[0] < 0:
            shape[0] = batch
        inputs[info.name] = (shape, info.dtype)
    return inputs


def _type_of(first: Seen, second: Seen, batches: Sequence[int]) -> ObservedType | None:
    if first is None or second is None or len(first[1]) != len(second[1]):
        return None
    (dtype, here), (_, there) = first, second
    sizes: list[int | None] = [a if a == b else None for a, b in zip(here, there, strict=True)]
    follows = bool(sizes) and here[0] == batches[0] and there[0] == batches[1]
    return ObservedType(dtype, tuple(sizes), is_batch=follows and batches[0] != batches[1])
