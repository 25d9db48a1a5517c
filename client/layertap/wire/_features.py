"""Encode and decode requests for features and for applying blocks, and their responses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from layertap.errors import ImageDecodeError, LayertapError
from layertap.types import (
    ApplyRequest,
    Array,
    EncodedImage,
    ExtractRequest,
    ExtractResponse,
    FeatureMap,
    ImagePayload,
    PixelImage,
    Quantization,
    Tap,
)
from layertap.v1 import feature_service_pb2 as feature_pb
from layertap.v1 import types_pb2 as pb
from layertap.wire import _raw as raw
from layertap.wire._blocks import decode_block, decode_tap, encode_block, encode_tap
from layertap.wire._details import (
    decode_padding,
    decode_skipped,
    decode_timing,
    encode_padding,
    encode_skipped,
    encode_timing,
)
from layertap.wire._limits import parse_request
from layertap.wire._targets import (
    decode_edits,
    decode_target,
    decode_target_values,
    encode_target,
    encode_target_values,
)
from layertap.wire._tensors import (
    decode_layout,
    decode_tensor,
    empty_tensor,
    encode_layout,
    encode_tensor,
    encode_tensor_header,
    shared_tensor,
    tensor_from,
)

_LARGE_RESPONSE = 2**16
"""Size in bytes above which decoding by hand is faster than protobuf, which copies the data twice."""

_FEATURES, _FEATURE, _TENSOR, _DATA = 1, 1, 1, 4
"""Field numbers in ExtractResponse, ApplyBlocksResponse, FeatureMap and Tensor."""


def encode_extract_request(request: ExtractRequest) -> feature_pb.ExtractRequest:
    """Encode a request for features."""
    return feature_pb.ExtractRequest(
        model=request.model,
        version=request.version,
        images=[encode_image(image) for image in request.images],
        taps=[encode_tap(tap) for tap in request.taps],
        inputs=[encode_tensor(array, name) for name, array in request.inputs.items()],
        region=request.region,
        target=encode_target(request.target),
        edits=[encode_tap(tap) for tap in request.edits],
    )


def decode_extract_request(message: feature_pb.ExtractRequest) -> ExtractRequest:
    """Decode a request for features; an error names the part of the request that it is about.

    Raises:
        BadTensorError, ImageDecodeError, TapSyntaxError, BadParameterError, BadTargetError: a part is invalid.
    """
    return ExtractRequest(
        model=message.model,
        version=message.version,
        images=tuple(decode_image(image, index) for index, image in enumerate(message.images)),
        taps=tuple(decode_tap_at(tap, index) for index, tap in enumerate(message.taps)),
        inputs={tensor.name: decode_tensor(tensor) for tensor in message.inputs},
        region=message.region,
        target=decode_target(message.target),
        edits=decode_edits(message.edits),
    )


def encode_image(image: ImagePayload) -> pb.Image:
    """Encode an image."""
    if isinstance(image, EncodedImage):
        return pb.Image(encoded=image.data)
    return pb.Image(pixels=encode_tensor(image.array))


def decode_image(message: pb.Image, index: int) -> ImagePayload:
    """Decode the image at position ``index`` of a request.

    Raises:
        BadTensorError: the pixels are invalid.
        ImageDecodeError: the message has no image.
    """
    match message.WhichOneof("source"):
        case "encoded":
            return EncodedImage(message.encoded)
        case "pixels":
            try:
                return PixelImage(decode_tensor(message.pixels))
            except LayertapError as error:
                raise error.about_field(f"images[{index}].pixels") from None
    raise ImageDecodeError(f"images[{index}] is empty", field=f"images[{index}]", index=index)


def decode_tap_at(message: pb.Tap, index: int) -> Tap | str:
    """Decode the tap at position ``index`` of a request; errors name the position."""
    try:
        return decode_tap(message)
    except LayertapError as error:
        raise error.about_field(f"taps[{index}]") from None


def encode_extract_response(features: ExtractResponse, places: Sequence[tuple[int, int]] | None = None) -> bytes:
    """Encode features.

    Args:
        features: the results.
        places: offset and size of each result in the request's shared memory region; without them the message contains
            the data.
    """
    rest = feature_pb.ExtractResponse(
        model=features.model,
        version=features.version,
        timing=encode_timing(features.timing),
        batch_size=features.batch_size,
        assumed_preprocessing=features.assumed_preprocessing,
        skipped=encode_skipped(features.skipped),
        padding=encode_padding(features.padding),
        target=features.target,
        targets=encode_target_values(features.targets),
    )
    if places is not None:
        rest.features.extend(
            _encode_shared(feature, place) for feature, place in zip(features.maps, places, strict=True)
        )
        return rest.SerializeToString()
    parts = [part for feature in features.maps for part in _feature_parts(feature)]
    return b"".join((*parts, rest.SerializeToString()))


def _feature_parts(feature: FeatureMap, field: int = _FEATURES) -> Iterator[bytes | memoryview]:
    """Yield the parts of a field that holds a feature map, as protobuf writes it but without copying data."""
    header = encode_feature_header(feature)
    tensor = header.tensor.SerializeToString()
    header.ClearField("tensor")
    rest, data = header.SerializeToString(), raw.delimited(_DATA, raw.bytes_of(feature.array))
    start = raw.length(_TENSOR, len(tensor) + sum(map(len, data)))
    parts = (start, tensor, *data, rest)
    yield raw.length(field, sum(map(len, parts)))
    yield from parts


def read_extract_response(answer: bytes, region: Array | None = None) -> ExtractResponse:
    """Decode the bytes of a response like `decode_extract_response`; copy the data of a large response only once."""
    if len(answer) >= _LARGE_RESPONSE:
        with contextlib.suppress(ValueError):  # a newer server's message, with wire types unknown here
            return _read_by_hand(memoryview(answer), region)
    return decode_extract_response(feature_pb.ExtractResponse.FromString(answer), region)


def _read_by_hand(answer: memoryview, region: Array | None) -> ExtractResponse:
    """Decode a large response; copy each array's data once."""
    features, rest = raw.take_out(answer, _FEATURES)
    without_maps = decode_extract_response(feature_pb.ExtractResponse.FromString(rest))
    return replace(without_maps, maps=tuple(_read_feature(feature, region) for feature in features))


def _read_feature(data: memoryview, region: Array | None) -> FeatureMap:
    """Decode a feature map; servers up to version 0.1 send its tensor in two parts."""
    tensors, rest = raw.take_out(data, _TENSOR)
    parts = [raw.take_out(tensor, _DATA) for tensor in tensors]
    message = pb.FeatureMap.FromString(rest)
    message.tensor.MergeFromString(b"".join(header for _, header in parts))
    elements = [values[-1] for values, _ in parts if values]
    if not elements:
        return _decode_feature(message, region)
    # Copy: a view would keep the whole response alive, and its elements might be unaligned.
    return _feature_of(message, tensor_from(message.tensor, bytes(elements[-1])))


def decode_extract_response(message: feature_pb.ExtractResponse, region: Array | None = None) -> ExtractResponse:
    """Decode features.

    Args:
        message: the response.
        region: the bytes of the shared memory region that the request named, if any.
    """
    return ExtractResponse(
        maps=tuple(_decode_feature(feature, region) for feature in message.features),
        model=message.model,
        version=message.version,
        timing=decode_timing(message.timing),
        batch_size=message.batch_size,
        assumed_preprocessing=message.assumed_preprocessing,
        skipped=decode_skipped(message.skipped),
        padding=decode_padding(message.padding),
        target=message.target,
        targets=decode_target_values(message.targets),
    )


def encode_feature_header(feature: FeatureMap) -> pb.FeatureMap:
    """Encode a feature map without its data."""
    return pb.FeatureMap(
        tensor=encode_tensor_header(feature.array, feature.name),
        layer=feature.layer,
        layout=encode_layout(feature.layout),
        tap_index=feature.tap_index,
        inexact=feature.inexact,
        quantization=_encode_quantization(feature.quantization),
    )


def _encode_shared(feature: FeatureMap, place: tuple[int, int]) -> pb.FeatureMap:
    """Encode a feature map whose data are in shared memory at the given offset and size."""
    message = encode_feature_header(feature)
    message.tensor.shared.offset, message.tensor.shared.byte_size = place
    return message


def decode_feature_header(message: pb.FeatureMap) -> FeatureMap:
    """Decode a feature map without data; its array is allocated and has yet to be filled."""
    return _feature_of(message, empty_tensor(message.tensor))


def _decode_feature(message: pb.FeatureMap, region: Array | None = None) -> FeatureMap:
    """Decode a feature map whose data are in the message or in the shared memory region."""
    if region is None or not message.tensor.HasField("shared"):
        return _feature_of(message, decode_tensor(message.tensor))
    return _feature_of(message, shared_tensor(message.tensor, region))


def _feature_of(message: pb.FeatureMap, array: Array) -> FeatureMap:
    """Return the feature map of a message, with the given array."""
    return FeatureMap(
        name=message.tensor.name,
        array=array,
        layer=message.layer,
        layout=decode_layout(message.layout),
        tap_index=message.tap_index,
        inexact=message.inexact,
        quantization=_decode_quantization(message.quantization) if message.HasField("quantization") else None,
    )


def _encode_quantization(quantization: Quantization | None) -> pb.Quantization | None:
    """Encode the parameters of a quantization."""
    if quantization is None:
        return None
    scales, zero_points = quantization.scale.ravel().tolist(), quantization.zero_point.ravel().tolist()
    return pb.Quantization(scales=scales, zero_points=zero_points, shape=quantization.scale.shape)


def _decode_quantization(message: pb.Quantization) -> Quantization:
    """Decode the parameters of a quantization."""
    shape = tuple(message.shape)
    return Quantization(
        np.array(message.scales, np.float32).reshape(shape), np.array(message.zero_points, np.int64).reshape(shape)
    )


def encode_apply_request(request: ApplyRequest) -> feature_pb.ApplyBlocksRequest:
    """Encode a request to apply blocks."""
    layout = None if request.layout is None else encode_layout(request.layout)
    gradient = None if request.gradient is None else encode_tensor(request.gradient)
    message = feature_pb.ApplyBlocksRequest(tensor=encode_tensor(request.array), layout=layout, gradient=gradient)
    if isinstance(request.head, str):
        message.expression = request.head
    else:
        message.blocks.blocks.extend(encode_block(block) for block in request.head)
    return message


def encode_apply_stream_request(request: ApplyRequest, chunk_bytes: int = 0) -> bytes:
    """Encode a request to apply blocks and receive the result in chunks.

    Args:
        request: the array and the head.
        chunk_bytes: maximum size of a chunk in bytes; 0 for the server's default.
    """
    message = feature_pb.ApplyBlocksStreamRequest(request=encode_apply_request(request), chunk_bytes=chunk_bytes)
    return message.SerializeToString()


def decode_apply_stream_request(data: bytes) -> tuple[ApplyRequest, int]:
    """Parse and decode a streaming request to apply blocks and its chunk size in bytes, 0 for the server's default.

    Raises:
        BadTensorError, BadParameterError: as for `decode_apply_request`.
    """
    message = parse_request(feature_pb.ApplyBlocksStreamRequest, data)
    return decode_apply_request(message.request), message.chunk_bytes


def decode_apply_request(message: feature_pb.ApplyBlocksRequest) -> ApplyRequest:
    """Decode a request to apply blocks."""
    layout = None if message.layout == pb.LAYOUT_UNSPECIFIED else decode_layout(message.layout)
    gradient = decode_tensor(message.gradient) if message.HasField("gradient") else None
    is_text = message.WhichOneof("head") == "expression"
    head = message.expression if is_text else tuple(decode_block(block) for block in message.blocks.blocks)
    return ApplyRequest(decode_tensor(message.tensor), head, layout, gradient)


def encode_apply_response(feature: FeatureMap) -> bytes:
    """Encode the result of applying blocks."""
    return b"".join(_feature_parts(feature, _FEATURE))


def read_apply_response(answer: bytes) -> FeatureMap:
    """Decode the result of applying blocks; copy the data of a large one only once."""
    if len(answer) >= _LARGE_RESPONSE:
        with contextlib.suppress(ValueError):  # a newer server's message, with wire types unknown here
            (feature,), _ = raw.take_out(memoryview(answer), _FEATURE)
            return _read_feature(feature, None)
    return _decode_feature(feature_pb.ApplyBlocksResponse.FromString(answer).feature)
