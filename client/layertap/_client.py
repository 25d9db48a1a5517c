"""The blocking client: each call waits for its response."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

from layertap import _calls
from layertap._bulk import Bulk
from layertap._chunked_methods import ChunkedMethods
from layertap._connection import DEFAULT_ADDRESS, DEFAULT_TIMEOUT_SECONDS, PARTING_SECONDS, Connection, Tls
from layertap._features import ExtractedItem, Features
from layertap._feeds import Feed
from layertap._progress import length_of, with_progress
from layertap._rows import Row, payloads_of, rows_of, to_inputs
from layertap._waiting import Wait, check_wait
from layertap.errors import LayertapError, UnavailableError
from layertap.images import ImageLike
from layertap.types import (
    Array,
    ExtractRequest,
    InspectRequest,
    LayerStatistics,
    Tap,
    Target,
    TargetChoice,
    as_names,
    as_sequence,
)
from layertap.wire import rpcs


class Client(ChunkedMethods):
    """A connection to a Layertap server; use it as a context manager, or call `close`.

    One client may be used by any number of threads. Every method raises a `layertap.errors.LayertapError` of the class
    that the server raised: `UnavailableError` if no server answers, `DeadlineError` if the response is late.
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
        """Create a client; connect on the first call, or at once if ``wait_seconds`` is given.

        A client can be pickled and copied: the copy has the same parameters and opens its own connection.

        Args:
            address: ``host``, ``host:port`` (the default port is 8001; write an IPv6 address in brackets),
                ``http://host:port``, ``https://host:port`` for TLS, or any gRPC target. If the name resolves to several
                hosts, calls are distributed over them.
            timeout_seconds: the deadline, in seconds, of every call that has no deadline of its own.
            tls: a `Tls` with the trusted authorities and the client's certificate, or True to use TLS with the
                authorities that gRPC ships. False: no encryption, unless ``address`` begins with ``https://``.
            token: the token sent with every call; the server's ``--tokens`` file defines its roles.
            grpc_options: channel arguments, passed to gRPC unchanged.
            shared_memory: whether to receive large results through shared memory if the server runs on this host and
                offers it. No effect on systems other than Linux.
            wait_seconds: the maximum time, in seconds, to wait for the server to be reachable and ready.

        Raises:
            OSError: a file of ``tls`` cannot be read.
            ValueError: ``address`` is malformed; ``tls`` has a certificate without its key, or a key without its
                certificate; ``timeout_seconds`` is not above 0; or ``wait_seconds`` is negative.
            LayertapError: the server was not ready within ``wait_seconds``; the error is that of the last attempt.
        """
        check_wait(wait_seconds)
        self._open(Connection(address, timeout_seconds, tls, token, grpc_options), shared_memory)
        if wait_seconds:
            try:
                self._wait(wait_seconds)
            except BaseException:
                self.close()
                raise

    def _wait(self, seconds: float) -> None:
        """Wait up to ``seconds`` until the server is ready."""
        wait = Wait(seconds)
        while True:
            try:
                return self._call(_calls.health(), wait.attempt_seconds)
            except LayertapError as error:
                time.sleep(wait.pause_after(error))

    def extract(
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
        """Extract features of one image or several, all or nothing.

        Args:
            images: one image or several. An image is a path; the bytes of an image file; an open file, which is read
                from its current position; a Pillow image, which is rotated according to its EXIF data; a uint8 array
                H×W or H×W×C; or a float array in the model's own input layout. Several images are a uint8 array
                N×H×W×C, an array of paths, or an ordered iterable of images. Arrays of any library are accepted.
            model: the model's name.
            taps: tap expressions or `Tap`s; if empty, the model's default taps.
            version: the model's version; if empty, the newest.
            inputs: values for the model's inputs that are not images, by input name; and values of layers, by selector,
                such as ``{"stage:2": array}``: the network goes on from these. One row serves all images. Without
                ``images``, for a model that takes none or for taps that need none, the rows of the arrays are the
                batch.
            target: the number per image whose gradients taps such as ``grad:stage:-1`` return: a tap of one number, or
                of one vector, per image. If empty, the model's default target or its only vector output.
            target_index: which number of the target's vector: an index, a label or ``"top"``, the largest; for all
                images, or a list with one for each. ``"label:3"`` is a label that looks like an index.
            edits: one edit of the network or several, each a tap whose head is applied inside the network, such as
                ``"stage:2 | zero_channels([3])"``. What follows computes on the edited values, which taps see too.
            timeout_seconds: this call's deadline in seconds.

        Returns:
            Arrays by result name, batch first.
        """
        goal = Target.of(target, target_index)
        request = ExtractRequest(
            model=model,
            images=payloads_of(images),
            taps=as_sequence(taps),
            version=version,
            inputs=to_inputs(inputs),
            target=goal,
            edits=as_sequence(edits),
        )
        features = self._run_delivery(self._delivery.extract(request), timeout_seconds)
        self._assumptions.warn(model, features.assumed_preprocessing)
        return features

    def extract_many(
        self,
        images: ImageLike | Iterable[ImageLike] | None = None,
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
    ) -> Generator[ExtractedItem]:
        """Extract features of any number of images over one stream and yield them one by one.

        Images are read when they are needed, and only a few are in progress at a time, so memory stays bounded. An
        image that cannot be read or decoded yields an item with an ``error``, and the run goes on. If the server stops,
        the unanswered images are sent again to the next server that answers.

        Args:
            images: as for `extract`; a generator is read only as far as needed, on another thread.
            model: the model's name.
            taps: tap expressions or `Tap`s; if empty, the model's default taps.
            version: the model's version; if empty, the newest.
            inputs: values for the model's inputs that are not images, by input name: arrays with one row per image. An
                array without axes holds for all images. Without ``images``, each row is an item.
            target: the target of gradients, as for `extract`.
            target_index: which number of the target's vector, for all images.
            edits: edits of the network, as for `extract`.
            ordered: whether to yield items in the order of ``images``; otherwise in the order of completion.
            progress: whether to show progress on standard error if it is a terminal.

        Yields:
            One item per image: its features, or its error.

        Raises:
            TooFewImagesError: a block takes its statistics from several images, but each image is a request of its own.
        """
        several = rows_of(images, inputs)
        goal, changes = Target.of(target, target_index), as_sequence(edits)
        request = ExtractRequest(model, (), as_sequence(taps), version, target=goal, edits=changes)
        items = self._extract_rows(several, request, ordered=ordered)
        return with_progress(items, length_of(several)) if progress else items

    def _extract_rows(
        self, rows: Iterable[ImageLike | Row], request: ExtractRequest, *, ordered: bool = True
    ) -> Generator[ExtractedItem]:
        """Extract features of images or rows over one stream; ``request`` has no images; see `extract_many`."""
        bulk = Bulk(request, ordered=ordered)
        return self._run_bulk(bulk, Feed(bulk, rows))

    def _check_bulk(self, bulk: Bulk) -> None:
        """Raise `TooFewImagesError` if a block needs several images; the stream reports all other errors."""
        try:
            preview = self._call(_calls.call_of(rpcs.PREVIEW_EXTRACT, bulk.preview), None)
        except LayertapError:
            return
        bulk.check(preview)

    def _run_bulk(self, bulk: Bulk, feed: Feed) -> Generator[ExtractedItem]:
        """Run a bulk extraction, reopening the stream when it breaks, and yield each image's item."""
        self._check_bulk(bulk)
        try:
            while True:
                stream = self._stream(feed.messages(), None)
                try:
                    for message in stream:
                        for item in bulk.process(message):
                            feed.wake()
                            if item.features is not None:
                                self._assumptions.warn(bulk.request.model, item.features.assumed_preprocessing)
                            yield item
                except LayertapError as error:
                    time.sleep(bulk.handle_failure(error))
                else:
                    if not bulk.has_unanswered:
                        break
                    time.sleep(bulk.handle_failure(UnavailableError("the server ended the stream too early")))
                finally:
                    stream.cancel()
            yield from bulk.take_ready()
            if feed.error is not None:
                raise feed.error
        finally:
            feed.close()

    def inspect(
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
        """Return activation statistics of layers over all images, in the order of the selectors.

        Args:
            images: as for `extract`.
            model: the model's name.
            selectors: selectors of layers; if empty, every layer directly after an activation.
            version: the model's version; if empty, the newest.
            inputs: values for the model's inputs that are not images, by input name, and for layers, by selector.
            edits: edits of the network, as for `extract`.
            timeout_seconds: this call's deadline in seconds.
        """
        names = as_names(selectors)
        request = InspectRequest(model, payloads_of(images), names, version, to_inputs(inputs), as_sequence(edits))
        response = self._call(_calls.inspect(request), timeout_seconds)
        self._assumptions.warn(model, response.assumed_preprocessing)
        return response.layers

    def close(self) -> None:
        """Close the connection; calls in progress end with `CancelledError`."""
        with contextlib.suppress(LayertapError):  # stop at the first region that the server does not release in time
            for parting in self._delivery.close():
                self._call(parting, PARTING_SECONDS)
        self._is_closed = True
        self._channel.close()

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()
