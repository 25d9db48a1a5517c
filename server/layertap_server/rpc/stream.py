"""ExtractStream: features of many images over one call, computed as fast as the caller reads."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator

from layertap import wire
from layertap.errors import InvalidRequestError
from layertap.types import ExtractRequest, ExtractResponse
from layertap_server.request.context import RequestContext
from layertap_server.rpc.calls import StreamTools, Writer
from layertap_server.rpc.endings import write
from layertap_server.rpc.item_stream import ItemStream, record_encoding

MAX_CHUNK_BYTES = 2**20
"""Maximum and default size of a chunk, in bytes."""
MIN_CHUNK_BYTES = 2**10
"""Minimum size of a chunk, in bytes; for smaller chunks the cost of each message would dominate."""
Extract = Callable[[ExtractRequest, RequestContext], ExtractResponse]
"""Function from a request and its context to its features."""


class ExtractStream:
    """One call of ExtractStream."""

    def __init__(
        self,
        extract: Extract,
        check_opening: Callable[[ExtractRequest, RequestContext], tuple[str, str]],
        tools: StreamTools,
    ) -> None:
        """Prepare to serve a call.

        Args:
            extract: function that computes the features of one item.
            check_opening: function that checks the opening request and returns the name and version of its model.
            tools: the dispatcher's functions for this stream.
        """
        self._extract = extract
        self._check_opening = check_opening
        self._tools = tools
        self._context = tools.context

    async def serve(self, messages: AsyncIterator[bytes], call: Writer) -> None:
        """Answer the opening, and then each item; an item that fails does not end the stream.

        Raises:
            DrainingError, CancelledError: as `ItemStream.serve` raises them.
            LayertapError: the opening is invalid.
        """
        opening = await self._open(messages, call)

        async def answer(data: bytes, context: RequestContext) -> Iterator[bytes]:
            return await self._messages(data, opening, items, context)

        items = ItemStream(answer, self._tools)
        await items.serve(messages, call)

    async def _open(self, messages: AsyncIterator[bytes], call: Writer) -> wire.StreamOpening:
        """Read and check the opening message, and answer it with the model's name and version."""
        data = await anext(messages, b"")
        self._context.bytes_in += len(data)

        def open_stream() -> tuple[wire.StreamOpening, tuple[str, str]]:
            opening = wire.decode_stream_open(data)
            if opening is None:
                raise InvalidRequestError("expected an opening as the first message of the stream", field="open")
            return opening, self._check_opening(opening.request, self._context)

        opening: wire.StreamOpening
        with await self._tools.turn(len(data)):
            opening, (model, version) = await self._tools.run(open_stream, len(data), self._context.cancellation)
        answer = wire.encode_stream_opened(model, version)
        await write(answer, call)
        self._context.bytes_out += len(answer)
        return opening

    async def _messages(
        self, data: bytes, opening: wire.StreamOpening, items: ItemStream, context: RequestContext
    ) -> Iterator[bytes]:
        """Compute one item and return the messages of its response; chunks are cut as they are sent."""
        id_ = wire.stream_item_id(data)

        def job() -> ExtractResponse:
            nonlocal id_
            begun = time.perf_counter()
            context.add("queue", context.began, begun)
            with context.stage("decode"):
                item = wire.parse_stream_item(data)
                id_ = item.id
                request = item.request(opening)
            if request is None:
                raise InvalidRequestError("expected an image or a batch after the opening", field="image")
            return self._extract(request, context)

        try:
            features = await items.run_in_turn(job, len(data), context)
        except Exception as error:  # noqa: BLE001 - an item's failure must not end the stream
            failure = self._tools.failure_of(error)
            context.fail(failure)
            return iter([wire.encode_stream_error(id_, failure)])
        return record_encoding(wire.stream_answer(id_, features, chunk_size(opening.chunk_bytes)), context)


def chunk_size(asked: int) -> int:
    """Return the chunk size in bytes for a requested size, clamped to the permitted range; 0 requests the default."""
    return min(max(asked or MAX_CHUNK_BYTES, MIN_CHUNK_BYTES), MAX_CHUNK_BYTES)
