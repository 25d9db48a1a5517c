"""Trial at loading: find out whether the result of an image depends on the other images of its run.

The graph decides this for most layers (``graph.batch_axis``). The trial decides it for the other layers and checks the
model's outputs: it runs two images of noise together and apart, and compares the results with a tolerance, since sums
in another order differ in their last bits.
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
"""Heights and widths to try for a model that takes any image size and whose ``model.yaml`` names none."""
MOST_SECONDS = 20.0
"""Maximum seconds of one run; a slower model counts as not tried."""
MOST_BYTES = 256 * 2**20
"""Maximum bytes per image of the layers that are compared."""
TOLERANCE = {"float16": 2e-2}
"""Tolerance by dtype, in the unit of `DEFAULT_TOLERANCE`."""
DEFAULT_TOLERANCE = 1e-3
"""Maximum difference as a fraction of the largest absolute value; a scale taken from another image changes more."""
SHARE_OF_INTEGERS = 0.01
"""Fraction of integer values that may differ by more than one step, since rounding changes a few values."""

SEEN = APART
"""Verdict on a layer whose results are the same together and apart."""
DIFFERS = Verdict(Mixing.REQUEST, "the results of images changed when they ran together in a trial at loading")
"""Verdict on a layer whose results differ."""
FAILS = Verdict(Mixing.RUN, "one image ran and two together failed in a trial at loading")
"""Verdict on the layers of a model that cannot run two images together."""
NOT_TRIED = "neither the graph nor a trial at loading shows whether the results of an image depend on other images"
"""Reason to treat an undecided layer as one that mixes images."""


@dataclass(frozen=True, slots=True)
class _Trial:
    """An opened model whose outputs are the layers to compare."""

    session: Session
    graph: ModelGraph
    input_name: str
    size: tuple[int, int]
    """Height and width of the images."""

    def together(self, names: Sequence[str]) -> list[Array]:
        """Run both images together; a fixed batch is padded with the second image."""
        return self._run(names, [0, *[1] * (self._batch - 1)])

    def apart(self, names: Sequence[str]) -> Iterator[list[Array]]:
        """Yield the run of each image alone; with a fixed batch, one run of the first image with different others."""
        if self.graph.fixed_batch:
            yield self._run(names, [0, *[2] * (self._batch - 1)])
        else:
            yield self._run(names, [0])
            yield self._run(names, [1])

    @property
    def _batch(self) -> int:
        """Number of images in a run of both images."""
        return self.graph.fixed_batch or 2

    def _run(self, names: Sequence[str], images: Sequence[int]) -> list[Array]:
        """Run the model on the noise images with these numbers and return the named outputs."""
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
    """Return noise for an image number; the range grows with the number, so that a scale taken across images shows."""
    values = np.random.default_rng(image).random(shape) * (1 + 3 * image)
    return values.astype(dtype)


def learn_batching(model: LoadedModel, runtime: Runtime) -> None:
    """Try the layers that the graph does not decide, and the outputs, and pass the verdicts to the planner."""
    for size in _sizes(model):
        input_ = PlanInput(pictures=False, size=size)
        try:
            graph = model.planner.graph_for(input_)
            undecided = model.planner.undecided(input_)
        except LayertapError:
            continue
        outputs = [info.name for info in graph.outputs if _is_tappable(graph, info.name)]
        tried = _try_layers(graph, runtime, size, undecided, outputs)
        if tried is not None:
            model.planner.learn(tried, input_)
            _report(model, undecided, tried)
            return
    log.info("model %s: %s; requests for the undecided layers run alone", model.info.name, NOT_TRIED)


def _sizes(model: LoadedModel) -> Iterable[tuple[int, int]]:
    """Return the heights and widths of images to try."""
    size = model.graph.image_size or model.preprocessing.output_size
    if size is not None:
        return [size]
    height, width = model.graph.image_sides
    return [(height or other[0], width or other[1]) for other in SIZES_TO_TRY]


def _is_tappable(graph: ModelGraph, name: str) -> bool:
    """Return whether the graph has a tappable layer of this name."""
    return any(layer.name == name and layer.tappable for layer in graph.layers)


def _try_layers(
    graph: ModelGraph, runtime: Runtime, size: tuple[int, int], undecided: Sequence[str], outputs: Sequence[str]
) -> Mapping[str, Verdict] | None:
    """Return a verdict for each layer that was compared; None if no run succeeded."""
    compared = [*_affordable(graph, undecided), *(name for name in outputs if name not in undecided)]
    if not compared or graph.fixed_batch == 1:
        return {}
    seen = _compare(graph, runtime, size, compared)
    wrong = [name for name in outputs if seen is not None and seen.get(name) == DIFFERS and name not in undecided]
    if seen is None or not wrong:
        return seen
    # The graph's verdict on an output is wrong, so that its verdicts on other layers are not trusted either.
    every = [layer.name for layer in graph.layers if layer.tappable and layer.op_type != "Input"]
    found = _compare(graph, runtime, size, _affordable(graph, every)) or {}
    return {**dict.fromkeys(every, DIFFERS), **found, **seen}


def _affordable(graph: ModelGraph, names: Sequence[str]) -> list[str]:
    """Return the layers from the last to the first, without those whose values exceed the rest of `MOST_BYTES`."""
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
    """Run the images together and apart and return a verdict for each layer; None if the single runs fail."""
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
    """Return whether the results of each image are the same in the joint run and in its own run."""
    if together.ndim == 0 or len(together) < len(apart):
        return False
    return all(_is_close(together[index], alone[0]) for index, alone in enumerate(apart) if alone.ndim and len(alone))


def _is_close(a: Array, b: Array) -> bool:
    """Return whether two results are equal within the tolerance; their non-finite values must coincide."""
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
    """Log the layers that remain undecided and the number of layers that mix images."""
    left = [name for name in undecided if name not in tried]
    mixed = [name for name, verdict in tried.items() if verdict.mixing is Mixing.REQUEST]
    if left:
        log.warning("model %s: %s, for %s; their requests run alone", model.info.name, NOT_TRIED, ", ".join(left[:5]))
    if mixed:
        log.info("model %s: images mix in %d layers, such as %s", model.info.name, len(mixed), mixed[0])
