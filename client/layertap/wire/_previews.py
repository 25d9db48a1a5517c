"""Encode and decode previews and statistics of layers."""

from __future__ import annotations

import dataclasses
import numbers
import reprlib

from layertap.errors import InvalidRequestError
from layertap.types import (
    InspectRequest,
    InspectResponse,
    LayerStatistics,
    Preview,
    PreviewedFeature,
    PreviewRequest,
    Target,
)
from layertap.v1 import feature_service_pb2 as pb
from layertap.wire._blocks import encode_tap
from layertap.wire._details import decode_skipped, encode_skipped
from layertap.wire._features import decode_image, decode_tap_at, encode_image
from layertap.wire._targets import decode_edits, decode_target, encode_target
from layertap.wire._tensors import decode_dtype, decode_tensor, encode_dtype, encode_tensor

MOST_OPERATIONS = 2**63 - 1
"""Maximum cost that the message's field can hold; a higher cost is sent as this value."""

MOST_IMAGES = 2**31 - 1
"""Maximum number of images of a preview that the message's field can hold."""

LONGEST_SHOWN = 128
"""Maximum number of bits of an integer that is written out in an error message."""


def encode_preview_request(request: PreviewRequest) -> pb.PreviewExtractRequest:
    """Encode a request for a preview.

    Raises:
        InvalidRequestError: the number of images is not an integer from 1 to `MOST_IMAGES`.
    """
    count = request.image_count
    if not isinstance(count, numbers.Integral) or isinstance(count, bool) or not 1 <= count <= MOST_IMAGES:
        message = f"expected image_count as an integer from 1 to {MOST_IMAGES}, got {_describe(count)}"
        raise InvalidRequestError(message, field="image_count")
    return pb.PreviewExtractRequest(
        model=request.model,
        version=request.version,
        taps=[encode_tap(tap) for tap in request.taps],
        image_count=int(count),
        target=encode_target(Target(request.target)),
        edits=[encode_tap(tap) for tap in request.edits],
        feeds=request.feeds,
    )


def _describe(count: object) -> str:
    """Return a value as text; describe an integer with too many digits by its number of bits."""
    if isinstance(count, int) and count.bit_length() > LONGEST_SHOWN:
        return f"one of {count.bit_length()} bits"
    return reprlib.repr(count)


def decode_preview_request(message: pb.PreviewExtractRequest) -> PreviewRequest:
    """Decode a request for a preview.

    Raises:
        TapSyntaxError, BadParameterError: a tap is invalid.
    """
    taps = tuple(decode_tap_at(tap, index) for index, tap in enumerate(message.taps))
    return PreviewRequest(
        model=message.model,
        taps=taps,
        image_count=message.image_count or 1,
        version=message.version,
        target=decode_target(message.target).tap,
        edits=decode_edits(message.edits),
        feeds=tuple(message.feeds),
    )


def encode_preview(preview: Preview) -> pb.PreviewExtractResponse:
    """Encode a preview."""
    return pb.PreviewExtractResponse(
        model=preview.model,
        version=preview.version,
        features=[
            pb.PreviewedFeature(
                name=item.name, layer=item.layer, dtype=encode_dtype(item.dtype), shape=item.shape, bytes=item.bytes
            )
            for item in preview.features
        ],
        total_bytes=preview.total_bytes,
        macs_per_image=preview.macs_per_image,
        warm=preview.warm,
        operations=min(preview.operations, MOST_OPERATIONS),
        looks_across_images=preview.looks_across_images,
        skipped=encode_skipped(preview.skipped),
    )


def decode_preview(message: pb.PreviewExtractResponse) -> Preview:
    """Decode a preview."""
    features = tuple(
        PreviewedFeature(item.name, item.layer, decode_dtype(item.dtype), tuple(item.shape), item.bytes)
        for item in message.features
    )
    return Preview(
        features=features,
        total_bytes=message.total_bytes,
        macs_per_image=message.macs_per_image,
        warm=message.warm,
        model=message.model,
        version=message.version,
        skipped=decode_skipped(message.skipped),
        operations=message.operations,
        looks_across_images=message.looks_across_images,
    )


def encode_inspect_request(request: InspectRequest) -> pb.InspectLayersRequest:
    """Encode a request for statistics."""
    images = [encode_image(image) for image in request.images]
    return pb.InspectLayersRequest(
        model=request.model,
        version=request.version,
        images=images,
        selectors=request.selectors,
        inputs=[encode_tensor(array, name) for name, array in request.inputs.items()],
        edits=[encode_tap(tap) for tap in request.edits],
    )


def decode_inspect_request(message: pb.InspectLayersRequest) -> InspectRequest:
    """Decode a request for statistics.

    Raises:
        BadTensorError, ImageDecodeError: an image or another input is invalid.
    """
    images = tuple(decode_image(image, index) for index, image in enumerate(message.images))
    inputs = {tensor.name: decode_tensor(tensor) for tensor in message.inputs}
    edits = decode_edits(message.edits)
    return InspectRequest(message.model, images, tuple(message.selectors), message.version, inputs, edits)


def encode_statistics(response: InspectResponse) -> pb.InspectLayersResponse:
    """Encode the statistics of layers."""
    return pb.InspectLayersResponse(
        model=response.model,
        version=response.version,
        layers=[pb.LayerStatistics(**dataclasses.asdict(layer)) for layer in response.layers],
        assumed_preprocessing=response.assumed_preprocessing,
    )


def decode_statistics(message: pb.InspectLayersResponse) -> InspectResponse:
    """Decode the statistics of layers."""
    names = [item.name for item in dataclasses.fields(LayerStatistics)]
    layers = tuple(LayerStatistics(**{name: getattr(layer, name) for name in names}) for layer in message.layers)
    return InspectResponse(layers, message.model, message.version, message.assumed_preprocessing)
