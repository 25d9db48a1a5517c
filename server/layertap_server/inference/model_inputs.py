"""The inputs of one request: their count, kind and size before the images are decoded, and then their arrays."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from layertap.errors import BadTensorError, NoImagesError
from layertap.types import Array, ImagePadding, ImagePayload
from layertap_server.graph import TARGET_INDEX, ModelGraph
from layertap_server.inference.decoding import Decoder
from layertap_server.inference.feeds import GivenArrays, split_inputs
from layertap_server.inference.other_inputs import (
    OtherInputs,
    check_rows,
    collect_other_inputs,
    describe_input,
)
from layertap_server.inference.own_inputs import is_own_input, join_own_inputs, own_size, too_many_images
from layertap_server.models.loader import LoadedModel
from layertap_server.planning.plan import PlanInput
from layertap_server.request.context import RequestContext


@dataclass(frozen=True, slots=True)
class ModelInputs:
    """The images and other inputs of one request to one model."""

    model: LoadedModel
    payloads: Sequence[ImagePayload]
    """The images as the caller sent them."""
    others: Mapping[str, Array]
    """Values of the model's other inputs and of feeds, by input name."""
    spec: PlanInput
    """Kind and size of the images, which the plan depends on."""
    count: int
    """Number of images."""
    _decoder: Decoder
    _batch: Array | None = None
    """Images as the plan's input, batch first; None while pictures are not decoded."""
    padding: tuple[ImagePadding, ...] = ()
    """Padding of each picture, if any was padded; else empty."""
    target_indices: Array | None = None
    """Index of the target of each image, int64, -1 for the largest value; None if the plan has no target."""

    def with_target(self, indices: Array | None) -> ModelInputs:
        """Return the inputs with the indices of a target."""
        return self if indices is None else replace(self, target_indices=indices)

    @property
    def of_plan(self) -> Mapping[str, Array]:
        """Arrays for the inputs that a plan has besides those of the model, with one row per image."""
        return {} if self.target_indices is None else {TARGET_INDEX: self.target_indices}

    def arrays(self, context: RequestContext) -> Array:
        """Return the images as the plan's input, batch first; pictures are decoded now.

        Raises:
            LayertapError: as `Decoder.decode` raises it.
        """
        return self._decoder.decode(self.payloads, self.model, context).batch if self._batch is None else self._batch

    def others_for(self, needed: Collection[str]) -> OtherInputs:
        """Check and return the values of the other inputs that a plan needs; see `collect_other_inputs`."""
        graph = self.model.planner.graphs.at(self.spec) if self.spec.feeds else self.model.graph
        others = collect_other_inputs(self.others, needed, graph, self.count, self.spec.name)
        return replace(others, batched={**others.batched, **self.of_plan})


@dataclass(frozen=True, slots=True)
class InputReader:
    """Reader of the inputs of requests."""

    decoder: Decoder
    max_images: int
    """Maximum images per request."""

    def read(
        self,
        payloads: Sequence[ImagePayload],
        others: Mapping[str, Array],
        model: LoadedModel,
        context: RequestContext,
    ) -> ModelInputs:
        """Check the images of a request and find their count, kind and size.

        Pictures are decoded here only if the model has no fixed image size, since their size is then part of the plan.

        Raises:
            NoImagesError, TooManyImagesError: the request has no images or too many.
            BadTensorError: an array does not fit the model's image input, pictures and float arrays are mixed, or the
                model takes no images.
            BadFeedError: the values of a layer do not fit it, or an array is given for the image input too.
            LayertapError: as `Decoder.decode` raises it, for a model without a fixed image size.
        """
        given = split_inputs(others, model)
        if not payloads:
            return self._read_arrays(given, model)
        inputs = self._read_images(payloads, model, context)
        given.check_rows(inputs.count)
        spec = replace(inputs.spec, feeds=given.feeds)
        return replace(inputs, others={**given.inputs, **given.by_feed}, spec=spec)

    def _read_images(
        self, payloads: Sequence[ImagePayload], model: LoadedModel, context: RequestContext
    ) -> ModelInputs:
        """Check the images of a request, without its other inputs; see `read` for the errors."""
        _check_takes_images(payloads, model)
        if len(payloads) > self.max_images:
            raise too_many_images(len(payloads), self.max_images)
        if is_own_input(payloads):
            batch = join_own_inputs(payloads, model.graph, self.max_images)
            spec = PlanInput(pictures=False, size=own_size(batch, model.graph))
            return ModelInputs(model, payloads, {}, spec, len(batch), self.decoder, batch)
        if (size := model.preprocessing.output_size) is not None:
            spec = PlanInput(pictures=True, size=size)
            return ModelInputs(model, payloads, {}, spec, len(payloads), self.decoder)
        pictures = self.decoder.decode(payloads, model, context)
        batch = pictures.batch
        spec = PlanInput(pictures=True, size=(batch.shape[1], batch.shape[2]))
        is_padded = any(padding.bottom or padding.right for padding in pictures.padding)
        padding = pictures.padding if is_padded else ()
        return ModelInputs(model, payloads, {}, spec, len(batch), self.decoder, batch, padding)

    def _read_arrays(self, given: GivenArrays, model: LoadedModel) -> ModelInputs:
        """Check the inputs and feeds of a request without images; the batch is that of the array with the most rows.

        Raises:
            NoImagesError: the request has no input with a batch.
            BadTensorError: the batch does not have the shape or dtype of its input.
            TooManyImagesError: the batch has more rows than a request may have images.
        """
        graph = model.graph
        infos = {info.name: info for info in graph.inputs}
        batches = {name: given.inputs[name] for name in _by_batch(graph) if name in given.inputs} | given.by_feed
        if not batches:
            what = "; ".join(f"{info.name}: {describe_input(info)}" for info in graph.inputs)
            message = f"the request has no images, and no input with a batch; the model's inputs are {what}"
            raise NoImagesError(message, field="images")
        name = max(batches, key=lambda name: len(batches[name]) if batches[name].ndim else 0)
        batch = check_rows(batches[name], infos[name]) if name in infos else batches[name]
        if len(batch) > self.max_images:
            raise too_many_images(len(batch), self.max_images)
        given.check_rows(len(batch))
        others = {other: array for other, array in {**given.inputs, **given.by_feed}.items() if other != name}
        is_main = name == graph.main_input.name
        size = own_size(batch, graph) if is_main else batch.shape[1:]
        spec = PlanInput(pictures=False, size=size, name="" if is_main else name, feeds=given.feeds)
        return ModelInputs(model, (), others, spec, len(batch), self.decoder, batch)


def _by_batch(graph: ModelGraph) -> list[str]:
    """Return the names of the inputs with a batch, the main input first."""
    batch = graph.types[graph.main_input.name].shape[0]
    names = [info.name for info in graph.inputs if info.shape and graph.types[info.name].shape[0] == batch]
    return sorted(names, key=lambda name: name != graph.main_input.name)


def _check_takes_images(payloads: Sequence[ImagePayload], model: LoadedModel) -> None:
    """Raise `BadTensorError` if pictures are sent to a model that takes none."""
    if not model.graph.takes_pictures and not is_own_input(payloads):
        what = "; ".join(f"{info.name}: {describe_input(info)}" for info in model.graph.inputs)
        raise BadTensorError(f"the model takes no images; send arrays in inputs: {what}", field="images")
