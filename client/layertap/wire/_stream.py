"""Encode and decode the messages of ExtractStream and ApplyBlocksStream: opening, items, and results in chunks.

Most bytes travel in chunks. Their messages are joined by hand around a view of the array: the same bytes that protobuf
would write, but without its two copies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import cast

from layertap.errors import LayertapError
from layertap.types import ExtractRequest, ExtractResponse, FeatureMap, Timing
from layertap.v1 import feature_service_pb2 as pb
from layertap.wire import _raw as raw
from layertap.wire._blocks import encode_tap
from layertap.wire._details import (
    decode_padding,
    decode_skipped,
    decode_timing,
    encode_padding,
    encode_skipped,
    encode_timing,
)
from layertap.wire._errors import decode_error_parts, encode_error_parts
from layertap.wire._features import (
    decode_extract_response,
    decode_feature_header,
    decode_image,
    decode_tap_at,
    encode_extract_response,
    encode_feature_header,
    encode_image,
)
from layertap.wire._limits import parse_request
from layertap.wire._targets import (
    decode_edits,
    decode_target,
    decode_target_values,
    encode_target,
    encode_target_values,
)
from layertap.wire._tensors import decode_tensor, encode_tensor

SMALL_BYTES = 2**16
"""Maximum size in bytes of results that are sent as a single message."""
LARGE_MESSAGE = 2**12
"""Size in bytes above which a message is first read as a chunk by hand, since protobuf would copy it twice."""
_ID, _CHUNK, _RESULT = 1, 4, 7
"""Field numbers in ExtractStreamResponse."""
_APPLY_CHUNK = 2
"""Field number in ApplyBlocksStreamResponse."""
_ITEMS = (2, 3)
"""Field numbers of images and batches in ExtractStreamRequest."""
_FEW_FIELDS = 4
"""Maximum number of fields that are searched for an id."""
_INDEX, _OFFSET, _DATA = 1, 2, 3
"""Field numbers in FeatureChunk."""


def encode_stream_open(request: ExtractRequest, chunk_bytes: int = 0) -> bytes:
    """Encode the first message of a stream.

    Args:
        request: the model, version, taps and target of all items; its images are ignored.
        chunk_bytes: maximum size of a chunk in bytes; 0 for the server's default.
    """
    opening = pb.ExtractStreamOpen(
        model=request.model,
        version=request.version,
        taps=[encode_tap(tap) for tap in request.taps],
        chunk_bytes=chunk_bytes,
        target=encode_target(request.target),
        edits=[encode_tap(tap) for tap in request.edits],
    )
    return pb.ExtractStreamRequest(open=opening).SerializeToString()


def encode_stream_batch(id_: str, request: ExtractRequest) -> bytes:
    """Encode a request's images and inputs as one item, all or nothing."""
    batch = pb.ExtractStreamBatch(
        id=id_,
        images=[encode_image(image) for image in request.images],
        inputs=[encode_tensor(array, name) for name, array in request.inputs.items()],
    )
    return pb.ExtractStreamRequest(batch=batch).SerializeToString()


@dataclass(frozen=True, slots=True)
class StreamOpening:
    """The parameters that all items of a stream share."""

    request: ExtractRequest
    """Model, version, taps and target; no images."""
    chunk_bytes: int
    """Maximum size of a chunk in bytes; 0 for the server's default."""


def decode_stream_open(data: bytes) -> StreamOpening | None:
    """Decode the first message of a stream; return None if it is not an opening.

    Raises:
        DecodeError: the bytes are not a message.
        TapSyntaxError, BadParameterError: a tap is invalid.
    """
    message = parse_request(pb.ExtractStreamRequest, data)
    if message.WhichOneof("message") != "open":
        return None
    opening = message.open
    taps = tuple(decode_tap_at(tap, index) for index, tap in enumerate(opening.taps))
    request = ExtractRequest(
        model=opening.model,
        images=(),
        taps=taps,
        version=opening.version,
        target=decode_target(opening.target),
        edits=decode_edits(opening.edits),
    )
    return StreamOpening(request, opening.chunk_bytes)


@dataclass(frozen=True, slots=True)
class StreamItem:
    """A message after the opening, already parsed: one image, or a batch of images with a joint result."""

    id: str
    """The item's id; empty if the message is no item."""
    _message: pb.ExtractStreamRequest

    def request(self, opening: StreamOpening) -> ExtractRequest | None:
        """Return the item as a request of its own; None if the message is no item.

        Raises:
            BadTensorError, ImageDecodeError: a part of the item is invalid.
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
        return replace(shared, images=images, inputs=inputs)


def parse_stream_item(data: bytes) -> StreamItem:
    """Parse a message after the opening; raise the errors of `parse_request`."""
    message = parse_request(pb.ExtractStreamRequest, data)
    return StreamItem(message.image.id or message.batch.id, message)


def stream_item_id(data: bytes) -> str:
    """Return the id of an item without parsing the whole message; empty if its first fields have none."""
    try:
        for number, item in islice(raw.fields(memoryview(data)), _FEW_FIELDS):
            if number in _ITEMS and isinstance(item, memoryview):
                parts = dict(islice(raw.fields(item), _FEW_FIELDS))
                return bytes(cast("memoryview", parts.get(_ID, memoryview(b"")))).decode()
    except (TypeError, ValueError):
        pass
    return ""


def encode_stream_opened(model: str, version: str) -> bytes:
    """Encode the response to the opening."""
    opened = pb.ExtractStreamOpened(model=model, version=version)
    return pb.ExtractStreamResponse(opened=opened).SerializeToString()


def encode_stream_error(id_: str, error: LayertapError) -> bytes:
    """Encode the error of one item."""
    return pb.ExtractStreamResponse(id=id_, error=encode_error_parts(error)).SerializeToString()


def stream_answer(id_: str, features: ExtractResponse, chunk_bytes: int) -> Iterator[bytes]:
    """Yield the messages of one item's results: for each feature map its header and its chunks, then the end.

    Small results are sent as a single message, since each message costs both event loops more than its bytes.
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
        padding=encode_padding(features.padding),
        target=features.target,
        targets=encode_target_values(features.targets),
    )
    yield pb.ExtractStreamResponse(id=id_, done=done).SerializeToString()


def _chunk(id_: str, index: int, offset: int, data: memoryview, field_: int = _CHUNK) -> bytes:
    """Encode a chunk of data; ``index`` is the number of the feature map and ``offset`` the position in its data."""
    inside = raw.number(_INDEX, index) + raw.number(_OFFSET, offset) + raw.length(_DATA, len(data))
    chunk = raw.length(field_, len(inside) + len(data))
    return b"".join((*raw.delimited(_ID, id_.encode()), chunk, inside, data))


def apply_answer(feature: FeatureMap, chunk_bytes: int) -> Iterator[bytes]:
    """Yield the messages of ApplyBlocksStream: a header, then the data in chunks."""
    data = raw.bytes_of(feature.array)
    header = pb.FeatureHeader(feature=encode_feature_header(feature), total_bytes=len(data))
    yield pb.ApplyBlocksStreamResponse(header=header).SerializeToString()
    for offset in range(0, len(data), chunk_bytes):
        yield _chunk("", 0, offset, data[offset : offset + chunk_bytes], _APPLY_CHUNK)


@dataclass(slots=True)
class AppliedFeature:
    """Assembles the messages of ApplyBlocksStream into a feature map; its array is filled chunk by chunk."""

    _feature: FeatureMap | None = None
    _view: memoryview = field(default_factory=lambda: memoryview(b""))
    _left: int = 0

    def add(self, data: bytes) -> FeatureMap | None:
        """Process a message; return the feature map once it is complete."""
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
    """The incomplete results of an item."""

    maps: list[FeatureMap] = field(default_factory=list)
    """Feature maps whose headers have arrived."""
    views: list[memoryview] = field(default_factory=list)
    """Views of their arrays as bytes."""


@dataclass(slots=True)
class Assembler:
    """Assembles the messages of a stream into results.

    It allocates an array when the header arrives, and fills it chunk by chunk.
    """

    model: str = ""
    version: str = ""
    _items: dict[str, _Item] = field(default_factory=dict)

    def add(self, data: bytes) -> tuple[str, ExtractResponse | LayertapError] | None:
        """Process a message; return the id and the result of the item that it completes, or None."""
        if len(data) > LARGE_MESSAGE and self._copy_chunk(memoryview(data)):
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
                return message.id, decode_extract_response(message.result)
            case "error":
                self._items.pop(message.id, None)
                return message.id, decode_error_parts(message.error)
        return None

    def _copy_chunk(self, data: memoryview) -> bool:
        """Copy a chunk directly from the message into its array; return False if the message is not a chunk."""
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
        """Allocate the array of a feature map."""
        feature = decode_feature_header(header.feature)
        item = self._items.setdefault(id_, _Item())
        item.maps.append(feature)
        item.views.append(raw.bytes_of(feature.array))

    def _chunk(self, id_: str, chunk: pb.FeatureChunk) -> None:
        """Copy a chunk into its array."""
        view = self._items[id_].views[chunk.feature_index]
        view[chunk.offset : chunk.offset + len(chunk.data)] = chunk.data

    def _done(self, id_: str, done: pb.ExtractStreamDone) -> ExtractResponse:
        """Return the complete results of an item."""
        item = self._items.pop(id_, _Item())
        timing: Timing = decode_timing(done.timing)
        return ExtractResponse(
            maps=tuple(item.maps),
            model=self.model,
            version=self.version,
            timing=timing,
            batch_size=done.batch_size,
            skipped=decode_skipped(done.skipped),
            assumed_preprocessing=done.assumed_preprocessing,
            padding=decode_padding(done.padding),
            target=done.target,
            targets=decode_target_values(done.targets),
        )
