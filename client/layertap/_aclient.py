"""The asyncio client: `AsyncClient` has the same methods as `Client`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self

import grpc

from layertap import _calls, _delivery
from layertap._asending import AsyncSender
from layertap._bulk import Bulk
from layertap._connection import DEFAULT_ADDRESS, DEFAULT_TIMEOUT_SECONDS, PARTING_SECONDS, Connection, Tls
from layertap._features import ExtractedItem, Features
from layertap._feeds import AsyncFeed
from layertap._progress import length_of, with_async_progress
from layertap._rows import payloads_of, rows_of, rows_of_async, to_inputs
from layertap._waiting import check_wait
from layertap.errors import LayertapError, UnavailableError
from layertap.images import ImageLike, is_one_image
from layertap.types import (
    ApplyRequest,
    Array,
    AttributeRequest,
    Attribution,
    Block,
    ExtractRequest,
    FeatureMap,
    InspectRequest,
    LayerStatistics,
    Layout,
    Tap,
    Target,
    TargetChoice,
    WeightsRequest,
    as_names,
    as_sequence,
)
from layertap.wire import rpcs


class AsyncClient(AsyncSender):
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

    async def extract(
        self,
        images: ImageLike | Iterable[ImageLike] | None = None,
        *,
        model: str,
        taps: Tap | str | Sequence[Tap | str] = (),
        version: str = "",
        inputs: Mapping[str, Array] | None = None,
        target: Tap | str = "",
        target_index: TargetChoice = "top",
        edits: Tap | str | Sequence[Tap | str] = (),
        timeout_seconds: float | None = None,
    ) -> Features:
        """Extract features of one image or several, all or nothing; read image files on another thread."""
        payloads = await asyncio.to_thread(payloads_of, images)
        goal = Target.of(target, target_index)
        request = ExtractRequest(
            model=model,
            images=payloads,
            taps=as_sequence(taps),
            version=version,
            inputs=to_inputs(inputs),
            target=goal,
            edits=as_sequence(edits),
        )
        features = await self._run_delivery(self._delivery.extract(request), timeout_seconds)
        self._assumptions.warn(model, features.assumed_preprocessing)
        return features

    def extract_many(
        self,
        images: ImageLike | Iterable[ImageLike] | AsyncIterable[ImageLike] | None = None,
        *,
        model: str,
        taps: Tap | str | Sequence[Tap | str] = (),
        version: str = "",
        inputs: Mapping[str, Array] | None = None,
        target: Tap | str = "",
        target_index: int | str = "top",
        edits: Tap | str | Sequence[Tap | str] = (),
        ordered: bool = True,
        progress: bool = False,
    ) -> AsyncGenerator[ExtractedItem]:
        """Extract features of any number of images over one stream and yield them one by one.

        ``images`` may also be an asynchronous iterable.
        """
        goal, changes = Target.of(target, target_index), as_sequence(edits)
        request = ExtractRequest(model, (), as_sequence(taps), version, target=goal, edits=changes)
        bulk = Bulk(request, ordered=ordered)
        given: Any = images
        is_asynchronous = isinstance(images, AsyncIterable) and not is_one_image(images)  # aiofiles' files are iterable
        several = (rows_of_async(given, inputs) if inputs else given) if is_asynchronous else rows_of(given, inputs)
        items = self._run_bulk(bulk, AsyncFeed(bulk, several))
        return with_async_progress(items, length_of(several)) if progress else items

    async def _check_bulk(self, bulk: Bulk) -> None:
        """Raise `TooFewImagesError` if a block needs several images; the stream reports all other errors."""
        try:
            preview = await self._call(_calls.call_of(rpcs.PREVIEW_EXTRACT, bulk.preview), None)
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

    async def inspect(
        self,
        images: ImageLike | Iterable[ImageLike] | None = None,
        *,
        model: str,
        selectors: str | Sequence[str] = (),
        version: str = "",
        inputs: Mapping[str, Array] | None = None,
        edits: Tap | str | Sequence[Tap | str] = (),
        timeout_seconds: float | None = None,
    ) -> tuple[LayerStatistics, ...]:
        """Return activation statistics of layers over all images, in the order of the selectors."""
        names = as_names(selectors)
        payloads = await asyncio.to_thread(payloads_of, images)
        request = InspectRequest(model, payloads, names, version, to_inputs(inputs), as_sequence(edits))
        response = await self._call(_calls.inspect(request), timeout_seconds)
        self._assumptions.warn(model, response.assumed_preprocessing)
        return response.layers

    async def attribute(
        self,
        images: ImageLike | Iterable[ImageLike] | None = None,
        *,
        model: str,
        method: str = "grad_cam",
        layer: str = "",
        target: Tap | str = "",
        target_index: TargetChoice = "top",
        size: Literal["input", "layer"] = "input",
        version: str = "",
        inputs: Mapping[str, Array] | None = None,
        edits: Tap | str | Sequence[Tap | str] = (),
        timeout_seconds: float | None = None,
    ) -> Attribution:
        """Return how much each position contributed to the target of each image; see `layertap.Client.attribute`."""
        goal = Target.of(target, target_index)
        payloads = await asyncio.to_thread(payloads_of, images)
        request = AttributeRequest(
            model, payloads, method, layer, goal, size, version, to_inputs(inputs), as_sequence(edits)
        )
        result = await self._perform(_calls.attribute(request), timeout_seconds)
        self._assumptions.warn(model, result.assumed_preprocessing)
        return result

    async def apply_blocks(
        self,
        array: Array,
        head: str | Sequence[Block],
        *,
        layout: Layout | None = None,
        gradient: Array | None = None,
        timeout_seconds: float | None = None,
    ) -> Array:
        """Apply a head to an array of your own, batch first; no model is needed."""
        return (
            await self.apply_blocks_map(array, head, layout=layout, gradient=gradient, timeout_seconds=timeout_seconds)
        ).array

    async def apply_blocks_map(
        self,
        array: Array,
        head: str | Sequence[Block],
        *,
        layout: Layout | None = None,
        gradient: Array | None = None,
        timeout_seconds: float | None = None,
    ) -> FeatureMap:
        """Apply a head as `apply_blocks` does; return the array with its layout and, after ``quantize``, its scale."""
        request = ApplyRequest(array, head if isinstance(head, str) else tuple(head), layout, gradient)
        return await self._run_delivery(_delivery.apply_blocks(request), timeout_seconds)

    async def weights(
        self, model: str, layer: str, *, version: str = "", timeout_seconds: float | None = None
    ) -> dict[str, Array]:
        """Return the parameters of layers, such as filters and biases, as they are stored, by name."""
        request = WeightsRequest(model, layer, version=version)
        return await self._perform(_calls.weights(request), timeout_seconds)

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
