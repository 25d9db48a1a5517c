"""The RPCs of ``layertap.v1.ModelService``."""

from __future__ import annotations

from layertap import blocks
from layertap.blocks import BlockSpec
from layertap.errors import ControlDisabledError, ShapeMismatchError
from layertap.types import (
    GetModelRequest,
    ListBlocksRequest,
    ListLayersRequest,
    ListLayersResponse,
    ListModelsRequest,
    LoadModelRequest,
    ModelInfo,
    UnloadModelRequest,
)
from layertap.wire import rpcs
from layertap_server.models.repository import Repository
from layertap_server.request.context import RequestContext
from layertap_server.rpc.calls import Handler
from layertap_server.rpc.handlers import handler_of
from layertap_server.rpc.lookup import find_model, record_model

LARGEST_SIDE = 65_535
"""Maximum height and width in pixels to list layers for."""


class ModelService:
    """Methods that list models, layers and blocks, and that load and unload models."""

    def __init__(self, repository: Repository, *, control: bool) -> None:
        """Serve the models of ``repository``; ``control`` permits callers to load and unload them."""
        self._repository = repository
        self._control = control

    @property
    def handlers(self) -> dict[rpcs.Rpc, Handler]:
        """Handler of each RPC."""
        return dict(
            (
                handler_of(rpcs.LIST_MODELS, self._list_models),
                handler_of(rpcs.GET_MODEL, self._get_model),
                handler_of(rpcs.LIST_LAYERS, self._list_layers),
                handler_of(rpcs.LIST_BLOCKS, self._list_blocks),
                handler_of(rpcs.LOAD_MODEL, self._load_model),
                handler_of(rpcs.UNLOAD_MODEL, self._unload_model),
            )
        )

    def _list_models(self, _request: ListModelsRequest, _context: RequestContext) -> list[ModelInfo]:
        """List all versions of all models."""
        return list(self._repository.infos())

    def _get_model(self, request: GetModelRequest, context: RequestContext) -> ModelInfo:
        """Describe one model."""
        record_model(self._repository, request.name, context)
        return self._repository.info(request.name, request.version)

    def _list_layers(self, request: ListLayersRequest, context: RequestContext) -> ListLayersResponse:
        """List the layers of a model that a selector matches."""
        model = find_model(self._repository, request.model, request.version, context)
        layers = list(model.planner.layers(request.selector, _listed_size(request)))
        return ListLayersResponse(model.info.name, model.info.version, layers)

    def _list_blocks(self, request: ListBlocksRequest, _context: RequestContext) -> list[BlockSpec]:
        """List the block catalogue, or one block by name."""
        return [blocks.get(request.name)] if request.name else list(blocks.CATALOGUE)

    def _load_model(self, request: LoadModelRequest, context: RequestContext) -> ModelInfo:
        """Load or reload a model from its folder."""
        self._check_control("LoadModel")
        try:
            return self._repository.load(request.name)
        finally:  # the repository knows a new model's name only after the load
            record_model(self._repository, request.name, context)

    def _unload_model(self, request: UnloadModelRequest, context: RequestContext) -> None:
        """Unload a model."""
        self._check_control("UnloadModel")
        record_model(self._repository, request.name, context)
        self._repository.unload(request.name)

    def _check_control(self, method: str) -> None:
        """Raise `ControlDisabledError` unless the operator permits loading and unloading."""
        if not self._control:
            raise ControlDisabledError(f"{method} is disabled on this server; the operator enables it with --control")


def _listed_size(request: ListLayersRequest) -> tuple[int, int] | None:
    """Return the height and width to list layers for; None for those of the model's preprocessing.

    Raises:
        ShapeMismatchError: only one of them is given, or one is negative or too large.
    """
    size = request.image_height, request.image_width
    if size == (0, 0):
        return None
    for name, pixels in zip(("image_height", "image_width"), size, strict=True):
        if not 0 < pixels <= LARGEST_SIDE:
            message = f"expected image_height and image_width from 1 to {LARGEST_SIDE}, got {size[0]} and {size[1]}"
            raise ShapeMismatchError(message, field=name)
    return size
