"""The table of all RPCs: one row each, with the types, the codecs, and how the server runs it.

The calls and methods of both clients, the handlers and worker pools of the server, the roles of tokens, the services
of reflection and the first series of the metrics come from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, TypeVar

from layertap.types import (
    GetModelRequest,
    ListBlocksRequest,
    ListLayersRequest,
    ListModelsRequest,
    LoadModelRequest,
    PreviewRequest,
    RegisterRegionRequest,
    UnloadModelRequest,
    UnregisterRegionRequest,
)
from layertap.v1 import feature_service_pb2 as feature_pb
from layertap.v1 import model_service_pb2 as model_pb
from layertap.v1 import shared_memory_service_pb2 as memory_pb
from layertap.wire import _blocks, _features, _models, _previews
from layertap.wire._codecs import (
    Codec,
    empty_response,
    field_response,
    list_response,
    plain_request,
    request_codec,
    response_codec,
)

Request = TypeVar("Request")
Response = TypeVar("Response")


class Kind(Enum):
    """The kinds of RPCs by their streams of messages."""

    UNARY = auto()
    """One request and one response."""
    CHUNKED = auto()
    """One request and a stream of messages that hold one response."""
    STREAM = auto()
    """A stream in each direction."""


class Pool(Enum):
    """The worker pools of the server."""

    WORK = auto()
    """Extractions, with limits of the queue."""
    LISTING = auto()
    """Quick methods, which are never refused."""
    CONTROL = auto()
    """Loading and unloading of models, so that no listing waits for them."""


@dataclass(frozen=True, slots=True)
class ClientMethod:
    """The method of both clients that makes a call, for ``scripts/make_client_methods.py``.

    Its parameters are the fields of the request.
    """

    name: str
    request: type
    """Dataclass of the request."""
    result: str
    """Annotation of the result."""
    doc: str
    attribute: str = ""
    """Attribute of the response that the method returns; empty for the response itself."""


@dataclass(frozen=True, slots=True, eq=False)
class Rpc:
    """A method of a gRPC service."""

    service: str
    """Full name of the service."""
    name: str
    """Name of the method."""
    kind: Kind = Kind.UNARY
    pool: Pool = Pool.WORK
    """Worker pool that runs it."""
    role: str = "extract"
    """Role that a token needs."""

    @property
    def path(self) -> str:
        """Path of the method in gRPC, such as ``/layertap.v1.FeatureService/Extract``."""
        return f"/{self.service}/{self.name}"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class UnaryRpc(Rpc, Generic[Request, Response]):
    """An RPC of one request and one response, with their codecs."""

    request: Codec[Request]
    response: Codec[Response]
    method: ClientMethod | None = None
    """Method of the clients; None if it is written by hand or there is none."""


FEATURES, MODELS, MEMORY = (f"layertap.v1.{name}" for name in ("FeatureService", "ModelService", "SharedMemoryService"))
"""Full names of the services."""

EXTRACT = UnaryRpc(
    FEATURES,
    "Extract",
    request=request_codec(
        feature_pb.ExtractRequest, _features.encode_extract_request, _features.decode_extract_request
    ),
    response=Codec(_features.encode_extract_response, _features.read_extract_response),
)
EXTRACT_STREAM = Rpc(FEATURES, "ExtractStream", Kind.STREAM)
PREVIEW_EXTRACT = UnaryRpc(
    FEATURES,
    "PreviewExtract",
    request=request_codec(
        feature_pb.PreviewExtractRequest, _previews.encode_preview_request, _previews.decode_preview_request
    ),
    response=response_codec(feature_pb.PreviewExtractResponse, _previews.encode_preview, _previews.decode_preview),
    method=ClientMethod(
        "preview",
        PreviewRequest,
        "Preview",
        "Preview `extract`: return its results and cost for ``image_count`` images without running the model.\n\n"
        "``feeds`` are selectors of the layers that `extract` will get values for in its ``inputs``.",
    ),
)
INSPECT_LAYERS = UnaryRpc(
    FEATURES,
    "InspectLayers",
    request=request_codec(
        feature_pb.InspectLayersRequest, _previews.encode_inspect_request, _previews.decode_inspect_request
    ),
    response=response_codec(feature_pb.InspectLayersResponse, _previews.encode_statistics, _previews.decode_statistics),
)
APPLY_BLOCKS = UnaryRpc(
    FEATURES,
    "ApplyBlocks",
    request=request_codec(
        feature_pb.ApplyBlocksRequest, _features.encode_apply_request, _features.decode_apply_request
    ),
    response=Codec(_features.encode_apply_response, _features.read_apply_response),
)
APPLY_BLOCKS_STREAM = Rpc(FEATURES, "ApplyBlocksStream", Kind.CHUNKED)
ATTRIBUTE = Rpc(FEATURES, "Attribute", Kind.CHUNKED)
GET_WEIGHTS = Rpc(FEATURES, "GetWeights", Kind.CHUNKED, role="weights")
LIST_MODELS = UnaryRpc(
    MODELS,
    "ListModels",
    pool=Pool.LISTING,
    request=plain_request(ListModelsRequest, model_pb.ListModelsRequest),
    response=list_response(model_pb.ListModelsResponse, "models", _models.encode_model, _models.decode_model),
    method=ClientMethod(
        "models",
        ListModelsRequest,
        "list[ModelInfo]",
        "Return every model of the server, including those that failed to load.",
    ),
)
GET_MODEL = UnaryRpc(
    MODELS,
    "GetModel",
    pool=Pool.LISTING,
    request=plain_request(GetModelRequest, model_pb.GetModelRequest, model="name"),
    response=field_response(model_pb.GetModelResponse, "model", _models.encode_model, _models.decode_model),
    method=ClientMethod("model", GetModelRequest, "ModelInfo", "Return one model, with its class names."),
)
LIST_LAYERS = UnaryRpc(
    MODELS,
    "ListLayers",
    pool=Pool.LISTING,
    request=plain_request(ListLayersRequest, model_pb.ListLayersRequest),
    response=response_codec(model_pb.ListLayersResponse, _models.encode_layers, _models.decode_layers),
    method=ClientMethod(
        "layers",
        ListLayersRequest,
        "list[LayerInfo]",
        "Return the layers of a model in execution order; with a selector, only the layers that it matches.",
        attribute="layers",
    ),
)
LIST_BLOCKS = UnaryRpc(
    MODELS,
    "ListBlocks",
    pool=Pool.LISTING,
    request=plain_request(ListBlocksRequest, model_pb.ListBlocksRequest),
    response=list_response(model_pb.ListBlocksResponse, "blocks", _blocks.encode_block_spec, _blocks.decode_block_spec),
    method=ClientMethod(
        "blocks",
        ListBlocksRequest,
        "list[BlockSpec]",
        "Return the server's block catalogue, or only the entry called ``name``.",
    ),
)
LOAD_MODEL = UnaryRpc(
    MODELS,
    "LoadModel",
    pool=Pool.CONTROL,
    role="control",
    request=plain_request(LoadModelRequest, model_pb.LoadModelRequest, model="name"),
    response=field_response(model_pb.LoadModelResponse, "model", _models.encode_model, _models.decode_model),
    method=ClientMethod(
        "load_model",
        LoadModelRequest,
        "ModelInfo",
        """Load or reload a model of the server's repository; the operator must have allowed it.

Raises:
    ControlDisabledError: the operator has not allowed it.
    ModelFailedError: the model cannot be loaded; the version loaded before stays in service.""",
    ),
)
UNLOAD_MODEL = UnaryRpc(
    MODELS,
    "UnloadModel",
    pool=Pool.CONTROL,
    role="control",
    request=plain_request(UnloadModelRequest, model_pb.UnloadModelRequest, model="name"),
    response=empty_response(model_pb.UnloadModelResponse),
    method=ClientMethod(
        "unload_model",
        UnloadModelRequest,
        "None",
        "Take a model out of service until it is loaded again; raise the same errors as `load_model`.",
    ),
)
REGISTER_REGION = UnaryRpc(
    MEMORY,
    "RegisterRegion",
    pool=Pool.LISTING,
    request=plain_request(RegisterRegionRequest, memory_pb.RegisterRegionRequest),
    response=field_response(memory_pb.RegisterRegionResponse, "region", str, str),
)
UNREGISTER_REGION = UnaryRpc(
    MEMORY,
    "UnregisterRegion",
    pool=Pool.LISTING,
    request=plain_request(UnregisterRegionRequest, memory_pb.UnregisterRegionRequest),
    response=empty_response(memory_pb.UnregisterRegionResponse),
)
RPCS: tuple[Rpc, ...] = tuple(rpc for rpc in list(globals().values()) if isinstance(rpc, Rpc))
"""All rows above."""
SERVICES = tuple(dict.fromkeys(rpc.service for rpc in RPCS))
"""Full names of all services."""
