"""``layertap.v1.ModelService``."""

from __future__ import annotations

from layertap import blocks, wire
from layertap.v1 import model_service_pb2 as pb  # noqa: TID251 - a service speaks messages
from layertap_server.repository import Repository
from layertap_server.rpc.dispatch import Call, Method

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["ModelService"]


class ModelService:
    """The models, their layers and the block catalogue."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    @property
    def methods(self) -> dict[str, Method]:
        """By their names in the contract."""
        return {
            "ListModels": self._list_models,
            "GetModel": self._get_model,
            "ListLayers": self._list_layers,
            "ListBlocks": self._list_blocks,
        }

    def _list_models(self, _request: bytes, _call: Call) -> bytes:
        models = [wire.encode_model(info) for info in self._repository.infos()]
        return pb.ListModelsResponse(models=models).SerializeToString()

    def _get_model(self, request: bytes, _call: Call) -> bytes:
        asked = pb.GetModelRequest.FromString(request)
        info = self._repository.info(asked.model, asked.version)
        return pb.GetModelResponse(model=wire.encode_model(info)).SerializeToString()

    def _list_layers(self, request: bytes, _call: Call) -> bytes:
        asked = pb.ListLayersRequest.FromString(request)
        model = self._repository.get(asked.model, asked.version)
        layers = [wire.encode_layer(layer) for layer in model.planner.layers(asked.selector)]
        return pb.ListLayersResponse(
            model=model.info.name, version=model.info.version, layers=layers
        ).SerializeToString()

    def _list_blocks(self, request: bytes, _call: Call) -> bytes:
        name = pb.ListBlocksRequest.FromString(request).name
        specs = [blocks.get(name)] if name else blocks.CATALOGUE
        return pb.ListBlocksResponse(blocks=[wire.encode_block_spec(spec) for spec in specs]).SerializeToString()
