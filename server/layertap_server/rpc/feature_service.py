"""The RPCs of ``layertap.v1.FeatureService``."""

from __future__ import annotations

from collections.abc import Iterator

from layertap import wire
from layertap.errors import WeightsDisabledError
from layertap.types import ExtractRequest, ExtractResponse, InspectResponse
from layertap.wire import rpcs
from layertap_server.inference.apply_blocks import Applier
from layertap_server.inference.attribution import Attributor
from layertap_server.inference.engine import Engine
from layertap_server.inference.parameters import read_parameters
from layertap_server.inference.response import assumed_preprocessing
from layertap_server.models.repository import Repository
from layertap_server.request.context import RequestContext
from layertap_server.rpc.calls import Call, Handler, Messages, StreamTools
from layertap_server.rpc.lookup import find_model
from layertap_server.rpc.shared_regions import Regions
from layertap_server.rpc.stream import ExtractStream, chunk_size


class FeatureService:
    """Methods that extract, preview and inspect features of images, and that apply blocks to arrays."""

    def __init__(
        self, repository: Repository, engine: Engine, applier: Applier, regions: Regions, *, weights: bool = False
    ) -> None:
        """Serve features computed by ``engine`` and ``applier``.

        Args:
            repository: the models.
            engine: engine of extractions.
            applier: engine of heads on tensors of callers.
            regions: shared memory of callers.
            weights: whether callers may read the parameters of models.
        """
        self._repository = repository
        self._engine = engine
        self._applier = applier
        self._regions = regions
        self._weights = weights

    @property
    def handlers(self) -> dict[rpcs.Rpc, Handler]:
        """Handler of each RPC."""
        return {
            rpcs.EXTRACT: self._extract,
            rpcs.EXTRACT_STREAM: self._extract_stream,
            rpcs.PREVIEW_EXTRACT: self._preview,
            rpcs.INSPECT_LAYERS: self._inspect,
            rpcs.ATTRIBUTE: self._attribute,
            rpcs.APPLY_BLOCKS: self._apply_blocks,
            rpcs.APPLY_BLOCKS_STREAM: self._apply_blocks_in_chunks,
            rpcs.GET_WEIGHTS: self._get_weights,
        }

    def _extract(self, request: bytes, context: RequestContext) -> bytes:
        """Extract the features of a request's images."""
        with context.stage("decode"):
            extract = rpcs.EXTRACT.request.decode(request)
        features = self.compute_features(extract, context)
        with context.stage("encode"):
            locations = self._write_shared(extract.region, features, context) if extract.region else None
            return wire.encode_extract_response(features, locations)

    async def _extract_stream(self, messages: Messages, call: Call, tools: StreamTools) -> None:
        """Extract the features of the images of a stream."""
        await ExtractStream(self.compute_features, self._check_opening, tools).serve(messages, call)

    def compute_features(self, extract: ExtractRequest, context: RequestContext) -> ExtractResponse:
        """Compute the features of a decoded request and record the number of images and the batch size."""
        model = find_model(self._repository, extract.model, extract.version, context)
        features = self._engine.extract(model, extract, context)
        context.images, context.batch_size = len(features.maps[0].array), features.batch_size
        return features

    def _write_shared(
        self, region: str, features: ExtractResponse, context: RequestContext
    ) -> list[tuple[int, int]] | None:
        """Write the arrays into the caller's region and return the offset and size of each; None if they do not fit."""
        locations = self._regions.write(region, [feature.array for feature in features.maps])
        context.bytes_shared = sum(size for _, size in locations or ())
        return locations

    def _check_opening(self, request: ExtractRequest, context: RequestContext) -> tuple[str, str]:
        """Check the taps of a stream before its first image; return the name and version of its model."""
        model = find_model(self._repository, request.model, request.version, context)
        self._engine.check(model, request, context)
        return model.info.name, model.info.version

    def _preview(self, request: bytes, context: RequestContext) -> bytes:
        """Describe the results of taps without computing them."""
        preview = rpcs.PREVIEW_EXTRACT.request.decode(request)
        model = find_model(self._repository, preview.model, preview.version, context)
        return rpcs.PREVIEW_EXTRACT.response.encode(self._engine.preview(model, preview, context))

    def _inspect(self, request: bytes, context: RequestContext) -> bytes:
        """Compute statistics of layers."""
        with context.stage("decode"):
            inspect = rpcs.INSPECT_LAYERS.request.decode(request)
        model = find_model(self._repository, inspect.model, inspect.version, context)
        layers = self._engine.inspect(model, inspect, context)
        with context.stage("encode"):
            assumed = assumed_preprocessing(model, inspect.images)
            response = InspectResponse(layers, model.info.name, model.info.version, assumed)
            return rpcs.INSPECT_LAYERS.response.encode(response)

    def _attribute(self, request: bytes, context: RequestContext) -> Iterator[bytes]:
        """Return maps of how much each position contributed to a target, in chunks."""
        with context.stage("decode"):
            attribute, chunk_bytes = wire.decode_attribute_request(request)
        model = find_model(self._repository, attribute.model, attribute.version, context)
        result = Attributor(self._engine).attribute(model, attribute, context)
        context.images = len(result.maps)
        return wire.encode_attribution(result, chunk_size(chunk_bytes))

    def _apply_blocks(self, request: bytes, context: RequestContext) -> bytes:
        """Apply blocks to an array and return the result in one message."""
        with context.stage("decode"):
            apply = rpcs.APPLY_BLOCKS.request.decode(request)
        feature = self._applier.apply(apply, context, inline=True)
        with context.stage("encode"):
            return wire.encode_apply_response(feature)

    def _apply_blocks_in_chunks(self, request: bytes, context: RequestContext) -> Iterator[bytes]:
        """Apply blocks to an array and return the result in chunks."""
        with context.stage("decode"):
            apply, chunk_bytes = wire.decode_apply_stream_request(request)
        return wire.apply_answer(self._applier.apply(apply, context), chunk_size(chunk_bytes))

    def _get_weights(self, request: bytes, context: RequestContext) -> Iterator[bytes]:
        """Return the parameters of layers in chunks."""
        weights, chunk_bytes = wire.decode_weights_request(request)
        if not self._weights:
            raise WeightsDisabledError("GetWeights is disabled on this server; the operator enables it with --weights")
        model = find_model(self._repository, weights.model, weights.version, context)
        arrays = read_parameters(model, weights.layer, self._engine.limits)
        return wire.encode_weights(arrays, chunk_size(chunk_bytes))
