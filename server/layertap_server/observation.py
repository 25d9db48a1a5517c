"""Types that only running tells: behind a Loop, a Resize by a factor, an operator of onnxruntime's own."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from layertap.types import Array, LayerInfo
from layertap_server import graph
from layertap_server.graph import ModelGraph, ObservedType
from layertap_server.runtime import Runtime, SessionError

log = logging.getLogger(__name__)

DEFAULT_SIZES = [(224, 224), (256, 256), (64, 64), (32, 32)]
"""Tried where neither the graph nor the model's folder says how large images are."""
LONGEST_SECONDS = 20.0
"""A model that runs longer on two images of noise has its layers of unknown type left unknown."""


def observed(model: ModelGraph, size: tuple[int, int] | None, runtime: Runtime) -> ModelGraph:
    """The model, with what shape inference did not tell of its layers seen in two runs on noise.

    That is their type, or whether their first axis is the batch. What differs between a run on two images and one on
    three, of another size where the model takes any, stays open. A model that does not run on noise stays as it is.
    """
    names = [layer.name for layer in model.layers if _is_open(layer)]
    if not names or any(not info.dtype for info in model.inputs):
        return model
    try:
        session = runtime.open(graph.whole_with_outputs(model, names), model.weights_folder)
    except SessionError:
        return model  # the try-out, which comes next, says why
    batches = (model.fixed_batch,) * 2 if model.fixed_batch else (2, 3)
    for sizes in _sizes_to_try(model, size):
        try:
            runs = [
                session.run(_noise(model, batch, at, seed), names, limit_seconds=LONGEST_SECONDS)
                for seed, (batch, at) in enumerate(zip(batches, sizes, strict=True))
            ]
        except SessionError as error:
            log.debug("no types were seen at %s: %s", sizes, str(error).splitlines()[0])
            continue
        pairs = zip(names, *runs, strict=True)
        seen = {name: found for name, first, second in pairs if (found := _type_of(first, second, batches)) is not None}
        return graph.with_observed(model, seen)
    return model


def _is_open(layer: LayerInfo) -> bool:
    """Whether its type is not known, or only that its first axis is some size."""
    if not layer.op_type or layer.op_type == graph.INPUT:
        return False
    return not layer.dtype or (bool(layer.shape) and layer.shape[0] < 0 and not layer.tappable)


def _sizes_to_try(model: ModelGraph, size: tuple[int, int] | None) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Heights and widths of two runs: different ones where the model takes any, then the same."""
    fixed = model.image_size or size
    for height, width in [fixed] if fixed else DEFAULT_SIZES:
        own_height, own_width = model.image_sides
        here = own_height or height, own_width or width
        if not fixed:
            yield here, (own_height or height + 32, own_width or width + 32)
        yield here, here


def _noise(model: ModelGraph, batch: int, size: tuple[int, int], seed: int) -> Mapping[str, Array]:
    random = np.random.default_rng(seed)
    inputs = {}
    for info in model.inputs:
        is_image = info.name == model.image_input.name
        shape = model.image_shape(batch, size) if is_image else [max(side, 1) for side in info.shape]
        if not is_image and info.shape and info.shape[0] < 0:
            shape[0] = batch
        inputs[info.name] = random.random(shape).astype(info.dtype)
    return inputs


def _type_of(first: object, second: object, batches: Sequence[int]) -> ObservedType | None:
    if not isinstance(first, np.ndarray) or not isinstance(second, np.ndarray) or first.ndim != second.ndim:
        return None
    sizes: list[int | None] = [a if a == b else None for a, b in zip(first.shape, second.shape, strict=True)]
    follows = bool(sizes) and first.shape[0] == batches[0] and second.shape[0] == batches[1]
    return ObservedType(first.dtype.name, tuple(sizes), is_batch=follows and batches[0] != batches[1])
