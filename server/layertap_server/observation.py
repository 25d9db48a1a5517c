"""Types that nothing but running tells: behind a Loop, or an operator that only onnxruntime knows."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from layertap.types import Array
from layertap_server import graph
from layertap_server.graph import ModelGraph, ObservedType
from layertap_server.runtime import Runtime, SessionError

log = logging.getLogger(__name__)

LONGEST_SECONDS = 20.0
"""A model that runs longer on two images of noise has its layers of unknown type left unknown."""


def observed(model: ModelGraph, size: tuple[int, int] | None, runtime: Runtime) -> ModelGraph:
    """The model, with the types of layers that shape inference gave none seen in two runs on noise.

    What differs between a run on two images and one on three, of another size where the model takes any, stays open.
    """
    names = [layer.name for layer in model.layers if layer.op_type and not layer.dtype]
    height, width = model.image_size or size or (0, 0)
    if not names or not height:
        return model
    other = (height, width) if model.image_size else (height + 32, width + 32)
    batches = (model.fixed_batch,) * 2 if model.fixed_batch else (2, 3)
    session_model = graph.whole_with_outputs(model, names)
    try:
        session = runtime.open(session_model, model.weights_folder)
        runs = [
            session.run(_noise(model, batch, at), names, limit_seconds=LONGEST_SECONDS)
            for batch, at in zip(batches, ((height, width), other), strict=True)
        ]
    except SessionError as error:
        log.warning("some layers keep an unknown type: %s", str(error).splitlines()[0])
        return model
    pairs = zip(names, *runs, strict=True)
    seen = {name: found for name, first, second in pairs if (found := _type_of(first, second, batches)) is not None}
    return graph.with_observed(model, seen)


def _noise(model: ModelGraph, batch: int, size: tuple[int, int]) -> Mapping[str, Array]:
    random = np.random.default_rng(0)
    inputs = {}
    for info in model.inputs:
        is_image = info.name == model.image_input.name
        shape = graph.image_shape(model, batch, size) if is_image else [max(side, 1) for side in info.shape]
        if not is_image and info.shape and info.shape[0] < 0:
            shape[0] = batch
        inputs[info.name] = random.random(shape).astype(info.dtype)
    return inputs


def _type_of(first: object, second: object, batches: Sequence[int]) -> ObservedType | None:
    if not isinstance(first, np.ndarray) or not isinstance(second, np.ndarray) or first.ndim != second.ndim:
        return None
    sizes: list[int | None] = [a if a == b else None for a, b in zip(first.shape, second.shape, strict=True)]
    is_batch = bool(sizes) and first.shape[0] == batches[0] and second.shape[0] == batches[1]
    return ObservedType(first.dtype.name, tuple(sizes), is_batch)
