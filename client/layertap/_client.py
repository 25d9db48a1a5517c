"""The client for ordinary programs; each call waits for its answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import grpc

from layertap import _calls, wire
from layertap._bulk import Bulk
from layertap._progress import length_of, with_progress
from layertap._shared_memory import Region, RegionPool, may_share_with
from layertap.blocks.spec import BlockSpec
from layertap.errors import BadRegionError, LayertapError, UnavailableError
from layertap.images import ImageLike, to_payloads
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
from layertap.v1 import model_service_pb2 as model_pb  # noqa: TID251 - a client sends messages
from layertap.v1 import shared_memory_service_pb2 as memory_pb  # noqa: TID251 - a client sends messages
from layertap.v1.feature_service_pb2_grpc import FeatureServiceStub  # noqa: TID251 - a client sends messages
from layertap.v1.model_service_pb2_grpc import ModelServiceStub  # noqa: TID251 - a client sends messages
from layertap.v1.shared_memory_service_pb2_grpc import SharedMemoryServiceStub  # noqa: TID251 - a client sends messages


class Client:
    """A connection to a Layertap server; use it as a context manager, or `close` it.

    One client serves any number of threads. Every method raises `layertap.errors.LayertapError`, of the class that the
    server raised: `UnavailableError` when nobody answers, `DeadlineError` when the answer is late.
    """

    def __init__(
        self,
        address: str = _calls.DEFAULT_ADDRESS,
        *,
        timeout_seconds: float = _calls.DEFAULT_TIMEOUT_SECONDS,
        credentials: grpc.ChannelCredentials | None = None,
        grpc_options: Sequence[tuple[str, str | int]] = (),
        shared_memory: bool = True,
    ) -> None:
        """Connects when the first call is made.

        Args:
            address: ``host:port``, or any gRPC target.
            timeout_seconds: the deadline of every call that gives none of its own.
            credentials: for TLS; without them the connection is plain.
            grpc_options: channel arguments that go to gRPC as they are.
            shared_memory: take large answers through memory that is shared with a server on this host which offers it.
        """
        options = _calls.ConnectionOptions(timeout_seconds, credentials, grpc_options)
        target, arguments = _calls.target(address), options.channel_options()
        self._timeout_seconds = timeout_seconds
        self._channel = (
            grpc.insecure_channel(target, arguments)
            if credentials is None
            else grpc.secure_channel(target, credentials, arguments)
        )
        self._features = FeatureServiceStub(self._channel)
        self._models = ModelServiceStub(self._channel)
        self._memory = SharedMemoryServiceStub(self._channel)
        # Chunks are read and written by `wire`, as bytes.
        self._stream: grpc.StreamStreamMultiCallable[bytes, bytes] = self._channel.stream_stream(_calls.EXTRACT_STREAM)
        self._large = _calls.LargeAnswers()
        self._regions: RegionPool | None = None
        if shared_memory and may_share_with(address):
            self._regions = RegionPool(self._register_region, self._unregister_region)

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
            images: a path, bytes, a Pillow image, a uint8 H×W×C array, a float array in the model's own input layout,
                or several of these.
            model: the model's name.
            taps: tap expressions or `Tap`s; none for the model's default taps.
            version: the model's version; without it the newest.
            inputs: values for the model's inputs that are not images.
            timeout_seconds: this call's deadline.

        Returns:
            Arrays by result name, batch first.
        """
        request = _calls.extract_request(images, model, taps, version, inputs)
        if self._large.is_large(request):
            return self._extract_large(request, timeout_seconds)
        message = wire.encode_extract_request(request)
        features = _calls.extract_reply(request, self._call(self._features.Extract, message, timeout_seconds))
        self._large.learn(request, features)
        return features

    def extract_many(
        self,
        images: Iterable[ImageLike],
        *,
        model: str,
        taps: Tap | str | Sequence[Tap | str] = (),
        version: str = "",
        ordered: bool = True,
        progress: bool = False,
    ) -> Iterator[ExtractedItem]:
        """The features of any number of images, one by one, over one stream.

        The images are read as they are needed and a few are under way at a time, so memory stays bounded. An image that
        cannot be read or decoded has an ``error`` and the run goes on; where the server goes away, what it left
        unanswered is sent to the next one that answers.

        Args:
            images: as of `extract`; a generator is read as far as needed.
            model: the model's name.
            taps: tap expressions or `Tap`s; none for the model's default taps.
            version: the model's version; without it the newest.
            ordered: hand them out in the order of ``images``; otherwise as they are done.
            progress: tell on a terminal's standard error how far it is.
        """
        bulk = Bulk(images, ExtractRequest(model, (), as_sequence(taps), version), ordered=ordered)
        items = self._run_bulk(bulk)
        return with_progress(items, length_of(images)) if progress else items

    def _run_bulk(self, bulk: Bulk) -> Iterator[ExtractedItem]:
        failures = 0
        assembler = wire.Assembler(_calls.expressions(bulk.request))
        try:
            while True:
                stream = self._stream(bulk.messages())
                try:
                    for message in stream:
                        if ended := assembler.add(message):
                            failures = 0
                            bulk.answered(*ended)
                            yield from bulk.finished()
                    yield from bulk.finished()
                except grpc.RpcError as error:
                    failure = _calls.error_of(error)
                    failures += 1
                    if not isinstance(failure, UnavailableError) or failures > _calls.MOST_REOPENINGS:
                        raise failure from error
                    time.sleep(min(_calls.BACKOFF_SECONDS * 2**failures, _calls.LONGEST_BACKOFF_SECONDS))
                else:
                    return
                finally:
                    stream.cancel()
        finally:
            bulk.close()

    def _extract_large(self, request: ExtractRequest, timeout_seconds: float | None) -> Features:
        """Through shared memory where the server offers it, otherwise in chunks."""
        if self._regions is not None:
            try:
                region = self._regions.take(self._large.bytes_of(request))
            except (LayertapError, OSError):  # it does not offer any, or lives elsewhere: it is not asked again
                self._regions = None
            else:
                return self._extract_shared(request, region, timeout_seconds)
        return self._extract_in_chunks(request, timeout_seconds)

    def _extract_shared(self, request: ExtractRequest, region: Region, timeout_seconds: float | None) -> Features:
        memory = region.lend(self._regions.give_back if self._regions else lambda _: None)
        message = wire.encode_extract_request(replace(request, region=region.name))
        try:
            reply = self._call(self._features.Extract, message, timeout_seconds)
        except BadRegionError:  # the server was started anew
            self._regions = None
            return self._extract_in_chunks(request, timeout_seconds)
        features = wire.decode_extract_response(reply, _calls.expressions(request), memory)
        self._large.learn(request, features)
        return features

    def _register_region(self, key: str, byte_size: int) -> str:
        request = memory_pb.RegisterRegionRequest(key=key, byte_size=byte_size)
        return str(self._call(self._memory.RegisterRegion, request, None).region)

    def _unregister_region(self, name: str) -> None:
        self._call(self._memory.UnregisterRegion, memory_pb.UnregisterRegionRequest(region=name), None)

    def _extract_in_chunks(self, request: ExtractRequest, timeout_seconds: float | None) -> Features:
        """As Extract, over a stream of chunks: half the time for an answer of many megabytes."""
        messages = iter([wire.encode_stream_open(request), wire.encode_stream_batch("0", request)])
        assembler = wire.Assembler(_calls.expressions(request))
        stream = self._call(self._stream, messages, timeout_seconds)
        try:
            for message in stream:
                if ended := assembler.add(message):
                    if isinstance(ended[1], LayertapError):
                        raise ended[1]
                    return ended[1]
        except grpc.RpcError as error:
            raise _calls.error_of(error) from error
        raise UnavailableError("the server ended the stream without an answer")

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
        message = wire.encode_preview_request(request)
        return wire.decode_preview(self._call(self._features.PreviewExtract, message, timeout_seconds))

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
        message = wire.encode_inspect_request(InspectRequest(model, to_payloads(images), names, version, inputs or {}))
        return wire.decode_statistics(self._call(self._features.InspectLayers, message, timeout_seconds))

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
        message = wire.encode_apply_request(request)
        return wire.decode_apply_response(self._call(self._features.ApplyBlocks, message, timeout_seconds))

    def models(self, *, timeout_seconds: float | None = None) -> list[ModelInfo]:
        """Every model that the server has, the failed ones too."""
        request = model_pb.ListModelsRequest()
        return _calls.models_reply(self._call(self._models.ListModels, request, timeout_seconds))

    def model(self, name: str, *, version: str = "", timeout_seconds: float | None = None) -> ModelInfo:
        """One model, with its class names."""
        request = model_pb.GetModelRequest(model=name, version=version)
        return wire.decode_model(self._call(self._models.GetModel, request, timeout_seconds).model)

    def layers(
        self, model: str, selector: str = "", *, version: str = "", timeout_seconds: float | None = None
    ) -> list[LayerInfo]:
        """The layers of a model in execution order; with a selector only those it names."""
        request = model_pb.ListLayersRequest(model=model, version=version, selector=selector)
        return _calls.layers_reply(self._call(self._models.ListLayers, request, timeout_seconds))

    def blocks(self, name: str = "", *, timeout_seconds: float | None = None) -> list[BlockSpec]:
        """The server's block catalogue, or one entry of it."""
        request = model_pb.ListBlocksRequest(name=name)
        return _calls.blocks_reply(self._call(self._models.ListBlocks, request, timeout_seconds))

    def load_model(self, name: str, *, timeout_seconds: float | None = None) -> ModelInfo:
        """Loads or reloads a model of the server's folder; the operator must have allowed it.

        Raises:
            ControlDisabledError: it is not allowed.
            ModelFailedError: it cannot be loaded; what served before goes on.
        """
        request = model_pb.LoadModelRequest(model=name)
        return wire.decode_model(self._call(self._models.LoadModel, request, timeout_seconds).model)

    def unload_model(self, name: str, *, timeout_seconds: float | None = None) -> None:
        """Takes a model out of service until it is loaded again; errors as of `load_model`."""
        self._call(self._models.UnloadModel, model_pb.UnloadModelRequest(model=name), timeout_seconds)

    def close(self) -> None:
        """Closes the connection; calls under way end with `CancelledError`."""
        if self._regions is not None:
            self._regions.close()
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, method: Callable[..., Any], request: object, timeout_seconds: float | None) -> Any:
        timeout = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        try:
            return method(request, timeout=timeout)
        except grpc.RpcError as error:
            raise _calls.error_of(error) from error
        except ValueError as error:  # gRPC's way of saying that the channel is closed
            raise UnavailableError(str(error)) from error
