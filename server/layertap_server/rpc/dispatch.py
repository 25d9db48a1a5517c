"""Dispatch of gRPC calls to worker threads: admission, deadlines, and the mapping of errors to statuses.

Handlers receive and return bytes, because parsing and serializing large messages would block the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import grpc

from layertap.errors import (
    DeadlineError,
    LayertapError,
    OverloadedError,
)
from layertap.wire.rpcs import Kind, Pool, Rpc
from layertap_server.request.context import CANCELLED, RequestContext
from layertap_server.rpc.call_metadata import context_of
from layertap_server.rpc.calls import Call, Chunked, Handler, Messages, Method, Observer, Stream, StreamTools
from layertap_server.rpc.endings import abort, draining_error, error_for, fail, record_passed_deadline, trailer, write
from layertap_server.rpc.tracebacks import forget_frames
from layertap_server.rpc.worker_pool import RETRY_AFTER_MS, QueueLimits, WorkerPool

log = logging.getLogger(__name__)

WORKER_NICENESS = 5
"""Niceness added to worker threads, so that the event loop and listings take precedence."""
LISTING_LIMITS = QueueLimits(1000, 2**26)
"""Queue limits of listing and control methods, independent of the configured limits for extractions."""


class _Received(AsyncIterator[bytes]):
    """Iterator over the messages of a stream. Unlike gRPC's own iterator it keeps no reference to the last message."""

    def __init__(self, call: Call) -> None:
        self._call = call

    async def __anext__(self) -> bytes:
        """Return the next message."""
        message = await self._call.read()
        if not isinstance(message, bytes):
            raise StopAsyncIteration
        return message


class _Service(grpc.ServiceRpcHandler):
    """Handlers of one service; unary calls can be refused when they begin, before gRPC reads the request message."""

    def __init__(
        self,
        name: str,
        handlers: Mapping[str, Any],
        refusable: Collection[str],
        refusal: Callable[[], LayertapError | None],
        finish: Observer,
    ) -> None:
        """Serve ``handlers`` by gRPC path.

        Args:
            name: full name of the service.
            handlers: gRPC method handler of each path.
            refusable: paths of the calls that can be refused when they begin.
            refusal: function called at the start of each of these calls; it returns the error to refuse it with, or
                None.
            finish: function called with the request context of each refused call.
        """
        self._name = name
        self._handlers = handlers
        self._refusable = refusable
        self._refusal = refusal
        self._finish = finish

    def service_name(self) -> str:
        """Return the full name of the service."""
        return self._name

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return the handler for a call, or one that refuses it; None for an unknown method."""
        path = handler_call_details.method
        failure = self._refusal() if path in self._refusable else None
        return self._handlers.get(path) if failure is None else refusing_handler(path, failure, self._finish)


class Dispatcher:
    """Runs methods on worker threads and limits how many requests run, wait and stream at a time."""

    def __init__(
        self, workers: int, limits: QueueLimits, observers: Sequence[Observer] = (), *, most_streams: int = 1024
    ) -> None:
        """Start the worker threads.

        Args:
            workers: number of worker threads for extractions.
            limits: limits of the queue of extractions.
            observers: callbacks for each ended request and stream item.
            most_streams: maximum number of open streams.
        """
        # Extractions run at a lower priority: the event loop and listings are short and should answer at once.
        self._work = WorkerPool(workers, limits, "worker", WORKER_NICENESS)
        # Separate pools, so that listings do not wait for extractions, and neither waits for a model to load.
        self._listing = WorkerPool(1, LISTING_LIMITS, "listing")
        self._control = WorkerPool(1, LISTING_LIMITS, "control")
        self._pools = {Pool.WORK: self._work, Pool.LISTING: self._listing, Pool.CONTROL: self._control}
        self._workers = workers
        self._observers = observers
        self._draining = asyncio.Event()
        self._most_streams = most_streams
        self.streams = 0
        """Number of open streams."""
        self._open = 0
        """Number of calls that have not been answered completely, without listings."""

    @property
    def admitted(self) -> int:
        """Number of extractions that wait or run."""
        return self._work.admitted

    @property
    def is_busy(self) -> bool:
        """Whether any request other than a listing waits, runs, streams or is still being sent."""
        return bool(self._open or self._work.admitted or self._control.admitted)

    @property
    def waiting(self) -> int:
        """Number of extractions that wait for a worker."""
        return self._work.waiting

    @property
    def is_draining(self) -> bool:
        """Whether new requests are refused, since the server stops."""
        return self._draining.is_set()

    def drain(self) -> None:
        """Refuse new requests from now on; requests in progress continue."""
        self._draining.set()

    def close(self) -> None:
        """Drop the waiting jobs and end the worker threads, without waiting for running jobs."""
        self._work.close()
        self._listing.close()
        self._control.close()

    def service(self, handlers: Mapping[Rpc, Handler]) -> grpc.GenericRpcHandler:
        """Return the gRPC handlers of one service.

        Args:
            handlers: handler of each RPC of the service; a `Method`, `Chunked` or `Stream` by the RPC's kind.
        """
        (service,) = {rpc.service for rpc in handlers}
        makers: dict[Kind, tuple[Callable[..., Any], Callable[..., Any]]] = {
            Kind.UNARY: (self._unary, grpc.unary_unary_rpc_method_handler),
            Kind.CHUNKED: (self._unary, grpc.unary_stream_rpc_method_handler),
            Kind.STREAM: (self._stream, grpc.stream_stream_rpc_method_handler),
        }
        made: dict[str, Any] = {}
        refusable = set()
        for rpc, handler in handlers.items():
            adapt, make = makers[rpc.kind]
            made[rpc.path] = make(adapt(rpc, handler))
            if rpc.pool is Pool.WORK and rpc.kind is not Kind.STREAM:
                refusable.add(rpc.path)
        return _Service(service, made, refusable, self._refusal, self.finish)

    def _refusal(self) -> OverloadedError | None:
        """Return the error for a new request if the queue has no free place, else None."""
        try:
            self._work.check_capacity()
        except OverloadedError as error:
            forget_frames(error)
            return error
        return None

    def _unary(self, rpc: Rpc, method: Method | Chunked) -> Callable[..., Any]:
        """Return the coroutine function that gRPC calls for a unary or chunked method."""
        pool = self._pools[rpc.pool]

        async def handle(request: bytes, call: Call) -> bytes | None:
            context = context_of(rpc.service, rpc.name, call, quick=pool is not self._work)
            context.bytes_in = len(request)
            try:
                if pool is not self._listing:
                    self._count_open()
                running = pool.run(_make_job(method, request, context), len(request), context.cancellation)
                del request  # the frame of this handler may outlive the work: a chunked response waits for its reader
                reply = await running
                return await self._reply(reply, call, context)
            except asyncio.CancelledError as error:
                forget_frames(error)
                record_passed_deadline(context, call)
                self.finish(context)
                raise
            except Exception as error:  # noqa: BLE001 - an unexpected error is reported with an incident id
                failure = error_for(context, error)
            context.fail(failure)
            self.finish(context)
            return await abort(call, failure, context)

        return handle

    async def _reply(self, reply: bytes | Iterator[bytes], call: Call, context: RequestContext) -> bytes | None:
        """Send a chunked response and return None, or return a whole response for gRPC to send."""
        chunks = () if isinstance(reply, bytes) else reply
        for message in chunks:
            await write(message, call)
            context.bytes_out += len(message)
        whole = reply if isinstance(reply, bytes) else None
        context.bytes_out += len(whole or b"")
        context.succeed()
        context.end()
        call.set_trailing_metadata(trailer(context))
        # Scheduled, so that the response is sent before metrics and the log are updated.
        asyncio.get_running_loop().call_soon(self._notify, context)
        return whole

    def _stream(self, rpc: Rpc, stream: Stream) -> Callable[..., Any]:
        """Return the coroutine function that gRPC calls for a streaming method."""

        async def handle(_messages: Messages, call: Call) -> None:
            context = context_of(rpc.service, rpc.name, call, is_stream=True)
            failure: LayertapError | None = None
            self.streams += 1
            try:
                self._count_open()
                self._check_streams()
                await stream(_Received(call), call, self._tools(context))
                context.succeed()
            except asyncio.CancelledError as error:
                forget_frames(error)
                record_passed_deadline(context, call)
                raise
            except Exception as error:  # noqa: BLE001 - an unexpected error is reported with an incident id
                failure = error_for(context, error)
                context.fail(failure)
            finally:
                self.streams -= 1
                self.finish(context)
            if failure is not None and failure.status != CANCELLED:  # a cancelled call receives no status
                fail(call, failure, context)
                return
            call.set_trailing_metadata(trailer(context))

        return handle

    def _tools(self, context: RequestContext) -> StreamTools:
        """Return the tools of one stream."""
        return StreamTools(
            turn=self._work.stream_turn,
            run=self._work.run_in_turn,
            failure_of=lambda error: error_for(context, error),
            draining=self._draining,
            workers=self._workers,
            context=context,
            finish=self.finish,
        )

    def finish(self, context: RequestContext) -> None:
        """Stop the clock of a request or stream item and report it to the observers."""
        context.end()
        self._notify(context)

    def _notify(self, context: RequestContext) -> None:
        """Report an ended request to the observers."""
        for observer in self._observers:
            observer(context)

    def _count_open(self) -> None:
        """Count the call as open until its response has been sent completely.

        Raises:
            DrainingError: the server is stopping.
        """
        if self._draining.is_set():
            raise draining_error()
        self._open += 1
        if task := asyncio.current_task():  # not a callback on gRPC's context: that is a reference cycle
            task.add_done_callback(self._count_closed)

    def _check_streams(self) -> None:
        """Raise `OverloadedError` if too many streams are open."""
        if self.streams > self._most_streams:
            raise OverloadedError(
                f"{self._most_streams} streams are open, which is the limit (--max-streams); retry later",
                retry_after_ms=RETRY_AFTER_MS,
                limit=self._most_streams,
            )

    def _count_closed(self, _task: object) -> None:
        """Count one open call less; called when the call's task ends."""
        self._open -= 1


def _make_job(
    method: Method | Chunked, request: bytes, context: RequestContext
) -> Callable[[], bytes | Iterator[bytes]]:
    """Return the job that runs the method on a worker, unless the request's deadline has passed by then."""
    arrived = time.perf_counter()
    context.add("admission", context.began, arrived)

    def job() -> bytes | Iterator[bytes]:
        begun = time.perf_counter()
        context.add("queue", arrived, begun)
        if begun > context.deadline:
            raise DeadlineError("the deadline passed while the request waited; nothing was computed")
        return method(request, context)

    return job


def refusing_handler(method: str, failure: LayertapError, finish: Observer) -> Any:
    """Return a handler that ends the call with ``failure`` without reading the request, which may be large."""

    async def refuse(_messages: Any, call: Any) -> None:
        service, _, name = method.strip("/").partition("/")
        context = context_of(service, name, call, quick=True)
        context.fail(failure)
        finish(context)
        fail(call, failure, context)

    return grpc.stream_stream_rpc_method_handler(refuse)
