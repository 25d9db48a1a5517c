"""Shape probe: open a model's first session, and learn from runs the types that shape inference leaves open.

Such types occur after a Loop, a Resize by a computed factor, or one of onnxruntime's own operators.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from layertap_server import graph
from layertap_server.graph import ModelGraph, ObservedType
from layertap_server.sandbox.trial import Inputs, Runs, Seen, Trial

log = logging.getLogger(__name__)

DEFAULT_SIZES = [(224, 224), (256, 256), (64, 64), (32, 32)]
"""Heights and widths to try if neither the graph nor ``model.yaml`` states the image size."""
MULTIPLES = (1, 2, 4, 8, 16, 32, 64, 128)
"""Multiples to try, in pixels."""
SMALL = (72, 104)
"""Approximate height and width in pixels of the images to try multiples with."""
LENGTHS = ((64, 96), (64, 64), (16, 24), (16, 16), (8, 8), (256, 256), (1, 1))
"""Pairs of sizes to try for the free axes of a model that takes no images, such as those of time."""
LONGEST_SECONDS = 20.0
"""Maximum seconds of all runs on noise; for a slower model, unknown types remain unknown."""


class TryModel(Protocol):
    """Function that opens a session of a model and runs it in isolation; see ``sandbox.jobs.Sandbox``."""

    def __call__(self, model: bytes, weights_folder: Path, trial: Trial) -> Runs:
        """Return the dtypes and shapes of the outputs in the first attempt that succeeds.

        Raises:
            GraphError: the model cannot be opened, or crashes the process that runs it.
        """


def probe_shapes(model: ModelGraph, size: tuple[int, int] | None, try_model: TryModel) -> ModelGraph:
    """Open a model, run it on noise, and return it with the types of its layers that two runs show.

    The runs have different numbers of images and, if the model takes any size, different image sizes. They show dtypes
    and whether the first axis is the batch. Sizes that differ between the runs remain unknown. A model that cannot be
    run on noise is returned unchanged.

    Args:
        model: the model.
        size: height and width of images after preprocessing; None if they vary.
        try_model: opens and runs the model.

    Raises:
        GraphError: the model cannot be opened, or crashes the process that runs it.
    """
    names = _open_layers(model)
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


def find_multiple(model: ModelGraph, try_model: TryModel) -> int:
    """Return the smallest power of two such that the model accepts images whose height and width are multiples of it.

    The model is run on noise at sizes that are odd multiples of 1, 2, 4 …, until it succeeds. It is 1 for a model that
    accepts any size, and for one that accepts none of the sizes that are tried.

    Args:
        model: A model that does not fix both height and width.
        try_model: Opens and runs the model.

    Raises:
        GraphError: The model cannot be opened, or crashes the process that runs it.
    """
    if any(not info.dtype for info in model.inputs):
        return 1
    outputs = tuple(info.name for info in model.outputs)
    proto = graph.whole_with_outputs(model, outputs)
    fixed_height, fixed_width = model.image_sides
    for multiple in MULTIPLES:
        height, width = (_odd_multiple(multiple, pixels) for pixels in SMALL)
        inputs = _inputs(model, model.fixed_batch or 1, (fixed_height or height, fixed_width or width))
        if try_model(proto, model.weights_folder, Trial(outputs, ((inputs,),), LONGEST_SECONDS)):
            return multiple
    return 1


def _odd_multiple(multiple: int, pixels: int) -> int:
    """Return the smallest odd multiple of a number that is at least ``pixels``."""
    count = -(-pixels // multiple)
    return (count + 1 - count % 2) * multiple


def _open_layers(model: ModelGraph) -> list[str]:
    """Return the layers whose dtype is unknown, or whether their first axis is the batch.

    If the sizes of all inputs are fixed, these are also the layers with another unknown size, unless values decide it.
    """
    is_fixed = all(side > 0 for info in model.inputs for side in info.shape[1:])
    by_values = graph.sized_by_values(model.proto.graph, model.main_input.name) if is_fixed else frozenset()
    computed = [layer for layer in model.layers if layer.op_type and layer.op_type != graph.INPUT]
    return [
        layer.name
        for layer in computed
        if not layer.dtype
        or (bool(layer.shape) and layer.shape[0] < 0 and not layer.tappable)
        or (is_fixed and layer.name not in by_values and any(side < 0 for side in layer.shape[1:]))
    ]


def _attempts(model: ModelGraph, size: tuple[int, int] | None, batches: Sequence[int]) -> Iterator[tuple[Inputs, ...]]:
    """Yield the inputs of each attempt, one run per batch size."""
    if any(not info.dtype for info in model.inputs):
        return
    if not model.takes_pictures:
        for lengths in LENGTHS:
            yield tuple(_arrays(model, batch, length) for batch, length in zip(batches, lengths, strict=False))
        return
    for sizes in _sizes_to_try(model, size):
        yield tuple(_inputs(model, batch, at) for batch, at in zip(batches, sizes, strict=False))


def _sizes_to_try(model: ModelGraph, size: tuple[int, int] | None) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield height and width of two runs: first different ones if the model takes any size, then equal ones."""
    fixed = model.image_size or size
    for height, width in [fixed] if fixed else DEFAULT_SIZES:
        own_height, own_width = model.image_sides
        here = own_height or height, own_width or width
        if not fixed:
            yield here, (own_height or height + 32, own_width or width + 32)
        yield here, here


def _inputs(model: ModelGraph, batch: int, size: tuple[int, int]) -> Inputs:
    """Return the shape and dtype of each input of a run."""
    inputs = {}
    for info in model.inputs:
        is_image = info.name == model.main_input.name
        shape = model.image_shape(batch, size) if is_image else [max(side, 1) for side in info.shape]
        if not is_image and info.shape and info.shape[0] < 0:
            shape[0] = batch
        inputs[info.name] = (shape, info.dtype)
    return inputs


def _arrays(model: ModelGraph, batch: int, length: int) -> Inputs:
    """Return the shape and dtype of each input of a run of a model without images.

    Args:
        model: The model.
        batch: Size of the first axis of inputs with a free first axis.
        length: Size of all other free axes, such as those of time.
    """
    inputs = {}
    for info in model.inputs:
        shape = [side if side > 0 else length for side in info.shape]
        if info.shape and info.shape[0] < 0:
            shape[0] = batch
        inputs[info.name] = (shape, info.dtype)
    return inputs


def _type_of(first: Seen, second: Seen, batches: Sequence[int]) -> ObservedType | None:
    """Combine the types of an output in two runs; None if it is not a tensor or its rank differs."""
    if first is None or second is None or len(first[1]) != len(second[1]):
        return None
    (dtype, here), (_, there) = first, second
    sizes: list[int | None] = [a if a == b else None for a, b in zip(here, there, strict=True)]
    follows = bool(sizes) and here[0] == batches[0] and there[0] == batches[1]
    return ObservedType(dtype, tuple(sizes), is_batch=follows and batches[0] != batches[1])
