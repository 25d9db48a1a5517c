"""Encode and decode the small parts of responses: padding, skipped layers and timing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from layertap.types import ImagePadding, SkippedLayer, Timing
from layertap.v1 import feature_service_pb2 as feature_pb
from layertap.v1 import types_pb2 as pb


def encode_padding(padding: Sequence[ImagePadding]) -> list[feature_pb.ImagePadding]:
    """Encode the padding of images."""
    return [feature_pb.ImagePadding(bottom=one.bottom, right=one.right) for one in padding]


def decode_padding(padding: Iterable[feature_pb.ImagePadding]) -> tuple[ImagePadding, ...]:
    """Decode the padding of images."""
    return tuple(ImagePadding(one.bottom, one.right) for one in padding)


def encode_skipped(skipped: Iterable[SkippedLayer]) -> list[feature_pb.SkippedLayer]:
    """Encode skipped layers."""
    return [feature_pb.SkippedLayer(layer=item.layer, reason=item.reason) for item in skipped]


def decode_skipped(messages: Iterable[feature_pb.SkippedLayer]) -> tuple[SkippedLayer, ...]:
    """Decode skipped layers."""
    return tuple(SkippedLayer(item.layer, item.reason) for item in messages)


def encode_timing(timing: Timing) -> pb.Timing:
    """Encode timing."""
    return pb.Timing(
        queue_ms=timing.queue_ms,
        decode_ms=timing.decode_ms,
        compute_ms=timing.compute_ms,
        total_ms=timing.total_ms,
    )


def decode_timing(message: pb.Timing) -> Timing:
    """Decode timing."""
    return Timing(message.queue_ms, message.decode_ms, message.compute_ms, message.total_ms)
