"""`Subject`, the images that a method explains, and the runs of the model that it may ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from layertap.errors import BadParameterError, InvalidRequestError, LayertapError, ShapeMismatchError
from layertap.types import (
    Array,
    AttributeRequest,
    Block,
    ExtractRequest,
    ExtractResponse,
    ImagePayload,
    Layout,
    PixelImage,
    Tap,
    Target,
    TargetValue,
)
from layertap_server.graph import ModelGraph
from layertap_server.inference.attribution.image_axes import ImageAxes
from layertap_server.inference.engine import Engine
from layertap_server.inference.feeds import split_inputs
from layertap_server.inference.own_inputs import is_own_input, own_size
from layertap_server.inference.targets import target_indices
from layertap_server.models.loader import LoadedModel
from layertap_server.planning.plan import FoundTarget, PlanInput
from layertap_server.request.context import RequestContext

WHITE = 255.0
"""Largest value of a colour channel."""
COLOURS: Mapping[str, float] = {"black": 0.0, "grey": WHITE / 2, "white": WHITE}
"""Values of the baselines that are colours, before the preprocessing."""

IMAGE = "#0"
"""Selector of the image input, which is the first layer."""
CPU_VALUES = 2**18
"""Maximum number of values of one run of changed images on the CPU. Larger runs are slower per image: onnxruntime gives
the memory of a large run back after it."""


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What one run without gradients has found."""

    images: Array
    """The images as the model's image input, batch first."""
    targets: tuple[TargetValue, ...]
    """Target of each image."""
    arrays: tuple[Array, ...]
    """Results of the further taps."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The images of a request for attribution.

    The first run uses the images as the caller sent them. Changed images are arrays of the model's own image input, so
    that nothing is decoded twice and no change is rounded to pixels.
    """

    engine: Engine
    """The engine, without its cache of responses."""
    model: LoadedModel
    request: AttributeRequest
    context: RequestContext

    @property
    def graph(self) -> ModelGraph:
        """Graph of the model."""
        return self.model.graph

    @property
    def found(self) -> FoundTarget:
        """Target of the request."""
        spec = PlanInput(pictures=self.graph.takes_pictures, size=self.model.preprocessing.output_size)
        return self.model.planner.find_target(self.request.target.tap, spec)

    @property
    def layer(self) -> str:
        """Selector of the layer for methods that need one."""
        return self.request.layer or "stage:-1"

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images after the preprocessing, in pixels; nothing is run to find them.

        Raises:
            BadTensorError: the model takes no images.
        """
        ImageAxes.of(self.graph)
        given = split_inputs(self.request.inputs, self.model).inputs
        height, width = self.engine.reader.read(self.request.images, given, self.model, self.context).spec.size or ()
        return height, width

    def baseline(self, name: str) -> Array:
        """Return the values of a baseline, one number or one for each channel, as the model's image input.

        Raises:
            BadParameterError: the baseline is a colour, and the request has arrays instead of pictures.
        """
        if name not in COLOURS:
            return np.zeros(1)
        if is_own_input(self.request.images):
            message = f"{name} is a colour of pictures, and the request has arrays of the model's own input; use zero"
            raise BadParameterError(message, field="method")
        normalization = self.model.preprocessing.normalization
        return np.asarray((COLOURS[name] - np.array(normalization.mean)) / np.array(normalization.std))

    def extract(self, taps: Sequence[Tap | str], target: Target | None = None) -> ExtractResponse:
        """Extract taps of the request's images, with its target for gradients unless another is given."""
        goal = self.request.target if target is None else target
        return self._extract(self.request.images, self.request.inputs, taps, goal)

    def gradients(self, taps: Sequence[Tap | str], images: Array, rows: Array, target: Target) -> list[Array]:
        """Extract taps of changed images.

        Args:
            taps: the taps.
            images: changed images as the model's image input, batch first.
            rows: number of the request's image that each changed one stems from, for the index of its target.
            target: target of the request's images, with one index for each of them or none.
        """
        parts = [self.extract_changed(taps, rows[part], target, images[part]) for part in self.parts_of(images)]
        return [np.concatenate([part.maps[index].array for part in parts]) for index in range(len(parts[0].maps))]

    def parts_of(self, values: Array) -> Iterator[slice]:
        """Yield the parts of changed values, batch first, that run together."""
        step = min(self.model.max_batch, self.engine.reader.max_images)
        if self.model.info.device == "CPU":
            step = max(1, min(step, CPU_VALUES // max(values[0].size, 1)))
        yield from (slice(start, start + step) for start in range(0, len(values), step))

    def scores(self, images: Array, rows: Array, targets: Sequence[TargetValue]) -> Array:
        """Return the target's value for changed images, float64; the arguments are as for `gradients`."""
        (values,) = self.gradients([self.found.tap], images, rows, Target())
        return self.choose(values, rows, targets)

    def choose(self, values: Array, rows: Array, targets: Sequence[TargetValue]) -> Array:
        """Return the number that the target names from each row of the result of the target's tap."""
        flat = values.reshape(len(values), -1).astype(np.float64)
        indices = [targets[row].index or 0 for row in rows]
        return np.asarray(flat[np.arange(len(flat)), indices])

    def look(self, *taps: Tap) -> Look:
        """Run the network once without gradients, for the images, the target of each, and further taps."""
        named = [replace(tap, name=str(number)) for number, tap in enumerate((Tap(IMAGE), self.found.tap, *taps))]
        images, values, *others = (one.array for one in self.extract(named, Target()).maps)
        return Look(images, self._targets(values.reshape(len(values), -1)), tuple(others))

    def _targets(self, values: Array) -> tuple[TargetValue, ...]:
        """Return the target of each image from the result of the target's tap, one row per image."""
        found = self.found
        indices = target_indices(self.request.target, found, self.model, len(values))
        chosen = values.argmax(1) if indices is None else np.where(indices < 0, values.argmax(1), indices)
        labels = self.model.info.labels if found.size in {None, len(self.model.info.labels)} else ()
        return tuple(
            TargetValue(float(row[index]))
            if found.size == 1
            else TargetValue(float(row[index]), int(index), labels[index] if index < len(labels) else "")
            for row, index in zip(values, chosen, strict=True)
        )

    def check_runs(self, taps: Sequence[Tap | str], images: Array, count: int, what: str) -> None:
        """Raise `TooExpensiveError` if the runs on ``count`` changes of images exceed the limit of one request."""
        spec = PlanInput(pictures=False, size=own_size(images, self.graph))
        resolution = self.model.planner.resolve(taps, spec, self.context.cancellation, self._target_tap(taps))
        self.engine.limits.check_operations(resolution.operations * count, f"{count} runs of {what}")

    def _target_tap(self, taps: Sequence[Tap | str]) -> Tap | str:
        """Return the target for taps of gradients; empty for other taps."""
        names = [tap if isinstance(tap, str) else tap.selector for tap in taps]
        return self.request.target.tap if any(name.strip('"').startswith("grad:") for name in names) else ""

    def extract_changed(
        self,
        taps: Sequence[Tap | str],
        rows: Array,
        target: Target,
        images: Array | None = None,
        fed: Mapping[str, Array] = MappingProxyType({}),
    ) -> ExtractResponse:
        """Extract taps of changed images that fit into one request.

        Args:
            taps: the taps.
            rows: number of the request's image that each changed one stems from.
            target: target of the request's images, with one index for each of them or none.
            images: the changed images as the model's image input, batch first; None if the taps need none.
            fed: changed values of layers, by name.
        """
        inputs = {name: self._rows_of(name, array, rows) for name, array in self.request.inputs.items()} | dict(fed)
        pictures: tuple[ImagePayload, ...] = ()
        if images is not None and self.graph.takes_pictures:
            pictures = (PixelImage(images),)
        elif images is not None:
            inputs[self.graph.main_input.name] = images
        indices = tuple(target.index[row] for row in rows) if target.index else ()
        return self._extract(pictures, inputs, taps, replace(target, index=indices))

    def _rows_of(self, name: str, array: Array, rows: Array) -> Array:
        """Return the values of another input or a layer for changed images: those of the image that each stems from."""
        types, is_input = self.graph.types, any(info.name == name for info in self.graph.inputs)
        is_batch = not is_input or types[name].shape[:1] == types[self.graph.main_input.name].shape[:1]
        return array[rows] if is_batch and array.ndim and len(array) > 1 else array

    def _extract(
        self, images: tuple[ImagePayload, ...], inputs: Mapping[str, Array], taps: Sequence[Tap | str], target: Target
    ) -> ExtractResponse:
        """Extract taps of images."""
        self.context.cancellation.check()
        edits = self.request.edits
        request = ExtractRequest(
            self.request.model, images, tuple(taps), self.model.info.version, inputs, target=target, edits=edits
        )
        return self.engine.extract(self.model, request, self.context)


def same_targets(target: Target, values: Sequence[TargetValue]) -> Target:
    """Return a target with the indices that a first run has taken, so that changed images keep them."""
    indices = [one.index for one in values]
    return replace(target, index=tuple(index for index in indices if index is not None))


@dataclass(frozen=True, slots=True)
class Grid:
    """How the values of a layer become maps of channels with rows and columns."""

    layer: str
    """Name of the layer."""
    blocks: tuple[Block, ...]
    """Blocks after which the values have rows and columns."""
    arrange: Callable[[Array], Array]
    """Function to images × channels × rows × columns, float64."""

    def tap(self, prefix: str = "") -> Tap:
        """Return the tap of the layer, or with ``grad:`` as the prefix of its gradient."""
        return Tap(prefix + self.layer, self.blocks)


_MOVES: Mapping[Layout, tuple[int, ...]] = {Layout.NCHW: (0, 1, 2, 3), Layout.NHWC: (0, 3, 1, 2)}
"""Order of the axes that moves the channels to the second place, by layout."""


def grid_of(subject: Subject, selector: str) -> Grid:
    """Return how the values of the layer that a selector names become maps.

    Raises:
        UnknownLayerError, NotTappableError, AmbiguousLayerError: the selector is invalid.
        InvalidRequestError: it names several layers.
        ShapeMismatchError: the layer has no rows and columns.
    """
    try:
        layers = subject.model.planner.layers(selector)
    except LayertapError as error:
        raise error.about_field("layer") from None
    if len(layers) != 1:
        message = f"expected a selector of one layer, got {selector!r}, which names {len(layers)}"
        raise InvalidRequestError(message, field="layer", layers=len(layers))
    layer = layers[0]
    if layer.layout is Layout.TOKENS:
        return Grid(layer.name, (Block("tokens", {"take": "grid"}),), lambda array: array.astype(np.float64))
    if layer.layout not in _MOVES:
        message = (
            f"the method needs a layer with rows and columns, and {layer.name!r} is {layer.layout}; choose another "
            "layer, such as stage:-1"
        )
        raise ShapeMismatchError(message, field="layer", layer=layer.name, got=str(layer.layout))
    order = _MOVES[layer.layout]
    return Grid(layer.name, (), lambda array: array.transpose(order).astype(np.float64))
