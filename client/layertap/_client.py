"""The client for ordinary programs; each call waits for its answer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar

import grpc

from layertap import _calls, _routes
from layertap._answers import Answers
from layertap._assumptions import Assumptions
from layertap._bulk import Bulk, Feed
from layertap._calls import Call, Exchange
from layertap._connection import CLOSED, DEFAULT_ADDRESS, DEFAULT_TIMEOUT_SECONDS, PARTING_SECONDS, Connection, Tls
from layertap._progress import length_of, with_progress
from layertap._routes import Routes, Steps
from layertap._shared_memory import may_share_with
from layertap._waiting import Wait, check_wait
from layertap.blocks.spec import BlockSpec
from layertap.errors import LayertapError, UnavailableError
from layertap.images import ImageLike, as_images, to_payloads
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


class Client:
    """A connection to a Layertap server; use it as a context manager, or `close` it.

    One client serves any number of threads. Every method raises `layertap.errors.LayertapError`, of the class that the
    server raised: `UnavailableError` when nobody answers, `DeadlineError` when the answer is late.
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
        """Connects when the first call is made, or before, where it waits for the server.

        A client can be pickled and copied: the other one has the same parameters and a connection of its own.

        Args:
            address: ``host``, ``host:port`` (8001 without a port; an IPv6 address in brackets), ``http://host:port``,
                ``https://host:port`` for TLS, or any gRPC target; where a name has several hosts, they share the calls.
            timeout_seconds: the deadline of every call that gives none of its own.
            tls: encrypt: `Tls` says which authorities are trusted and as whom the client shows itself; True trusts
                those that gRPC brings. Without it the connection is plain.
            token: is sent with every call; the server's ``--tokens`` says what it allows.
            grpc_options: channel arguments that go to gRPC as they are.
            shared_memory: take large answers through memory that is shared with a server on this host which offers it;
                on other systems than Linux it has no effect.
            wait_seconds: wait up to so long for a server that is reachable and ready.

        Raises:
            OSError: a file of ``tls`` cannot be read.
            ValueError: ``address`` is none; ``tls`` has a certificate without its key; the deadline is no number above
                0, or ``wait_seconds`` none from 0 on.
            LayertapError: the server was not ready in ``wait_seconds``; it is the last attempt's error.
        """
        check_wait(wait_seconds)
        self._open(Connection(address, timeout_seconds, tls, token, grpc_options), shared_memory)
        if wait_seconds:
            try:
                self._wait(wait_seconds)
            except BaseException:
                self.close()
                raise

    def _open(self, connection: Connection, shared_memory: bool) -> None:
        self._connection = connection
        self._shared_memory = shared_memory
        self._channel = connection.open(grpc.insecure_channel, grpc.secure_channel)
        self._assumptions = Assumptions()
        self._routes = Routes(shares_memory=shared_memory and may_share_with(connection.address))
        self._is_closed = False

    def __getstate__(self) -> tuple[Connection, bool]:
        return self._connection, self._shared_memory

    def __setstate__(self, state: tuple[Connection, bool]) -> None:
        self._open(*state)

    def _wait(self, seconds: float) -> None:
        """Return when the server is ready."""
        wait = Wait(seconds)
        while True:
            try:
                return self._call(_calls.health(), wait.attempt_seconds)
            except LayertapError as error:
                time.sleep(wait.pause_after(error))

    def extract(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        model: str,
        taps: Tap | str | Sequence[Tap | str] = (),
        version: str = "",
        inputs: Mapping[str, Array] | None = None,
        timeout_seconds: float | None = None,
    ) -> Features:
        """The features of the images, all or nothing.

        Args:
            images: one image or several. An image is a path; the bytes of an image file; an open file, which is read
                from its current position; a Pillow image, which is turned as its EXIF says; a uint8 array H×W or H×W×C;
                or a float array in the model's own input layout. Several are a uint8 array N×H×W×C, an array of
                paths, or an ordered iterable of images. An array may be any library's.
            model: the model's name.
            taps: tap expressions or `Tap`s; none for the model's default taps.
            version: the model's version; without it the newest.
            inputs: values for the model's inputs that are not images.
            timeout_seconds: this call's deadline.

        Returns:
            Arrays by result name, batch first.
        """
        request = ExtractRequest(model, to_payloads(images), as_sequence(taps), version, inputs or {})
        features = self._drive(self._routes.extract(request), timeout_seconds)
        self._assumptions.warn(model, features.assumed_preprocessing)
        return features

    def extract_many(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        model: str,
        taps: Tap | str | Sequence[Tap | str] = (),
        version: str = "",
        ordered: bool = True,
        progress: bool = False,
    ) -> Generator[ExtractedItem]:
        """The features of any number of images, one by one, over one stream.

        The images are read as they are needed and a few are under way at a time, so memory stays bounded. An image that
        cannot be read or decoded has an ``error`` and the run goes on; where the server goes away, what it left
        unanswered is sent to the next one that answers.

        Args:
            images: as of `extract`; a generator is read as far as needed, on another thread.
            model: the model's name.
            taps: tap expressions or `Tap`s; none for the model's default taps.
            version: the model's version; without it the newest.
            ordered: hand them out in the order of ``images``; otherwise as they are done.
            progress: tell on a terminal's standard error how far it is.
        """
        bulk = Bulk(ExtractRequest(model, (), as_sequence(taps), version), ordered=ordered)
        several = as_images(images)
        items = self._run_bulk(bulk, Feed(bulk, several))
        return with_progress(items, length_of(several)) if progress else items

    def _check_bulk(self, bulk: Bulk) -> None:
        """Refuse blocks that look across images; the stream itself reports what else is wrong."""
        try:
            preview = self._call(_calls.preview(bulk.preview), None)
        except LayertapError:
            return
        bulk.check(preview)

    def _run_bulk(self, bulk: Bulk, feed: Feed) -> Generator[ExtractedItem]:
        self._check_bulk(bulk)
        try:
            while True:
                stream = self._stream(feed.messages(), None)
                try:
                    for message in stream:
                        for item in bulk.answered(message):
                            feed.wake()
                            if item.features is not None:
                                self._assumptions.warn(bulk.request.model, item.features.assumed_preprocessing)
                            yield item
                except LayertapError as error:
                    time.sleep(bulk.failed(error))
                else:
                    if not bulk.has_unanswered:
                        break
                    time.sleep(bulk.failed(UnavailableError("the server ended the stream too early")))
                finally:
                    stream.cancel()
            yield from bulk.finished()
            if feed.error is not None:
                raise feed.error
        finally:
            feed.close()

    def preview(
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
        return self._call(_calls.preview(request), timeout_seconds)

    def inspect(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        model: str,
        selectors: str | Sequence[str] = (),
        version: str = "",
        inputs: Mapping[str, Array] | None = None,
        timeout_seconds: float | None = None,
    ) -> tuple[LayerStatistics, ...]:
        """Activation statistics of layers over the images, in the order of the selectors.

        Args:
            images: as of `extract`.
            model: the model's name.
            selectors: which layers; none for all that come right after an activation.
            version: the model's version; without it the newest.
            inputs: values for the model's inputs that are not images.
            timeout_seconds: this call's deadline.
        """
        names = (selectors,) if isinstance(selectors, str) else tuple(selectors)
        request = InspectRequest(model, to_payloads(images), names, version, inputs or {})
        statistics, assumed = self._call(_calls.inspect(request), timeout_seconds)
        self._assumptions.warn(model, assumed)
        return statistics

    def apply_blocks(
        self,
        array: Array,
        head: str | Sequence[Block],
        *,
        layout: Layout | None = None,
        timeout_seconds: float | None = None,
    ) -> Array:
        """A head on an array of your own, batch first; no model is needed.

        Args:
            array: N×C×H×W, N×T×C or N×C, or of another layout that you name.
            head: blocks as in a tap expression (``"relu | gap"``), or `Block`s.
            layout: what the axes mean; without it the rank tells.
            timeout_seconds: this call's deadline.
        """
        return self.apply_blocks_map(array, head, layout=layout, timeout_seconds=timeout_seconds).array

    def apply_blocks_map(
        self,
        array: Array,
        head: str | Sequence[Block],
        *,
        layout: Layout | None = None,
        timeout_seconds: float | None = None,
    ) -> FeatureMap:
        """As `apply_blocks`, with what is told beside the array: its layout, and after ``quantize`` its scale."""
        request = ApplyRequest(array, head if isinstance(head, str) else tuple(head), layout)
        return self._drive(_routes.apply_blocks(request), timeout_seconds)

    def models(self, *, timeout_seconds: float | None = None) -> list[ModelInfo]:
        """Every model that the server has, the failed ones too."""
        return self._call(_calls.models(), timeout_seconds)

    def model(self, name: str, *, version: str = "", timeout_seconds: float | None = None) -> ModelInfo:
        """One model, with its class names."""
        return self._call(_calls.model(name, version), timeout_seconds)

    def layers(
        self, model: str, selector: str = "", *, version: str = "", timeout_seconds: float | None = None
    ) -> list[LayerInfo]:
        """The layers of a model in execution order; with a selector only those it names."""
        return self._call(_calls.layers(model, selector, version), timeout_seconds)

    def blocks(self, name: str = "", *, timeout_seconds: float | None = None) -> list[BlockSpec]:
        """The server's block catalogue, or one entry of it."""
        return self._call(_calls.blocks(name), timeout_seconds)

    def load_model(self, name: str, *, timeout_seconds: float | None = None) -> ModelInfo:
        """Loads or reloads a model of the server's folder; the operator must have allowed it.

        Raises:
            ControlDisabledError: it is not allowed.
            ModelFailedError: it cannot be loaded; what served before goes on.
        """
        return self._call(_calls.load_model(name), timeout_seconds)

    def unload_model(self, name: str, *, timeout_seconds: float | None = None) -> None:
        """Takes a model out of service until it is loaded again; errors as of `load_model`."""
        self._call(_calls.unload_model(name), timeout_seconds)

    def close(self) -> None:
        """Closes the connection; calls under way end with `CancelledError`."""
        with contextlib.suppress(LayertapError):  # a server that does not answer is not waited for again and again
            for parting in self._routes.close():
                self._call(parting, PARTING_SECONDS)
        self._is_closed = True
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _drive(self, steps: Steps[Reply], timeout_seconds: float | None) -> Reply:
        """Does what a route asks for, until it has what was wanted."""
        try:
            step = next(steps)
            while True:
                try:
                    reply: object = self._answer(step, timeout_seconds)
                except LayertapError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(reply)
        except StopIteration as end:
            result: Reply = end.value
            return result

    def _answer(self, step: Call[Reply] | Exchange[Reply], timeout_seconds: float | None) -> Reply:
        if isinstance(step, Exchange):
            return self._exchange(step, timeout_seconds)
        return self._call(step, timeout_seconds)

    def _call(self, call: Call[Reply], timeout_seconds: float | None) -> Reply:
        self._check_open()
        timeout = self._connection.timeout(timeout_seconds)
        try:
            method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(call.method)
            answer = method(call.request, timeout=timeout, metadata=self._connection.metadata)
        except grpc.RpcError as error:
            raise _calls.error_of(error, self._connection.place.shown, call.images) from None
        except ValueError as error:  # gRPC's way of saying that another thread has closed the channel
            self._check_open()
            raise UnavailableError(str(error)) from None
        return call.decode(answer)

    def _exchange(self, exchange: Exchange[Reply], timeout_seconds: float | None) -> Reply:
        stream = self._stream(iter(exchange.messages), self._connection.timeout(timeout_seconds), exchange.method)
        answer: Reply | None = None
        try:
            answer = next((whole for message in stream if (whole := exchange.add(message)) is not None), None)
        finally:
            if answer is None:  # else the server ends it by itself
                stream.cancel()
        if answer is None:
            raise UnavailableError("the server ended the stream without an answer")
        return answer

    def _stream(
        self, messages: Iterator[bytes], timeout_seconds: float | None, path: str = _calls.EXTRACT_STREAM
    ) -> Answers:
        self._check_open()
        try:
            method: grpc.StreamStreamMultiCallable[bytes, bytes] = self._channel.stream_stream(path)
            stream = method(messages, timeout=timeout_seconds, metadata=self._connection.metadata)
        except ValueError as error:
            self._check_open()
            raise UnavailableError(str(error)) from None
        return Answers(stream, self._connection.place.shown)

    def _check_open(self) -> None:
        """Raise where the client was closed."""
        if self._is_closed:
            raise UnavailableError(CLOSED)
