"""Send the calls of the blocking client over one channel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import grpc

from layertap._assumptions import Assumptions
from layertap._calls import Call, Exchange
from layertap._connection import CLOSED, Connection
from layertap._delivery import Delivery, DeliveryCalls
from layertap._response_reader import ResponseReader
from layertap._rpc_errors import error_of
from layertap._rpc_methods import RpcMethods
from layertap._shared_memory import may_share_with
from layertap.errors import LayertapError, UnavailableError
from layertap.wire import rpcs

Reply = TypeVar("Reply")


class Sender(RpcMethods):
    """A channel to a server, and the methods that only make a call."""

    def _open(self, connection: Connection, shared_memory: bool) -> None:
        """Open the channel."""
        self._connection = connection
        self._shared_memory = shared_memory
        self._channel = connection.open(grpc.insecure_channel, grpc.secure_channel)
        self._assumptions = Assumptions()
        self._delivery = Delivery(shares_memory=shared_memory and may_share_with(connection.address))
        self._is_closed = False

    def __getstate__(self) -> tuple[Connection, bool]:
        """Return the parameters, from which a pickled or copied client opens its own connection."""
        return self._connection, self._shared_memory

    def __setstate__(self, state: tuple[Connection, bool]) -> None:
        """Initialize a pickled or copied client from its parameters."""
        self._open(*state)

    def _run_delivery(self, delivery: DeliveryCalls[Reply], timeout_seconds: float | None) -> Reply:
        """Perform each call that a delivery yields and return the delivery's result."""
        try:
            call = next(delivery)
            while True:
                try:
                    reply: object = self._perform(call, timeout_seconds)
                except LayertapError as error:
                    call = delivery.throw(error)
                else:
                    call = delivery.send(reply)
        except StopIteration as end:
            result: Reply = end.value
            return result

    def _perform(self, call: Call[Reply] | Exchange[Reply], timeout_seconds: float | None) -> Reply:
        """Perform one call or exchange and return its response."""
        if isinstance(call, Exchange):
            return self._exchange(call, timeout_seconds)
        return self._call(call, timeout_seconds)

    def _call(self, call: Call[Reply], timeout_seconds: float | None) -> Reply:
        """Make a call and return its decoded response; raise the `LayertapError` of a failed call."""
        self._check_open()
        timeout = self._connection.timeout(timeout_seconds)
        try:
            method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(call.method)
            answer = method(call.request, timeout=timeout, metadata=self._connection.metadata)
        except grpc.RpcError as error:
            raise error_of(error, self._connection.place.shown, call.images) from None
        except ValueError as error:  # gRPC raises it if another thread has closed the channel
            self._check_open()
            raise UnavailableError(str(error)) from None
        return call.decode(answer)

    def _exchange(self, exchange: Exchange[Reply], timeout_seconds: float | None) -> Reply:
        """Send the messages of an exchange and read its stream until the response is complete."""
        stream = self._stream(iter(exchange.messages), self._connection.timeout(timeout_seconds), exchange.method)
        answer: Reply | None = None
        try:
            answer = next((whole for message in stream if (whole := exchange.add(message)) is not None), None)
        finally:
            if answer is None:  # after a complete response the server ends the stream
                stream.cancel()
        if answer is None:
            raise UnavailableError("the server ended the stream before the response was complete; try again")
        return answer

    def _stream(
        self, messages: Iterator[bytes], timeout_seconds: float | None, path: str = rpcs.EXTRACT_STREAM.path
    ) -> ResponseReader:
        """Open a stream of messages to the server and return a reader of its responses."""
        self._check_open()
        try:
            method: grpc.StreamStreamMultiCallable[bytes, bytes] = self._channel.stream_stream(path)
            stream = method(messages, timeout=timeout_seconds, metadata=self._connection.metadata)
        except ValueError as error:
            self._check_open()
            raise UnavailableError(str(error)) from None
        return ResponseReader(stream, self._connection.place.shown)

    def _check_open(self) -> None:
        """Raise `UnavailableError` if the client is closed."""
        if self._is_closed:
            raise UnavailableError(CLOSED)
