"""The RPCs of ``layertap.v1.ModelService``."""

from __future__ import annotations

from layertap import blocks, wire
from layertap.errors import ControlDisabledError
from layertap.v1 import model_service_pb2 as pb  # noqa: TID251 - a service speaks messages
from layertap_server.models.repository import Repository
from layertap_server.request.context import RequestContext
from layertap_server.rpc.dispatch import Method
from layertap_server.rpc.lookup import find_model, record_model

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["ModelService"]
"""Descriptor of the service."""
SLOW = frozenset({"LoadModel", "UnloadModel"})
"""Methods that load or unload models. They run on a worker of their own, so that no listing waits for them."""
CONTROL = frozenset(f"/{DESCRIPTOR.full_name}/{name}" for name in SLOW)
"""gRPC paths of the methods that require the role ``control``."""


class ModelService:
    """Methods that list models, layers and blocks, and that load and unload models."""

    def __init__(self, repository: Repository, *, control: bool) -> None:
        """Serve the models of ``repository``; ``control`` permits callers to load and unload them."""
        self._repository = repository
        self._control = control

    @property
    def methods(self) -> dict[str, Method]:
        """Unary methods by their names in the proto."""
        return {
            "ListModels": self._list_models,
            "GetModel": self._get_model,
            "ListLayers": self._list_layers,
            "ListBlocks": self._list_blocks,
            "LoadModel": self._load_model,
            "UnloadModel": self._unload_model,
        }

    def _list_models(self, _request: bytes, _context: RequestContext) -> bytes:
        """List all versions of all models."""
        models = [wire.encode_model(info) for info in self._repository.infos()]
        return pb.ListModelsResponse(models=models).SerializeToString()

    def _get_model(self, request: bytes, context: RequestContext) -> bytes:
        """Describe one model."""
        asked = wire.parse_request(pb.GetModelRequest, request)
        record_model(self._repository, asked.model, context)
        info = self._repository.info(asked.model, asked.version)
        return pb.GetModelResponse(model=wire.encode_model(info)).SerializeToString()

    def _list_layers(self, request: bytes, context: RequestContext) -> bytes:
        """List the layers of a model that a selector matches."""
        asked = wire.parse_request(pb.ListLayersRequest, request)
        model = find_model(self._repository, asked.model, asked.version, context)
        layers = [wire.encode_layer(layer) for layer in model.planner.layers(asked.selector)]
        return pb.ListLayersResponse(
            model=model.info.name, version=model.info.version, layers=layers
        ).SerializeToString()

    def _list_blocks(self, request: bytes, _context: RequestContext) -> bytes:
        """List the block catalogue, or one block by name."""
        name = wire.parse_request(pb.ListBlocksRequest, request).name
        specs = [blocks.get(name)] if name else blocks.CATALOGUE
        return pb.ListBlocksResponse(blocks=[wire.encode_block_spec(spec) for spec in specs]).SerializeToString()

    def _load_model(self, request: bytes, context: RequestContext) -> bytes:
        """Load or reload a model from its folder."""
        self._check_control("LoadModel")
        name = wire.parse_request(pb.LoadModelRequest, request).model
        try:
            info = self._repository.load(name)
        finally:  # the repository knows a new model's name only after the load
            record_model(self._repository, name, context)
        return pb.LoadModelResponse(model=wire.encode_model(info)).SerializeToString()

    def _unload_model(self, request: bytes, context: RequestContext) -> bytes:
        """Unload a model."""
        self._check_control("UnloadModel")
        name = wire.parse_request(pb.UnloadModelRequest, request).model
        record_model(self._repository, name, context)
        self._repository.unload(name)
        return pb.UnloadModelResponse().SerializeToString()

    def _check_control(self, method: str) -> None:
        """Raise `ControlDisabledError` unless the operator permits loading and unloading."""
        if not self._control:
            raise ControlDisabledError(f"{method} is disabled on this server; the operator enables it with --control")
