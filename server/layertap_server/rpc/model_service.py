"""``layertap.v1.ModelService``."""

from __future__ import annotations

from layertap import blocks, wire
from layertap.errors import ControlDisabledError
from layertap.v1 import model_service_pb2 as pb  # noqa: TID251 - a service speaks messages
from layertap_server.models.repository import Repository
from layertap_server.rpc.dispatch import Call, Method
from layertap_server.rpc.lookup import found, noted

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["ModelService"]
SLOW = frozenset({"LoadModel", "UnloadModel"})
"""Methods that a listing must not wait behind."""
CONTROL = frozenset(f"/{DESCRIPTOR.full_name}/{name}" for name in SLOW)
"""Methods that change what is served, by gRPC's paths."""


class ModelService:
    """The models, their layers and the block catalogue."""

    def __init__(self, repository: Repository, *, control: bool) -> None:
        """``control``: whether the operator lets callers load and unload."""
        self._repository = repository
        self._control = control

    @property
    def methods(self) -> dict[str, Method]:
        """By their names in the contract."""
        return {
            "ListModels": self._list_models,
            "GetModel": self._get_model,
            "ListLayers": self._list_layers,
            "ListBlocks": self._list_blocks,
            "LoadModel": self._load_model,
            "UnloadModel": self._unload_model,
        }

    def _list_models(self, _request: bytes, _call: Call) -> bytes:
        models = [wire.encode_model(info) for info in self._repository.infos()]
        return pb.ListModelsResponse(models=models).SerializeToString()

    def _get_model(self, request: bytes, _call: Call) -> bytes:
        asked = wire.parse_request(pb.GetModelRequest, request)
        noted(self._repository, asked.model)
        info = self._repository.info(asked.model, asked.version)
        return pb.GetModelResponse(model=wire.encode_model(info)).SerializeToString()

    def _list_layers(self, request: bytes, _call: Call) -> bytes:
        asked = wire.parse_request(pb.ListLayersRequest, request)
        model = found(self._repository, asked.model, asked.version)
        layers = [wire.encode_layer(layer) for layer in model.planner.layers(asked.selector)]
        return pb.ListLayersResponse(
            model=model.info.name, version=model.info.version, layers=layers
        ).SerializeToString()

    def _list_blocks(self, request: bytes, _call: Call) -> bytes:
        name = wire.parse_request(pb.ListBlocksRequest, request).name
        specs = [blocks.get(name)] if name else blocks.CATALOGUE
        return pb.ListBlocksResponse(blocks=[wire.encode_block_spec(spec) for spec in specs]).SerializeToString()

    def _load_model(self, request: bytes, _call: Call) -> bytes:
        self._check_control("LoadModel")
        name = wire.parse_request(pb.LoadModelRequest, request).model
        try:
            info = self._repository.load(name)
        finally:  # a new one is known only now
            noted(self._repository, name)
        return pb.LoadModelResponse(model=wire.encode_model(info)).SerializeToString()

    def _unload_model(self, request: bytes, _call: Call) -> bytes:
        self._check_control("UnloadModel")
        name = wire.parse_request(pb.UnloadModelRequest, request).model
        noted(self._repository, name)
        self._repository.unload(name)
        return pb.UnloadModelResponse().SerializeToString()

    def _check_control(self, method: str) -> None:
        if not self._control:
            raise ControlDisabledError(f"{method} is not allowed here; the operator allows it with --control")
