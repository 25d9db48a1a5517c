"""The client for asyncio: the twin of `Client`, call by call."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from layertap import _calls, _routes
from layertap._assumptions import Assumptions
from layertap._bulk import AsyncFeed, Bulk
from layertap._calls import Call, Exchange
from layertap._connection import DEFAULT_ADDRESS, DEFAULT_TIMEOUT_SECONDS, PARTING_SECONDS, Connection, Tls
from layertap._progress import length_of, with_async_progress
from layertap._routes import Routes, Steps
from layertap._shared_memory import may_share_with
from layertap.blocks.spec import BlockSpec
from layertap.errors import LayertapError, UnavailableError
from layertap.images import ImageLike, as_images, is_one_image, to_payloads
from layertap.types import (
    ApplyRequest,
    Array,
    Block,
    ExtractedItem,
    ExtractRequest,
    FeatureMap,
    Features,
    InspectRequest,
    LayerInfo,
    LayerStatistics,
    Layout,
    ModelInfo,
    Preview,
    PreviewRequest,
    Tap,
    as_sequence,
)

Reply = TypeVar("Reply")


class AsyncClient:
    """A connection to a Layertap server from one event loop; use it with ``async with``, or `close` it.

    Every method takes, returns and raises what the method of `layertap.Client` of the same name does.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        tls: Tls | bool = False,
        token: str = "",
        grpc_options: Sequence[tuple[str, str | int]] = (),
        shared_memory: bool = True,
    ) -> None:
        """As `layertap.Client`; connects when the first call is made, to the loop that runs then."""
        self._connection = Connection(address, timeout_seconds, tls, token, grpc_options)
        self._assumptions = Assumptions()
        self._routes = Routes(shares_memory=shared_memory and may_share_with(address))
        self._opened: grpc.aio.Channel | None = None
        self._is_closed = False

    async def extract(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        model: str,
        taps: Tap | str | Sequence[Tap | str] = (),
        version: str = "",
        inputs: Mapping[str, Array] | None = None,
        timeout_seconds: float | None = None,
    ) -> Features:
        """The features of the images, all or nothing; files are read on another thread."""
        payloads = await asyncio.to_thread(to_payloads, images)
        request = ExtractRequest(model, payloads, as_sequence(taps), version, inputs or {})
        features = await self._drive(self._routes.extract(request), timeout_seconds)
        self._assumptions.warn(model, features.assumed_preprocessing)
        return features

    def extract_many(
        self,
        images: ImageLike | Iterable[ImageLike] | AsyncIterable[ImageLike],
        *,
        model: str,
        taps: Tap | str | Sequence[Tap | str] = (),
        version: str = "",
        ordered: bool = True,
        progress: bool = False,
    ) -> AsyncGenerator[ExtractedItem]:
        """The features of any number of images, one by one, over one stream; ``images`` may be asynchronous too."""
        bulk = Bulk(ExtractRequest(model, (), as_sequence(taps), version), ordered=ordered)
        given: Any = images
        is_asynchronous = isinstance(images, AsyncIterable) and not is_one_image(images)  # a file may be iterated over
        several = given if is_asynchronous else as_images(given)
        items = self._run_bulk(bulk, AsyncFeed(bulk, several))
        return with_async_progress(items, length_of(several)) if progress else items

    async def _check_bulk(self, bulk: Bulk) -> None:
        """Refuse blocks that look across images; the stream itself reports what else is wrong."""
        try:
            preview = await self._call(_calls.preview(bulk.preview), None)
        except LayertapError:
            return
        bulk.check(preview)

    async def _run_bulk(self, bulk: Bulk, feed: AsyncFeed) -> AsyncGenerator[ExtractedItem]:
        await self._check_bulk(bulk)
        try:
            while True:
                stream = self._stream(feed.messages(), None)
                try:
                    async for message in stream:
                        for item in bulk.answered(message):
                            feed.wake()
                            if item.features is not None:
                                self._assumptions.warn(bulk.request.model, item.features.assumed_preprocessing)
                            yield item
                except grpc.RpcError as error:
                    await asyncio.sleep(bulk.failed(_calls.error_of(error)))
                else:
                    if not bulk.has_unanswered:
                        break
                    await asyncio.sleep(bulk.failed(UnavailableError("the server ended the stream too early")))
                finally:
                    stream.cancel()
            for item in bulk.finished():
                yield item
            feed.check()
        finally:
            feed.close()

    async def preview(
        self,
        *,
        model: str,
        taps: Tap | str | Sequence[Tap | str] = (),
        image_count: int = 1,
        version: str = "",
        timeout_seconds: float | None = None,
    ) -> Preview:
        """What `extract` would give for these taps and so many images, and cost; nothing is run."""
        request = PreviewRequest(model, as_sequence(taps), version, image_count)
        return await self._call(_calls.preview(request), timeout_seconds)

    async def inspect(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        model: str,
        selectors: str | Sequence[str] = (),
        version: str = "",
        inputs: Mapping[str, Array] | None = None,
        timeout_seconds: float | None = None,
    ) -> tuple[LayerStatistics, ...]:
        """Activation statistics of layers over the images, in the order of the selectors."""
        names = (selectors,) if isinstance(selectors, str) else tuple(selectors)
        payloads = await asyncio.to_thread(to_payloads, images)
        request = InspectRequest(model, payloads, names, version, inputs or {})
        statistics, assumed = await self._call(_calls.inspect(request), timeout_seconds)
        self._assumptions.warn(model, assumed)
        return statistics

    async def apply_blocks(
        self,
        array: Array,
        head: str | Sequence[Block],
        *,
        layout: Layout | None = None,
        timeout_seconds: float | None = None,
    ) -> Array:
        """A head on an array of your own, batch first; no model is needed."""
        return (await self.apply_blocks_map(array, head, layout=layout, timeout_seconds=timeout_seconds)).array

    async def apply_blocks_map(
        self,
        array: Array,
        head: str | Sequence[Block],
        *,
        layout: Layout | None = None,
        timeout_seconds: float | None = None,
    ) -> FeatureMap:
        """As `apply_blocks`, with what is told beside the array: its layout, and after ``quantize`` its scale."""
        request = ApplyRequest(array, head if isinstance(head, str) else tuple(head), layout)
        return await self._drive(_routes.apply_blocks(request), timeout_seconds)

    async def models(self, *, timeout_seconds: float | None = None) -> list[ModelInfo]:
        """Every model that the server has, the failed ones too."""
        return await self._call(_calls.models(), timeout_seconds)

    async def model(self, name: str, *, version: str = "", timeout_seconds: float | None = None) -> ModelInfo:
        """One model, with its class names."""
        return await self._call(_calls.model(name, version), timeout_seconds)

    async def layers(
        self, model: str, selector: str = "", *, version: str = "", timeout_seconds: float | None = None
    ) -> list[LayerInfo]:
        """The layers of a model in execution order; with a selector only those it names."""
        return await self._call(_calls.layers(model, selector, version), timeout_seconds)

    async def blocks(self, name: str = "", *, timeout_seconds: float | None = None) -> list[BlockSpec]:
        """The server's block catalogue, or one entry of it."""
        return await self._call(_calls.blocks(name), timeout_seconds)

    async def load_model(self, name: str, *, timeout_seconds: float | None = None) -> ModelInfo:
        """Loads or reloads a model of the server's folder; the operator must have allowed it."""
        return await self._call(_calls.load_model(name), timeout_seconds)

    async def unload_model(self, name: str, *, timeout_seconds: float | None = None) -> None:
        """Takes a model out of service until it is loaded again."""
        await self._call(_calls.unload_model(name), timeout_seconds)

    async def close(self) -> None:
        """Closes the connection; calls under way end with `CancelledError`."""
        with contextlib.suppress(LayertapError):  # a server that does not answer is not waited for again and again
            for parting in self._routes.close():
                await self._call(parting, PARTING_SECONDS)
        self._is_closed = True
        if self._opened is not None:
            await self._opened.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def _channel(self) -> grpc.aio.Channel:
        """Made when it is first needed: it belongs to the loop that runs then."""
        if self._is_closed:
            raise UnavailableError("the client is closed")
        if self._opened is None:
            self._opened = self._connection.open(grpc.aio.insecure_channel, grpc.aio.secure_channel)
        return self._opened

    async def _drive(self, steps: Steps[Reply], timeout_seconds: float | None) -> Reply:
        """Does what a route asks for, until it has what was wanted."""
        try:
            step = next(steps)
            while True:
                try:
                    reply: object = await self._answer(step, timeout_seconds)
                except LayertapError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(reply)
        except StopIteration as end:
            result: Reply = end.value
            return result
        finally:
            steps.close()

    async def _answer(self, step: Call[Reply] | Exchange[Reply], timeout_seconds: float | None) -> Reply:
        if isinstance(step, Exchange):
            return await self._exchange(step, timeout_seconds)
        return await self._call(step, timeout_seconds)

    async def _call(self, call: Call[Reply], timeout_seconds: float | None) -> Reply:
        method: Any = self._channel.unary_unary(call.method)
        try:
            answer: bytes = await method(
                call.request, timeout=self._connection.timeout(timeout_seconds), metadata=self._connection.metadata
            )
        except grpc.RpcError as error:
            raise _calls.error_of(error) from error
        return call.decode(answer)

    async def _exchange(self, exchange: Exchange[Reply], timeout_seconds: float | None) -> Reply:
        stream = self._stream(iter(exchange.messages), self._connection.timeout(timeout_seconds), exchange.method)
        answer: Reply | None = None
        try:
            async for message in stream:  # to its end: a server notes a stream that its caller ends as cancelled
                if (whole := exchange.add(message)) is not None:
                    answer = whole
        except grpc.RpcError as error:
            if answer is None:
                raise _calls.error_of(error) from error
        finally:
            stream.cancel()
        if answer is None:
            raise UnavailableError("the server ended the stream without an answer")
        return answer

    def _stream(
        self,
        messages: Iterable[bytes] | AsyncIterable[bytes],
        timeout_seconds: float | None,
        path: str = _calls.EXTRACT_STREAM,
    ) -> Any:
        method: Any = self._channel.stream_stream(path)
        return method(messages, timeout=timeout_seconds, metadata=self._connection.metadata)
