"""``layertap.v1.FeatureService``."""

from __future__ import annotations

from layertap import wire
from layertap.v1 import feature_service_pb2 as pb  # noqa: TID251 - a service speaks messages
from layertap_server.apply import Applier
from layertap_server.engine import Engine
from layertap_server.metrics import Metrics
from layertap_server.repository import Repository
from layertap_server.rpc.dispatch import Call, Method

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["FeatureService"]


class FeatureService:
    """Features of images."""

    def __init__(self, repository: Repository, engine: Engine, applier: Applier, metrics: Metrics) -> None:
        self._repository = repository
        self._engine = engine
        self._applier = applier
        self._metrics = metrics

    @property
    def methods(self) -> dict[str, Method]:
        """By their names in the contract."""
        return {
            "Extract": self._extract,
            "PreviewExtract": self._preview,
            "InspectLayers": self._inspect,
            "ApplyBlocks": self._apply_blocks,
        }

    def _extract(self, request: bytes, call: Call) -> bytes:
        extract = wire.decode_extract_request(pb.ExtractRequest.FromString(request))
        model = self._repository.get(extract.model, extract.version)
        features = self._engine.extract(model, extract, call.queue_ms)
        self._metrics.extracted(features.model, len(features.maps[0].array), features.timing)
        return wire.encode_extract_response(features).SerializeToString()

    def _preview(self, request: bytes, _call: Call) -> bytes:
        preview = wire.decode_preview_request(pb.PreviewExtractRequest.FromString(request))
        model = self._repository.get(preview.model, preview.version)
        return wire.encode_preview(self._engine.preview(model, preview)).SerializeToString()

    def _inspect(self, request: bytes, _call: Call) -> bytes:
        inspect = wire.decode_inspect_request(pb.InspectLayersRequest.FromString(request))
        model = self._repository.get(inspect.model, inspect.version)
        layers = self._engine.inspect(model, inspect)
        return wire.encode_statistics(layers, model.info.name, model.info.version).SerializeToString()

    def _apply_blocks(self, request: bytes, _call: Call) -> bytes:
        apply = wire.decode_apply_request(pb.ApplyBlocksRequest.FromString(request))
        return wire.encode_apply_response(self._applier.apply(apply)).SerializeToString()
