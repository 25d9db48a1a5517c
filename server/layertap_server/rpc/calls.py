"""The functions that handle calls, by kind, and what the dispatcher gives to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import grpc

from layertap.errors import (
    LayertapError,
)
from layertap_server.request.cancellation import Cancellation
from layertap_server.request.context import RequestContext

Method: TypeAlias = Callable[[bytes, RequestContext], bytes]
"""A unary method: serialized request and request context to serialized response."""
Chunked: TypeAlias = Callable[[bytes, RequestContext], Iterator[bytes]]
"""A method whose response is several messages. The event loop makes each as it is sent, so each must be cheap."""
Messages: TypeAlias = AsyncIterator[bytes]
"""Serialized messages received on a stream."""
Call: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
"""gRPC's object of one call."""
Observer: TypeAlias = Callable[[RequestContext], None]
"""Callback for each ended request and each ended stream item. It runs on the event loop, so it must be quick."""


@dataclass(frozen=True, slots=True)
class StreamTools:
    """Functions and state that the dispatcher passes to a streaming method."""

    turn: Callable[[int], Awaitable[AbstractContextManager[None]]]
    """Function that waits for the turn of a message of the given bytes; the turn ends with the returned context."""
    run: Callable[[Callable[[], Any], int, Cancellation], Awaitable[Any]]
    """Function that runs a job holding the given bytes on a worker; the caller must have a turn."""
    failure_of: Callable[[Exception], LayertapError]
    """Function that maps an exception to the error that the caller receives."""
    draining: asyncio.Event
    """Event that is set when the server begins to stop."""
    workers: int
    """Number of worker threads."""
    context: RequestContext
    """Request context of the stream."""
    finish: Observer
    """Function that stops the clock of an item and reports it; to be called once per item."""


Stream: TypeAlias = Callable[[Messages, Call, StreamTools], Awaitable[None]]
"""A bidirectional streaming method."""
Handler: TypeAlias = Method | Chunked | Stream
"""Handler of an RPC, by its kind."""


class Writer(Protocol):
    """The part of gRPC's context that sends messages."""

    def write(self, message: bytes) -> Awaitable[None]:
        """Send one message."""
