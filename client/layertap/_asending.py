"""Send the calls of the asyncio client, over one channel for each event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterable
from typing import Any, TypeVar

import grpc

from layertap import _calls
from layertap._assumptions import Assumptions
from layertap._calls import Call, Exchange
from layertap._connection import CLOSED, Connection
from layertap._delivery import Delivery, DeliveryCalls
from layertap._rpc_errors import error_of
from layertap._rpc_methods import AsyncRpcMethods
from layertap._shared_memory import may_share_with
from layertap._waiting import Wait
from layertap.errors import LayertapError, UnavailableError
from layertap.wire import rpcs

Reply = TypeVar("Reply")


class AsyncSender(AsyncRpcMethods):
    """The channels to a server, and the methods that only make a call."""

    def _open(self, connection: Connection, shared_memory: bool) -> None:
        """Prepare to open a channel for each event loop."""
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
        path: str = rpcs.EXTRACT_STREAM.path,
    ) -> Any:
        """Open a stream of messages to the server."""
        method: Any = self._channel.stream_stream(path)
        return method(messages, timeout=timeout_seconds, metadata=self._connection.metadata)

    def _error_of(self, error: grpc.RpcError, images: tuple[str, ...] = ()) -> LayertapError:
        """Return the `LayertapError` for an error of gRPC."""
        return error_of(error, self._connection.place.shown, images)
