"""ExtractStream: what opens it, its images, and answers cut into chunks.

Chunks are the bulk of what travels, so their messages are joined by hand around a view of the array: the same bytes
that protobuf would write, without its two copies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import cast

from layertap.errors import LayertapError
from layertap.types import ExtractRequest, FeatureMap, Features, Timing
from layertap.v1 import feature_service_pb2 as pb
from layertap.wire import _raw as raw
from layertap.wire._blocks import encode_tap
from layertap.wire._errors import decode_error_parts, encode_error_parts
from layertap.wire._features import (
    decode_extract_response,
    decode_feature_header,
    decode_image,
    decode_skipped,
    decode_tap_at,
    decode_timing,
    encode_extract_response,
    encode_feature_header,
    encode_image,
    encode_skipped,
    encode_timing,
)
from layertap.wire._limits import parse_request
from layertap.wire._tensors import decode_tensor, encode_tensor

SMALL_BYTES = 2**16
LARGE_MESSAGE = 2**12
"""From here on a message is taken for a chunk and read by hand; protobuf would copy it twice."""
_ID, _CHUNK, _RESULT = 1, 4, 7
"""Fields of ExtractStreamResponse."""
_APPLY_CHUNK = 2
"""Field of ApplyBlocksStreamResponse."""
_ITEMS = (2, 3)
"""Image and batch, fields of ExtractStreamRequest."""
_FEW_FIELDS = 4
_INDEX, _OFFSET, _DATA = 1, 2, 3
"""Fields of FeatureChunk."""


def encode_stream_open(request: ExtractRequest, chunk_bytes: int = 0) -> bytes:
    """The first message; the request's images are not looked at."""
    opening = pb.ExtractStreamOpen(
        model=request.model,
        version=request.version,
        taps=[encode_tap(tap) for tap in request.taps],
        chunk_bytes=chunk_bytes,
    )
    return pb.ExtractStreamRequest(open=opening).SerializeToString()


def encode_stream_batch(id_: str, request: ExtractRequest) -> bytes:
    """The request's images and inputs, answered together."""
    batch = pb.ExtractStreamBatch(
        id=id_,
        images=[encode_image(image) for image in request.images],
        inputs=[encode_tensor(array, name) for name, array in request.inputs.items()],
    )
    return pb.ExtractStreamRequest(batch=batch).SerializeToString()


@dataclass(frozen=True, slots=True)
class StreamOpening:
    """What every item of a stream shares."""

    request: ExtractRequest
    """Without images."""
    chunk_bytes: int


def decode_stream_open(data: bytes) -> StreamOpening | None:
    """None where the message is no opening.

    Raises:
        DecodeError: it is no message.
        TapSyntaxError, BadParameterError: what is wrong with a tap.
    """
    message = parse_request(pb.ExtractStreamRequest, data)
    if message.WhichOneof("message") != "open":
        return None
    opening = message.open
    taps = tuple(decode_tap_at(tap, index) for index, tap in enumerate(opening.taps))
    return StreamOpening(ExtractRequest(opening.model, (), taps, opening.version), opening.chunk_bytes)


@dataclass(frozen=True, slots=True)
class StreamItem:
    """One message behind the opening, parsed once: an image, or images that are answered together."""

    id: str
    """Empty where the message is no item."""
    _message: pb.ExtractStreamRequest

    def request(self, opening: StreamOpening) -> ExtractRequest | None:
        """The request that it is, as if it had come by Extract; None where the message is no item.

        Raises:
            BadTensorError, ImageDecodeError: what is wrong with a part of it.
        """
        message, shared = self._message, opening.request
        match message.WhichOneof("message"):
            case "image":
                parts, inputs = [message.image.image], {}
            case "batch":
                parts = list(message.batch.images)
                inputs = {tensor.name: decode_tensor(tensor) for tensor in message.batch.inputs}
            case _:
                return None
        images = tuple(decode_image(image, index) for index, image in enumerate(parts))
        return ExtractRequest(shared.model, images, shared.taps, shared.version, inputs)


def parse_stream_item(data: bytes) -> StreamItem:
    """Parse a message after the opening; errors as of `parse_request`."""
    message = parse_request(pb.ExtractStreamRequest, data)
    return StreamItem(message.image.id or message.batch.id, message)


def stream_item_id(data: bytes) -> str:
    """Return the id of an image or a batch without parsing it; empty where the first fields have none."""
    try:
        for number, item in islice(raw.fields(memoryview(data)), _FEW_FIELDS):
            if number in _ITEMS and isinstance(item, memoryview):
                parts = dict(islice(raw.fields(item), _FEW_FIELDS))
                return bytes(cast("memoryview", parts.get(_ID, memoryview(b"")))).decode()
    except (TypeError, ValueError):
        pass
    return ""


def encode_stream_opened(model: str, version: str) -> bytes:
    opened = pb.ExtractStreamOpened(model=model, version=version)
    return pb.ExtractStreamResponse(opened=opened).SerializeToString()


def encode_stream_error(id_: str, error: LayertapError) -> bytes:
    return pb.ExtractStreamResponse(id=id_, error=encode_error_parts(error)).SerializeToString()


def stream_answer(id_: str, features: Features, chunk_bytes: int) -> Iterator[bytes]:
    """The messages of one item's answer: for each feature map its header and its chunks, then the end.

    A small one is one message: each message costs the event loops at both ends more than its bytes.
    """
    if sum(feature.array.nbytes for feature in features.maps) <= min(SMALL_BYTES, chunk_bytes):
        body = encode_extract_response(features)
        yield b"".join((*raw.delimited(_ID, id_.encode()), raw.length(_RESULT, len(body)), body))
        return
    for index, feature in enumerate(features.maps):
        data = raw.bytes_of(feature.array)
        header = pb.FeatureHeader(feature=encode_feature_header(feature), total_bytes=len(data))
        yield pb.ExtractStreamResponse(id=id_, header=header).SerializeToString()
        for offset in range(0, len(data), chunk_bytes):
            yield _chunk(id_, index, offset, data[offset : offset + chunk_bytes])
    done = pb.ExtractStreamDone(
        timing=encode_timing(features.timing),
        batch_size=features.batch_size,
        assumed_preprocessing=features.assumed_preprocessing,
        skipped=encode_skipped(features.skipped),
    )
    yield pb.ExtractStreamResponse(id=id_, done=done).SerializeToString()


def _chunk(id_: str, index: int, offset: int, data: memoryview, field_: int = _CHUNK) -> bytes:
    inside = raw.number(_INDEX, index) + raw.number(_OFFSET, offset) + raw.length(_DATA, len(data))
    chunk = raw.length(field_, len(inside) + len(data))
    return b"".join((*raw.delimited(_ID, id_.encode()), chunk, inside, data))


def apply_answer(feature: FeatureMap, chunk_bytes: int) -> Iterator[bytes]:
    """The messages of ApplyBlocksStream: a header, and the data in chunks."""
    data = raw.bytes_of(feature.array)
    header = pb.FeatureHeader(feature=encode_feature_header(feature), total_bytes=len(data))
    yield pb.ApplyBlocksStreamResponse(header=header).SerializeToString()
    for offset in range(0, len(data), chunk_bytes):
        yield _chunk("", 0, offset, data[offset : offset + chunk_bytes], _APPLY_CHUNK)


@dataclass(slots=True)
class AppliedFeature:
    """Messages of ApplyBlocksStream -> the feature map, which is filled chunk by chunk."""

    _feature: FeatureMap | None = None
    _view: memoryview = field(default_factory=lambda: memoryview(b""))
    _left: int = 0

    def add(self, data: bytes) -> FeatureMap | None:
        """Take a message; return the feature map once all of it is there."""
        message = pb.ApplyBlocksStreamResponse.FromString(data)
        if message.HasField("header"):
            self._feature = decode_feature_header(message.header.feature)
            self._view, self._left = raw.bytes_of(self._feature.array), message.header.total_bytes
        else:
            part = message.chunk.data
            self._view[message.chunk.offset : message.chunk.offset + len(part)] = part
            self._left -= len(part)
        return None if self._left else self._feature


@dataclass(slots=True)
class _Item:
    """An answer in the making."""

    maps: list[FeatureMap] = field(default_factory=list)
    views: list[memoryview] = field(default_factory=list)


@dataclass(slots=True)
class Assembler:
    """Messages of a stream -> finished items; arrays are made when their headers come, and filled chunk by chunk."""

    taps: tuple[str, ...] = ()
    model: str = ""
    version: str = ""
    _items: dict[str, _Item] = field(default_factory=dict)

    def add(self, data: bytes) -> tuple[str, Features | LayertapError] | None:
        """The id and the answer of the item that this message ends, if it ends one."""
        if len(data) > LARGE_MESSAGE and self._took_chunk(memoryview(data)):
            return None
        message = pb.ExtractStreamResponse.FromString(data)
        match message.WhichOneof("message"):
            case "opened":
                self.model, self.version = message.opened.model, message.opened.version
            case "header":
                self._header(message.id, message.header)
            case "chunk":
                self._chunk(message.id, message.chunk)
            case "done":
                return message.id, self._done(message.id, message.done)
            case "result":
                return message.id, decode_extract_response(message.result, self.taps)
            case "error":
                self._items.pop(message.id, None)
                return message.id, decode_error_parts(message.error)
        return None

    def _took_chunk(self, data: memoryview) -> bool:
        """Copies a chunk from where it lies in the message; False where the message is something else."""
        try:
            outer = dict(raw.fields(data))
            inner = dict(raw.fields(cast("memoryview", outer[_CHUNK])))
            part = cast("memoryview", inner[_DATA])
            index, offset = cast("int", inner.get(_INDEX, 0)), cast("int", inner.get(_OFFSET, 0))
            view = self._items[bytes(cast("memoryview", outer.get(_ID, memoryview(b"")))).decode()].views[index]
        except (ValueError, KeyError, IndexError, TypeError):
            return False
        view[offset : offset + len(part)] = part
        return True

    def _header(self, id_: str, header: pb.FeatureHeader) -> None:
        feature = decode_feature_header(header.feature)
        item = self._items.setdefault(id_, _Item())
        item.maps.append(feature)
        item.views.append(raw.bytes_of(feature.array))

    def _chunk(self, id_: str, chunk: pb.FeatureChunk) -> None:
        view = self._items[id_].views[chunk.feature_index]
        view[chunk.offset : chunk.offset + len(chunk.data)] = chunk.data

    def _done(self, id_: str, done: pb.ExtractStreamDone) -> Features:
        item = self._items.pop(id_, _Item())
        timing: Timing = decode_timing(done.timing)
        return Features(
            maps=tuple(item.maps),
            model=self.model,
            version=self.version,
            timing=timing,
            batch_size=done.batch_size,
            taps=self.taps,
            skipped=decode_skipped(done.skipped),
            assumed_preprocessing=done.assumed_preprocessing,
        )
