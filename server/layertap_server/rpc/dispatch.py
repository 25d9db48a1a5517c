"""How a call becomes a job: admission, deadline, a worker thread, and the error table.

Handlers get and give bytes: parsing and serializing large messages is work, and the event loop does none.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias, TypeGuard

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import DecodeError

from layertap import wire
from layertap.errors import (
    CancelledError,
    DeadlineError,
    DrainingError,
    InvalidRequestError,
    LayertapError,
    OverloadedError,
    ServerFault,
)
from layertap_server.request.context import CANCELLED, RequestContext
from layertap_server.rpc.call_metadata import REQUEST_ID, context_of
from layertap_server.rpc.worker_pool import RETRY_AFTER_MS, QueueLimits, WorkerPool
from layertap_server.runtime.shortage import shortage_in

log = logging.getLogger(__name__)

WORKER_NICENESS = 5
LISTING_LIMITS = QueueLimits(1000, 2**26)
"""Whatever an operator leaves to extractions: listings always answer."""
ON_THE_WAY_SECONDS = 0.05
DETAILS = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class Call:
    """What a method may want to know of its call."""

    queue_ms: float
    """How long it waited for a worker."""


Method: TypeAlias = Callable[[bytes, Call], bytes]
Chunked: TypeAlias = Callable[[bytes, Call], Iterator[bytes]]
"""A method whose answer is a few messages; they are made one by one as they are sent, so making one must be quick."""
Messages: TypeAlias = AsyncIterator[bytes]
Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
Observer: TypeAlias = Callable[[RequestContext], None]
"""Is told of every request, and of every item of a stream, that has ended; on the event loop, so it must be quick."""


@dataclass(frozen=True, slots=True)
class StreamTools:
    """What a method of a stream is given: a way to run work, to make an error of a failure, to know when to end."""

    turn: Callable[[int], Awaitable[AbstractContextManager[None]]]
    """Waits for the turn of a message of this many bytes; the turn lasts as long as the context."""
    run: Callable[[Callable[[], Any], int], Awaitable[Any]]
    """Runs a job that holds this many bytes on a worker; the caller has a turn."""
    failure_of: Callable[[Exception], LayertapError]
    draining: asyncio.Event
    workers: int
    record: RequestContext
    ended: Observer
    """Is to be told of each item."""


Stream: TypeAlias = Callable[[Messages, Context, StreamTools], Awaitable[None]]


class Writer(Protocol):
    """What sending needs of gRPC's context."""

    def write(self, message: bytes) -> Awaitable[None]: ...


class _Received(AsyncIterator[bytes]):
    """The messages of a stream; gRPC's own iterator keeps the last one as long as the call lasts, and longer."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def __anext__(self) -> bytes:
        message = await self._context.read()
        if not isinstance(message, bytes):
            raise StopAsyncIteration
        return message


class _Service(grpc.ServiceRpcHandler):
    """A service whose calls can be refused when they begin, before gRPC reads the message of the request."""

    def __init__(
        self, name: str, handlers: Mapping[str, Any], refusal: Callable[[], LayertapError | None], ended: Observer
    ) -> None:
        """``refusal`` is asked at the start of each unary call; ``ended`` is told of each call that it refuses."""
        self._name = name
        self._handlers = {f"/{name}/{method}": handler for method, handler in handlers.items()}
        self._refusal = refusal
        self._ended = ended

    def service_name(self) -> str:
        return self._name

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        handler = self._handlers.get(handler_call_details.method)
        if handler is None or handler.request_streaming:
            return handler
        failure = self._refusal()
        return handler if failure is None else refusing(handler_call_details.method, failure, self._ended)


class Dispatcher:
    """Runs methods on worker threads, so many at once and so many waiting."""

    def __init__(
        self, workers: int, room: QueueLimits, observers: Sequence[Observer] = (), *, most_streams: int = 1024
    ) -> None:
        """``most_streams``: number of streams that may be open at a time."""
        # The event loop and listings come first: they are short, and somebody waits for each.
        self._work = WorkerPool(workers, room, "worker", WORKER_NICENESS)
        # Listings never wait behind extractions, nor either of them behind a model that is loaded.
        self._listing = WorkerPool(1, LISTING_LIMITS, "listing")
        self._control = WorkerPool(1, LISTING_LIMITS, "control")
        self._workers = workers
        self._observers = observers
        self._draining = asyncio.Event()
        self._most_streams = most_streams
        self.streams = 0
        """That are open."""
        self._open = 0

    @property
    def admitted(self) -> int:
        """Extractions that wait or run."""
        return self._work.admitted

    @property
    def is_busy(self) -> bool:
        """Whether anything but listings waits, runs, streams or is still being sent."""
        return bool(self._open or self._work.admitted or self._control.admitted)

    @property
    def waiting(self) -> int:
        """Extractions that wait for a worker."""
        return self._work.waiting

    def drain(self) -> None:
        """From now on new requests are refused; those under way go on."""
        self._draining.set()

    def close(self) -> None:
        """Drops what waits; what runs is not waited for."""
        self._work.close()
        self._listing.close()
        self._control.close()

    def service(
        self,
        descriptor: ServiceDescriptor,
        methods: Mapping[str, Method],
        streams: Mapping[str, Stream] = MappingProxyType({}),
        chunked: Mapping[str, Chunked] = MappingProxyType({}),
        *,
        quick: bool,
        slow: Collection[str] = (),
    ) -> grpc.GenericRpcHandler:
        """The handlers of a service.

        ``quick``: its methods are listings; ``slow`` ones among them change what is listed.
        """
        handlers: dict[str, Any] = {
            name: grpc.unary_unary_rpc_method_handler(
                self._unary(descriptor.full_name, name, method, self._lane(name, quick=quick, slow=slow))
            )
            for name, method in methods.items()
        }
        for name, in_chunks in chunked.items():
            handlers[name] = grpc.unary_stream_rpc_method_handler(
                self._unary(descriptor.full_name, name, in_chunks, self._work)
            )
        for name, stream in streams.items():
            handlers[name] = grpc.stream_stream_rpc_method_handler(self._stream(descriptor.full_name, name, stream))
        refusal = _never if quick else self._refusal
        return _Service(descriptor.full_name, handlers, refusal, self.ended)

    def _refusal(self) -> OverloadedError | None:
        """Return the error for a request that finds the queue full, whatever its size."""
        try:
            self._work.check_room()
        except OverloadedError as error:
            forget_frames(error)
            return error
        return None

    def _lane(self, method: str, *, quick: bool, slow: Collection[str]) -> WorkerPool:
        if method in slow:
            return self._control
        return self._listing if quick else self._work

    def _unary(self, service: str, name: str, method: Method | Chunked, lane: WorkerPool) -> Callable[..., Any]:
        async def handle(request: bytes, context: Context) -> bytes | None:
            record = context_of(service, name, context, quick=lane is not self._work)
            record.bytes_in = len(request)
            try:
                if lane is not self._listing:
                    self._enter()
                reply = await lane.run(_job(method, request, context.time_remaining(), record), len(request))
                del request  # an answer in chunks may wait long for its reader
                return await self._reply(reply, context, record)
            except asyncio.CancelledError as error:
                forget_frames(error)
                _tell_late_from_gone(record, context)
                self.ended(record)
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an incident id
                failure = _failure(record, error)
            return self._refuse(context, failure, record)

        return handle

    async def _reply(self, reply: bytes | Iterator[bytes], context: Context, record: RequestContext) -> bytes | None:
        """Send an answer in chunks, or return the whole one for gRPC to send; None after chunks."""
        chunks = () if isinstance(reply, bytes) else reply
        for message in chunks:
            await write(message, context)
            record.bytes_out += len(message)
        whole = reply if isinstance(reply, bytes) else None
        record.bytes_out += len(whole or b"")
        record.succeed()
        record.end()
        context.set_trailing_metadata(_trailer(record))
        # Once the answer is on its way, which waits for no metric and no line of the log.
        asyncio.get_running_loop().call_soon(self._tell, record)
        return whole

    def _refuse(self, context: Context, failure: LayertapError, record: RequestContext) -> bytes:
        record.fail(failure)
        self.ended(record)
        fail(context, failure, record)
        return b""

    def _stream(self, service: str, name: str, stream: Stream) -> Callable[..., Any]:
        async def handle(_messages: Messages, context: Context) -> None:
            record = context_of(service, name, context, is_stream=True)
            failure: LayertapError | None = None
            self.streams += 1
            try:
                self._enter()
                self._check_streams()
                await stream(_Received(context), context, self._tools(record))
                record.succeed()
            except asyncio.CancelledError as error:
                forget_frames(error)
                _tell_late_from_gone(record, context)
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an incident id
                failure = _failure(record, error)
                record.fail(failure)
            finally:
                self.streams -= 1
                self.ended(record)
            if failure is not None and failure.status != CANCELLED:  # who is gone needs no answer
                fail(context, failure, record)
                return
            context.set_trailing_metadata(_trailer(record))

        return handle

    def _tools(self, record: RequestContext) -> StreamTools:
        return StreamTools(
            turn=self._work.stream_turn,
            run=self._work.run_in_turn,
            failure_of=lambda error: _failure(record, error),
            draining=self._draining,
            workers=self._workers,
            record=record,
            ended=self.ended,
        )

    def ended(self, record: RequestContext) -> None:
        record.end()
        self._tell(record)

    def _tell(self, record: RequestContext) -> None:
        for observer in self._observers:
            observer(record)

    def _enter(self) -> None:
        """Counts the call until all of its answer has been sent, which may take longer than the work.

        Raises:
            DrainingError: nobody enters any more.
        """
        if self._draining.is_set():
            raise draining_error()
        self._open += 1
        if task := asyncio.current_task():  # a callback on gRPC's context would hold the call in a cycle
            task.add_done_callback(self._left)

    def _check_streams(self) -> None:
        if self.streams > self._most_streams:
            raise OverloadedError(
                f"{self._most_streams} streams are open already, which is the limit (--max-streams)",
                retry_after_ms=RETRY_AFTER_MS,
                limit=self._most_streams,
            )

    def _left(self, _task: object) -> None:
        self._open -= 1


async def write(message: bytes, context: Writer) -> None:
    try:
        await context.write(message)
    except Exception as error:  # gRPC raises whatever it met, and it can only be that nobody reads
        raise CancelledError("the caller is gone") from error


def _tell_late_from_gone(record: RequestContext, context: Context) -> None:
    """gRPC cancels a call whose deadline passes just as one whose caller goes away.

    The caller's clock began earlier, by the time on the way: that it is late may be heard before it is here.
    """
    remaining = context.time_remaining()
    if remaining is not None and remaining <= ON_THE_WAY_SECONDS:
        record.fail(DeadlineError("the deadline passed before the answer was there"))


def draining_error() -> DrainingError:
    """What new requests are told, and streams that would go on, while the server stops."""
    return DrainingError("the server is stopping; another will answer", retry_after_ms=RETRY_AFTER_MS)


def _job(
    method: Method | Chunked, request: bytes, remaining: float | None, record: RequestContext
) -> Callable[[], bytes | Iterator[bytes]]:
    """The call as a function of nothing; ``remaining`` seconds are left to its deadline."""
    arrived = time.perf_counter()
    record.add("admission", record.began, arrived)

    def job() -> bytes | Iterator[bytes]:
        begun = time.perf_counter()
        record.add("queue", arrived, begun)
        waited = begun - arrived
        if remaining is not None and waited > remaining:
            raise DeadlineError("the deadline passed while the request waited; nothing was computed")
        with record.of_this_thread():
            return method(request, Call(queue_ms=waited * 1000))

    return job


def _failure(record: RequestContext, error: Exception) -> LayertapError:
    """Return what the caller is told, without frames; what nobody foresaw gets an incident id, and the log the rest."""
    if isinstance(error, LayertapError | DecodeError):
        forget_frames(error)
    if isinstance(error, LayertapError):
        return error
    if isinstance(error, DecodeError):
        return InvalidRequestError("the request is not a message of this method")
    if (shortage := shortage_in(error)) is not None:
        log.warning("%s, in %s/%s, request %s", shortage.message, record.service, record.method, record.request_id)
        return shortage
    incident = uuid.uuid4().hex[:12]
    method = f"{record.service}/{record.method}"
    log.error("incident %s in %s, request %s", incident, method, record.request_id, exc_info=error)
    return ServerFault(f"the server failed; its log tells more under incident {incident}", incident=incident)


def _never() -> None:
    """Refuse no call before its message is read."""


def refusing(method: str, failure: LayertapError, ended: Observer) -> Any:
    """Return a handler that refuses the call and reads nothing of what the caller sends: it may be large."""

    async def refuse(_messages: Any, context: Any) -> None:
        service, _, name = method.strip("/").partition("/")
        record = context_of(service, name, context, quick=True)
        record.fail(failure)
        ended(record)
        fail(context, failure, record)

    return grpc.stream_stream_rpc_method_handler(refuse)


def forget_frames(error: BaseException) -> None:
    """Drop the tracebacks of the error and of those that led to it.

    Their frames hold the request, its images and arrays; the record of the request, the log and gRPC hold the error.
    """
    links: list[BaseException | None] = [error]
    while links:
        if link := links.pop():
            links += [link.__cause__, link.__context__, *(link.exceptions if _is_group(link) else ())]
            link.__traceback__ = link.__cause__ = link.__context__ = None


def _is_group(error: BaseException) -> TypeGuard[BaseExceptionGroup[BaseException]]:
    return isinstance(error, BaseExceptionGroup)


def fail(context: Context, error: LayertapError, record: RequestContext) -> None:
    """Set the status with which the call ends, in the words of the error table.

    gRPC's own ``abort`` raises instead, and the call then keeps that error, its frames and itself alive.
    """
    details = wire.encode_error(error)
    context.set_code(grpc.StatusCode[error.status])
    context.set_details(details.message)
    context.set_trailing_metadata(((DETAILS, details.SerializeToString()), *_trailer(record)))


def _trailer(record: RequestContext) -> tuple[tuple[str, str], ...]:
    return ((REQUEST_ID, record.request_id),)
