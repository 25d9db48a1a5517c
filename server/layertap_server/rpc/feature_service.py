"""The RPCs of ``layertap.v1.FeatureService``."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from layertap import wire
from layertap.types import ApplyRequest, ExtractRequest, ExtractResponse, FeatureMap, InspectResponse
from layertap.wire import rpcs
from layertap_server.inference.apply_blocks import Applier
from layertap_server.inference.engine import Engine, assumed_preprocessing
from layertap_server.models.repository import Repository
from layertap_server.request.context import current_request
from layertap_server.rpc.dispatch import Call, Context, Handler, Messages, StreamTools
from layertap_server.rpc.lookup import find_model
from layertap_server.rpc.shared_regions import Regions
from layertap_server.rpc.stream import ExtractStream, chunk_size


class FeatureService:
    """Methods that extract, preview and inspect features of images, and that apply blocks to arrays."""

    def __init__(self, repository: Repository, engine: Engine, applier: Applier, regions: Regions) -> None:
        """Serve features computed by ``engine`` and ``applier``; ``regions`` holds the shared memory of callers."""
        self._repository = repository
        self._engine = engine
        self._applier = applier
        self._regions = regions

    @property
    def handlers(self) -> dict[rpcs.Rpc, Handler]:
        """Handler of each RPC."""
        return {
            rpcs.EXTRACT: self._extract,
            rpcs.EXTRACT_STREAM: self._extract_stream,
            rpcs.PREVIEW_EXTRACT: self._preview,
            rpcs.INSPECT_LAYERS: self._inspect,
            rpcs.APPLY_BLOCKS: self._apply_blocks,
            rpcs.APPLY_BLOCKS_STREAM: self._apply_blocks_in_chunks,
        }

    def _extract(self, request: bytes, call: Call) -> bytes:
        """Extract the features of a request's images."""
        record = current_request()
        with record.stage("decode"):
            extract = rpcs.EXTRACT.request.decode(request)
        features = self._compute_features(extract, call.queue_ms)
        with record.stage("encode"):
            places = self._write_shared(extract.region, features) if extract.region else None
            return wire.encode_extract_response(features, places)

    async def _extract_stream(self, messages: Messages, context: Context, tools: StreamTools) -> None:
        """Extract the features of the images of a stream."""
        await ExtractStream(self._compute_features, self._resolve_model, tools).serve(messages, context)

    def _compute_features(self, extract: ExtractRequest, queue_ms: float) -> ExtractResponse:
        """Compute the features of a decoded request and record the number of images and the batch size."""
        features = self._engine.extract(find_model(self._repository, extract.model, extract.version), extract, queue_ms)
        record = current_request()
        record.images, record.batch_size = len(features.maps[0].array), features.batch_size
        return features

    def _write_shared(self, region: str, features: ExtractResponse) -> list[tuple[int, int]] | None:
        """Write the arrays into the caller's region and return the offset and size of each; None if they do not fit."""
        places = self._regions.write(region, [feature.array for feature in features.maps])
        current_request().bytes_shared = sum(size for _, size in places or ())
        return places

    def _resolve_model(self, request: ExtractRequest) -> tuple[str, str]:
        """Return the name and version of a stream's model, and check the stream's taps before its first image."""
        model = find_model(self._repository, request.model, request.version)
        self._engine.check(model, request.taps)
        return model.info.name, model.info.version

    def _preview(self, request: bytes, _call: Call) -> bytes:
        """Describe the results of taps without computing them."""
        preview = rpcs.PREVIEW_EXTRACT.request.decode(request)
        model = find_model(self._repository, preview.model, preview.version)
        return rpcs.PREVIEW_EXTRACT.response.encode(self._engine.preview(model, preview))

    def _inspect(self, request: bytes, _call: Call) -> bytes:
        """Compute statistics of layers."""
        record = current_request()
        with record.stage("decode"):
            inspect = rpcs.INSPECT_LAYERS.request.decode(request)
        model = find_model(self._repository, inspect.model, inspect.version)
        layers = self._engine.inspect(model, inspect)
        with record.stage("encode"):
            assumed = assumed_preprocessing(model, inspect.images)
            response = InspectResponse(layers, model.info.name, model.info.version, assumed)
            return rpcs.INSPECT_LAYERS.response.encode(response)

    def _apply_blocks(self, request: bytes, _call: Call) -> bytes:
        """Apply blocks to an array and return the result inline."""
        feature = self._apply(lambda: rpcs.APPLY_BLOCKS.request.decode(request), inline=True)
        with current_request().stage("encode"):
            return wire.encode_apply_response(feature)

    def _apply_blocks_in_chunks(self, request: bytes, _call: Call) -> Iterator[bytes]:
        """Apply blocks to an array and return the result in chunks."""
        chunk_bytes = 0

        def decode() -> ApplyRequest:
            nonlocal chunk_bytes
            apply, chunk_bytes = wire.decode_apply_stream_request(request)
            return apply

        return wire.apply_answer(self._apply(decode), chunk_size(chunk_bytes))

    def _apply(self, decode: Callable[[], ApplyRequest], *, inline: bool = False) -> FeatureMap:
        """Decode a request and apply its blocks; ``inline`` limits the result to what one message can carry."""
        with current_request().stage("decode"):
            apply = decode()
        return self._applier.apply(apply, inline=inline)
