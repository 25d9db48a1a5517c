"""The inputs of one request: their count, kind and size before the images are decoded, and then their arrays."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from layertap.errors import NoImagesError
from layertap.types import Array, ImagePadding, ImagePayload
from layertap_server.inference.decoding import Decoder
from layertap_server.inference.other_inputs import OtherInputs, collect_other_inputs
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
    """Values of the model's other inputs, by input name."""
    spec: PlanInput
    """Kind and size of the images, which the plan depends on."""
    count: int
    """Number of images."""
    _decoder: Decoder
    _batch: Array | None = None
    """Images as the plan's input, batch first; None while pictures are not decoded."""
    padding: tuple[ImagePadding, ...] = ()
    """Padding of each picture, if any was padded; else empty."""

    def arrays(self, context: RequestContext) -> Array:
        """Return the images as the plan's input, batch first; pictures are decoded now.

        Raises:
            LayertapError: as `Decoder.decode` raises it.
        """
        return self._decoder.decode(self.payloads, self.model, context).batch if self._batch is None else self._batch

    def others_for(self, needed: Collection[str]) -> OtherInputs:
        """Check and return the values of the other inputs that a plan needs; see `collect_other_inputs`."""
        return collect_other_inputs(self.others, needed, self.model.graph, self.count)


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
            BadTensorError: an array does not fit the model's image input, or pictures and float arrays are mixed.
            LayertapError: as `Decoder.decode` raises it, for a model without a fixed image size.
        """
        if not payloads:
            raise NoImagesError("the request has no images", field="images")
        if len(payloads) > self.max_images:
            raise too_many_images(len(payloads), self.max_images)
        if is_own_input(payloads):
            batch = join_own_inputs(payloads, model.graph, self.max_images)
            spec = PlanInput(pictures=False, size=own_size(batch, model.graph))
            return ModelInputs(model, payloads, others, spec, len(batch), self.decoder, batch)
        if (size := model.preprocessing.output_size) is not None:
            spec = PlanInput(pictures=True, size=size)
            return ModelInputs(model, payloads, others, spec, len(payloads), self.decoder)
        pictures = self.decoder.decode(payloads, model, context)
        batch = pictures.batch
        spec = PlanInput(pictures=True, size=(batch.shape[1], batch.shape[2]))
        is_padded = any(padding.bottom or padding.right for padding in pictures.padding)
        padding = pictures.padding if is_padded else ()
        return ModelInputs(model, payloads, others, spec, len(batch), self.decoder, batch, padding)
