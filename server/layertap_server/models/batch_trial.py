"""A trial run when a model is loaded: does an image's result depend on the image beside it?

The graph tells for most layers (`graph.batch_axis`). The trial decides the others, and checks the model's outputs: two
images of noise run together and apart. Sums in another order differ in their last bits, which is not mixing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from layertap.errors import LayertapError
from layertap.types import Array
from layertap_server.graph import APART, Mixing, ModelGraph, Verdict, compile_plan
from layertap_server.models.loader import LoadedModel
from layertap_server.planning.planner import PlanInput
from layertap_server.runtime import Runtime, Session, SessionError

log = logging.getLogger(__name__)

SIZES_TO_TRY = ((224, 224), (64, 64), (32, 32))
"""Heights and widths for a model that takes images of any size and whose model.yaml names none."""
MOST_SECONDS = 20.0
"""Longest that one run may take; a slower model counts as not tried."""
MOST_BYTES = 256 * 2**20
"""Bytes of the layers that are compared for one image."""
TOLERANCE = {"float16": 2e-2}
DEFAULT_TOLERANCE = 1e-3
"""Largest difference of values in parts of the image's largest one; a scale of another image changes more."""
SHARE_OF_INTEGERS = 0.01
"""Part of integer values that may differ by more than one step: rounding flips a few."""

SEEN = APART
DIFFERS = Verdict(Mixing.REQUEST, "images differed when they ran together in a trial at loading")
FAILS = Verdict(Mixing.RUN, "two images did not run together in a trial at loading, and one did")
NOT_TRIED = "neither the graph nor a trial at loading tells whether the images of a run are kept apart"


@dataclass(frozen=True, slots=True)
class _Trial:
    """A model, opened with the layers that are compared as its outputs."""

    session: Session
    graph: ModelGraph
    input_name: str
    size: tuple[int, int]

    def together(self, names: Sequence[str]) -> list[Array]:
        return self._run(names, [0, *[1] * (self._batch - 1)])

    def apart(self, names: Sequence[str]) -> Iterator[list[Array]]:
        """Yield the runs of each image alone, or of the first beside others where the batch has a fixed size."""
        if self.graph.fixed_batch:
            yield self._run(names, [0, *[2] * (self._batch - 1)])
        else:
            yield self._run(names, [0])
            yield self._run(names, [1])

    @property
    def _batch(self) -> int:
        return self.graph.fixed_batch or 2

    def _run(self, names: Sequence[str], images: Sequence[int]) -> list[Array]:
        inputs = {}
        for info in self.graph.inputs:
            is_image = info.name == self.graph.image_input.name
            shape = self.graph.image_shape(1, self.size) if is_image else [max(side, 1) for side in info.shape]
            is_batch = is_image or bool(info.shape and info.shape[0] == self.graph.image_input.shape[0])
            rows = (
                [_noise(shape, info.dtype, image) for image in images] if is_batch else [_noise(shape, info.dtype, 0)]
            )
            inputs[info.name] = np.concatenate([row[:1] for row in rows]) if is_batch else rows[0]
        return self.session.run(inputs, names, limit_seconds=MOST_SECONDS)


def _noise(shape: Sequence[int], dtype: str, image: int) -> Array:
    """Return one image of noise; later ones have a larger range, so that a scale taken from both shows."""
    values = np.random.default_rng(image).random(shape) * (1 + 3 * image)
    return values.astype(dtype)


def learn_batching(model: LoadedModel, runtime: Runtime) -> None:
    """Try the layers of which the graph does not tell, and the outputs, and give the planner what was seen."""
    for size in _sizes(model):
        input_ = PlanInput(pictures=False, size=size)
        try:
            graph = model.planner.graph_for(input_)
            undecided = model.planner.undecided(input_)
        except LayertapError:
            continue
        outputs = [info.name for info in graph.outputs if _is_tappable(graph, info.name)]
        tried = _tried(graph, runtime, size, undecided, outputs)
        if tried is not None:
            model.planner.learn(tried, input_)
            _report(model, undecided, tried)
            return
    log.info("model %s: %s; where the graph does not tell, each request runs alone", model.info.name, NOT_TRIED)


def _sizes(model: LoadedModel) -> Iterable[tuple[int, int]]:
    size = model.graph.image_size or model.preprocessing.output_size
    if size is not None:
        return [size]
    height, width = model.graph.image_sides
    return [(height or other[0], width or other[1]) for other in SIZES_TO_TRY]


def _is_tappable(graph: ModelGraph, name: str) -> bool:
    return any(layer.name == name and layer.tappable for layer in graph.layers)


def _tried(
    graph: ModelGraph, runtime: Runtime, size: tuple[int, int], undecided: Sequence[str], outputs: Sequence[str]
) -> Mapping[str, Verdict] | None:
    """Return a verdict for each layer that was compared; None where nothing could be run."""
    compared = [*_affordable(graph, undecided), *(name for name in outputs if name not in undecided)]
    if not compared or graph.fixed_batch == 1:
        return {}
    seen = _compare(graph, runtime, size, compared)
    wrong = [name for name in outputs if seen is not None and seen.get(name) == DIFFERS and name not in undecided]
    if seen is None or not wrong:
        return seen
    # The graph said that images are kept apart, and they are not: every layer is tried.
    every = [layer.name for layer in graph.layers if layer.tappable and layer.op_type != "Input"]
    found = _compare(graph, runtime, size, _affordable(graph, every)) or {}
    return {**dict.fromkeys(every, DIFFERS), **found, **seen}


def _affordable(graph: ModelGraph, names: Sequence[str]) -> list[str]:
    """Return the layers, the last first, as far as their values fit into memory."""
    bytes_of = {layer.name: layer.bytes_per_image or 0 for layer in graph.layers}
    left, kept = MOST_BYTES, []
    for name in reversed(names):
        left -= bytes_of.get(name, 0)
        if left >= 0:
            kept.append(name)
    return kept


def _compare(
    graph: ModelGraph, runtime: Runtime, size: tuple[int, int], names: Sequence[str]
) -> dict[str, Verdict] | None:
    compiled = compile_plan(graph, [(name, ()) for name in names], front=None, image_size=None)
    try:
        trial = _Trial(runtime.open(compiled.model, graph.weights_folder), graph, compiled.input_name, size)
        fetched = list(compiled.output_names)
        apart = list(trial.apart(fetched))
    except (SessionError, LayertapError, MemoryError, ValueError, TypeError):
        return None
    try:
        together = trial.together(fetched)
    except (SessionError, LayertapError, MemoryError):
        return dict.fromkeys(names, FAILS)
    return {
        name: SEEN if _agree(both, alone) else DIFFERS
        for name, both, *alone in zip(names, together, *apart, strict=True)
    }


def _agree(together: Array, apart: Sequence[Array]) -> bool:
    """Return whether each image alone gives what it gives in company."""
    if together.ndim == 0 or len(together) < len(apart):
        return False
    return all(_is_close(together[index], alone[0]) for index, alone in enumerate(apart) if alone.ndim and len(alone))


def _is_close(a: Array, b: Array) -> bool:
    if a.shape != b.shape:
        return False
    if a.dtype.kind != "f":
        differs = np.abs(a.astype(np.float64) - b.astype(np.float64)) > (a.dtype.kind != "b")
        return int(differs.sum()) <= SHARE_OF_INTEGERS * a.size
    finite = np.isfinite(b)
    if not np.array_equal(np.isfinite(a), finite):
        return False
    tolerance = TOLERANCE.get(a.dtype.name, DEFAULT_TOLERANCE)
    a, b = (np.where(finite, array, 0).astype(np.float64) for array in (a, b))
    return bool(np.abs(a - b).max(initial=0) <= tolerance * np.abs(b).max(initial=0))


def _report(model: LoadedModel, undecided: Sequence[str], tried: Mapping[str, Verdict]) -> None:
    left = [name for name in undecided if name not in tried]
    mixed = [name for name, verdict in tried.items() if verdict.mixing is Mixing.REQUEST]
    if left:
        log.warning("model %s: %s, for %s; their requests run alone", model.info.name, NOT_TRIED, ", ".join(left[:5]))
    if mixed:
        log.info("model %s: images mix in %d layers, such as %s", model.info.name, len(mixed), mixed[0])
