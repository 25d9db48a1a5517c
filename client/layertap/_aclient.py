"""The asyncio client: `AsyncClient` has the same methods as `Client`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from layertap import _calls, _delivery
from layertap._assumptions import Assumptions
from layertap._bulk import AsyncFeed, Bulk
from layertap._calls import Call, Exchange
from layertap._connection import CLOSED, DEFAULT_ADDRESS, DEFAULT_TIMEOUT_SECONDS, PARTING_SECONDS, Connection, Tls
from layertap._delivery import Delivery, DeliveryCalls
from layertap._features import ExtractedItem, Features
from layertap._progress import length_of, with_async_progress
from layertap._shared_memory import may_share_with
from layertap._waiting import Wait, check_wait
from layertap.blocks.spec import BlockSpec
from layertap.errors import LayertapError, UnavailableError
from layertap.images import ImageLike, as_images, is_one_image, to_payloads
from layertap.types import (
    ApplyRequest,
    Array,
    Block,
    ExtractRequest,
    FeatureMap,
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
    """A connection to a Layertap server for asyncio; use it with ``async with``, or call `close`.

    The client opens one connection per event loop that uses it.

    Every method takes the same arguments, returns the same values and raises the same errors as the method of
    `layertap.Client` with the same name.
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
        wait_seconds: float = 0.0,
    ) -> None:
        """Create a client without connecting; the parameters are those of `layertap.Client`.

        Unlike `layertap.Client`, the constructor does not wait for the server: ``async with``, or otherwise the first
        call, waits up to ``wait_seconds``.
        """
        check_wait(wait_seconds)
        self._open(Connection(address, timeout_seconds, tls, token, grpc_options), shared_memory)
        self._wait_seconds = wait_seconds

    def _open(self, connection: Connection, shared_memory: bool) -> None:
        """Initialize the client's state for a connection."""
        self._connection = connection
        self._shared_memory = shared_memory
        self._assumptions = Assumptions()
        self._delivery = Delivery(shares_memory=shared_memory and may_share_with(connection.address))
        self._channels: dict[asyncio.AbstractEventLoop, grpc.aio.Channel] = {}
        self._wait_seconds = 0.0
        self._is_closed = False

    def __getstate__(self) -> tuple[Connection, bool]:
        """Return the parameters, from which a pickled or copied client opens its own connection."""
        return self._connection, self._shared_memory

    def __setstate__(self, state: tuple[Connection, bool]) -> None:
        """Initialize a pickled or copied client from its parameters."""
        self._open(*state)

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
        """Extract features of one image or several, all or nothing; read image files on another thread."""
        payloads = await asyncio.to_thread(to_payloads, images)
        request = ExtractRequest(model, payloads, as_sequence(taps), version, inputs or {})
        features = await self._run_delivery(self._delivery.extract(request), timeout_seconds)
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
        """Extract features of any number of images over one stream and yield them one by one.

        ``images`` may also be an asynchronous iterable.
        """
        bulk = Bulk(ExtractRequest(model, (), as_sequence(taps), version), ordered=ordered)
        given: Any = images
        is_asynchronous = isinstance(images, AsyncIterable) and not is_one_image(images)  # aiofiles' files are iterable
        several = given if is_asynchronous else as_images(given)
        items = self._run_bulk(bulk, AsyncFeed(bulk, several))
        return with_async_progress(items, length_of(several)) if progress else items

    async def _check_bulk(self, bulk: Bulk) -> None:
        """Raise `TooFewImagesError` if a block needs several images; the stream reports all other errors."""
        try:
            preview = await self._call(_calls.preview(bulk.preview), None)
        except LayertapError:
            return
        bulk.check(preview)

    async def _run_bulk(self, bulk: Bulk, feed: AsyncFeed) -> AsyncGenerator[ExtractedItem]:
        """Run a bulk extraction, reopening the stream when it breaks, and yield each image's item."""
        await self._wait()
        await self._check_bulk(bulk)
        try:
            while True:
                stream = self._stream(feed.messages(), None)
                try:
                    async for message in stream:
                        for item in bulk.process(message):
                            feed.wake()
                            if item.features is not None:
                                self._assumptions.warn(bulk.request.model, item.features.assumed_preprocessing)
                            yield item
                except grpc.RpcError as error:
                    await asyncio.sleep(bulk.handle_failure(self._error_of(error)))
                else:
                    if not bulk.has_unanswered:
                        break
                    await asyncio.sleep(bulk.handle_failure(UnavailableError("the server ended the stream too early")))
                finally:
                    stream.cancel()
            for item in bulk.take_ready():
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
        """Preview `extract`: return its results and cost for ``image_count`` images without running the model."""
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
        """Return activation statistics of layers over all images, in the order of the selectors."""
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
        """Apply a head to an array of your own, batch first; no model is needed."""
        return (await self.apply_blocks_map(array, head, layout=layout, timeout_seconds=timeout_seconds)).array

    async def apply_blocks_map(
        self,
        array: Array,
        head: str | Sequence[Block],
        *,
        layout: Layout | None = None,
        timeout_seconds: float | None = None,
    ) -> FeatureMap:
        """Apply a head as `apply_blocks` does; return the array with its layout and, after ``quantize``, its scale."""
        request = ApplyRequest(array, head if isinstance(head, str) else tuple(head), layout)
        return await self._run_delivery(_delivery.apply_blocks(request), timeout_seconds)

    async def models(self, *, timeout_seconds: float | None = None) -> list[ModelInfo]:
        """Return every model of the server, including those that failed to load."""
        return await self._call(_calls.models(), timeout_seconds)

    async def model(self, name: str, *, version: str = "", timeout_seconds: float | None = None) -> ModelInfo:
        """Return one model, with its class names."""
        return await self._call(_calls.model(name, version), timeout_seconds)

    async def layers(
        self, model: str, selector: str = "", *, version: str = "", timeout_seconds: float | None = None
    ) -> list[LayerInfo]:
        """Return the layers of a model in execution order; with a selector, only the layers that it matches."""
        return await self._call(_calls.layers(model, selector, version), timeout_seconds)

    async def blocks(self, name: str = "", *, timeout_seconds: float | None = None) -> list[BlockSpec]:
        """Return the server's block catalogue, or only the entry called ``name``."""
        return await self._call(_calls.blocks(name), timeout_seconds)

    async def load_model(self, name: str, *, timeout_seconds: float | None = None) -> ModelInfo:
        """Load or reload a model of the server's repository; the operator must have allowed it."""
        return await self._call(_calls.load_model(name), timeout_seconds)

    async def unload_model(self, name: str, *, timeout_seconds: float | None = None) -> None:
        """Take a model out of service until it is loaded again."""
        await self._call(_calls.unload_model(name), timeout_seconds)

    async def close(self) -> None:
        """Close the connection; calls in progress end with `CancelledError`."""
        with contextlib.suppress(LayertapError):  # stop at the first region that the server does not release in time
            for parting in self._delivery.close():
                await self._send(parting, PARTING_SECONDS)
        self._is_closed = True
        channel = self._channels.pop(asyncio.get_running_loop(), None)
        self._channels.clear()  # channels of other loops close when they are garbage-collected
        if channel is not None:
            await channel.close()

    async def __aenter__(self) -> Self:
        """Wait for the server for up to ``wait_seconds`` and return the client."""
        await self._wait()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        await self.close()

    async def _wait(self) -> None:
        """Wait until the server is ready; return at once if ``wait_seconds`` is 0."""
        wait = Wait(self._wait_seconds)
        while self._wait_seconds:
            try:
                await self._send(_calls.health(), wait.attempt_seconds)
            except LayertapError as error:
                await asyncio.sleep(wait.pause_after(error))
            else:
                self._wait_seconds = 0.0

    @property
    def _channel(self) -> grpc.aio.Channel:
        """The running event loop's channel, opened on first use."""
        if self._is_closed:
            raise UnavailableError(CLOSED)
        loop = asyncio.get_running_loop()
        if loop not in self._channels:
            self._channels = {other: channel for other, channel in self._channels.items() if not other.is_closed()}
            self._channels[loop] = self._connection.open(grpc.aio.insecure_channel, grpc.aio.secure_channel)
        return self._channels[loop]

    async def _run_delivery(self, delivery: DeliveryCalls[Reply], timeout_seconds: float | None) -> Reply:
        """Perform each call that a delivery yields and return the delivery's result."""
        try:
            call = next(delivery)
            while True:
                try:
                    reply: object = await self._perform(call, timeout_seconds)
                except LayertapError as error:
                    call = delivery.throw(error)
                else:
                    call = delivery.send(reply)
        except StopIteration as end:
            result: Reply = end.value
            return result
        finally:
            delivery.close()

    async def _perform(self, call: Call[Reply] | Exchange[Reply], timeout_seconds: float | None) -> Reply:
        """Perform one call or exchange and return its response."""
        if isinstance(call, Exchange):
            return await self._exchange(call, timeout_seconds)
        return await self._call(call, timeout_seconds)

    async def _call(self, call: Call[Reply], timeout_seconds: float | None) -> Reply:
        """Wait for the server if ``wait_seconds`` is set, then make a call."""
        await self._wait()
        return await self._send(call, timeout_seconds)

    async def _send(self, call: Call[Reply], timeout_seconds: float | None) -> Reply:
        """Make a call without waiting for the server; raise the `LayertapError` of a failed call."""
        method: Any = self._channel.unary_unary(call.method)
        timeout = self._connection.timeout(timeout_seconds)
        try:
            answer: bytes = await method(call.request, timeout=timeout, metadata=self._connection.metadata)
        except grpc.RpcError as error:
            raise self._error_of(error, call.images) from None
        return call.decode(answer)

    async def _exchange(self, exchange: Exchange[Reply], timeout_seconds: float | None) -> Reply:
        """Send the messages of an exchange and read its stream until the response is complete."""
        await self._wait()
        stream = self._stream(iter(exchange.messages), self._connection.timeout(timeout_seconds), exchange.method)
        answer: Reply | None = None
        try:
            async for message in stream:  # to its end, lest the server count the stream as cancelled
                if (whole := exchange.add(message)) is not None:
                    answer = whole
        except grpc.RpcError as error:
            if answer is None:
                raise self._error_of(error) from None
        finally:
            stream.cancel()
        if answer is None:
            raise UnavailableError("the server ended the stream before the response was complete; try again")
        return answer

    def _stream(
        self,
        messages: Iterable[bytes] | AsyncIterable[bytes],
        timeout_seconds: float | None,
        path: str = _calls.EXTRACT_STREAM,
    ) -> Any:
        """Open a stream of messages to the server."""
        method: Any = self._channel.stream_stream(path)
        return method(messages, timeout=timeout_seconds, metadata=self._connection.metadata)

    def _error_of(self, error: grpc.RpcError, images: tuple[str, ...] = ()) -> LayertapError:
        """Return the `LayertapError` for an error of gRPC."""
        return _calls.error_of(error, self._connection.place.shown, images)
