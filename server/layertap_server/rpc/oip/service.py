"""The RPCs of ``inference.GRPCInferenceService``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from layertap import __version__
from layertap.errors import ControlDisabledError, InvalidRequestError, LayertapError, NotSupportedError
from layertap.types import ModelState
from layertap.wire.rpcs import Rpc
from layertap_server.models.repository import Repository
from layertap_server.request.context import RequestContext
from layertap_server.request.totals import Totals
from layertap_server.rpc.calls import Handler
from layertap_server.rpc.lookup import find_model, record_model
from layertap_server.rpc.oip import methods
from layertap_server.rpc.oip.descriptions import Previewer, describe_config, describe_metadata
from layertap_server.rpc.oip.infer import Infer
from layertap_server.rpc.oip.messages import handler_of, message_class
from layertap_server.rpc.oip.shared_memory import SystemRegions
from layertap_server.rpc.oip.statistics import describe_statistics

EXTENSIONS = (
    "model_repository",
    "model_configuration",
    "system_shared_memory",
    "binary_tensor_data",
    "parameters",
    "statistics",
)
"""Extensions of the protocol that the server supports; shared memory only if the operator permits it."""
STATES = {ModelState.READY: "READY", ModelState.LOADING: "LOADING"}
"""Names of the states of models; all others are UNAVAILABLE."""


@dataclass(frozen=True, slots=True)
class InferenceService:
    """Methods of the protocol."""

    repository: Repository
    infer: Infer
    preview: Previewer
    """Function that returns the results of taps without computing them."""
    regions: SystemRegions
    totals: Callable[[], Mapping[tuple[str, str], Totals]]
    """Function that returns the totals of each version of each model, by name and version."""
    is_ready: Callable[[], bool]
    """Function that returns whether the server accepts requests."""
    control: bool
    """Whether callers may load and unload models."""
    traces: bool
    """Whether traces are exported."""

    @property
    def handlers(self) -> dict[Rpc, Handler]:
        """Handler of each RPC."""
        functions: dict[Rpc, Callable[[Any, RequestContext], Any]] = {
            methods.SERVER_LIVE: lambda _request, _context: _message("ServerLive", live=True),
            methods.SERVER_READY: self._server_ready,
            methods.MODEL_READY: self._model_ready,
            methods.SERVER_METADATA: self._server_metadata,
            methods.MODEL_METADATA: self._model_metadata,
            methods.MODEL_CONFIG: self._model_config,
            methods.MODEL_STATISTICS: self._model_statistics,
            methods.REPOSITORY_INDEX: self._index,
            methods.REPOSITORY_MODEL_LOAD: self._load,
            methods.REPOSITORY_MODEL_UNLOAD: self._unload,
            methods.SYSTEM_STATUS: self._region_status,
            methods.SYSTEM_REGISTER: self._register,
            methods.SYSTEM_UNREGISTER: self._unregister,
            methods.CUDA_STATUS: lambda _request, _context: _message("CudaSharedMemoryStatus"),
            methods.CUDA_REGISTER: _refuse_cuda,
            methods.CUDA_UNREGISTER: lambda _request, _context: _message("CudaSharedMemoryUnregister"),
            methods.TRACE_SETTING: self._trace_setting,
            methods.LOG_SETTINGS: _log_settings,
        }
        return {
            methods.MODEL_INFER: self.infer.infer,
            methods.MODEL_STREAM_INFER: self.infer.infer_stream,
            **{rpc: handler_of(rpc, function) for rpc, function in functions.items()},
        }

    def _server_ready(self, _request: Any, _context: RequestContext) -> Any:
        """Return whether the server accepts requests."""
        return _message("ServerReady", ready=self.is_ready())

    def _model_ready(self, request: Any, context: RequestContext) -> Any:
        """Return whether a model accepts requests."""
        try:
            find_model(self.repository, request.name, request.version, context)
        except LayertapError:
            return _message("ModelReady", ready=False)
        return _message("ModelReady", ready=self.is_ready())

    def _server_metadata(self, _request: Any, _context: RequestContext) -> Any:
        """Describe the server."""
        extensions = [one for one in EXTENSIONS if one != "system_shared_memory" or self.regions.enabled]
        return _message("ServerMetadata", name="layertap", version=__version__, extensions=extensions)

    def _model_metadata(self, request: Any, context: RequestContext) -> Any:
        """Describe the tensors of a model."""
        model = find_model(self.repository, request.name, request.version, context)
        return describe_metadata(model, self.preview, context)

    def _model_config(self, request: Any, context: RequestContext) -> Any:
        """Describe the tensors and the batching of a model."""
        model = find_model(self.repository, request.name, request.version, context)
        return describe_config(model, self.preview, context)

    def _model_statistics(self, request: Any, context: RequestContext) -> Any:
        """Return the counts and durations of one model or of all loaded models."""
        models = [model.info for model in self.repository.loaded()]
        if request.name:
            model = find_model(self.repository, request.name, request.version, context).info
            models = [one for one in models if one.name == model.name and request.version in {"", one.version}]
        return describe_statistics([(one.name, one.version) for one in models], self.totals())

    def _index(self, request: Any, _context: RequestContext) -> Any:
        """List all models."""
        _check_repository(request.repository_name)
        response = _message("RepositoryIndex")
        for info in self.repository.infos():
            if info.state is ModelState.READY or not request.ready:
                state = STATES.get(info.state, "UNAVAILABLE")
                response.models.add(name=info.name, version=info.version, state=state, reason=info.reason)
        return response

    def _load(self, request: Any, context: RequestContext) -> Any:
        """Load or reload a model from its folder."""
        self._check_control("RepositoryModelLoad", request.repository_name)
        if request.parameters:
            message = "models load from the server's folder only: a configuration or files in the request are refused"
            raise NotSupportedError(message, field="parameters")
        try:
            self.repository.load(request.model_name)
        finally:  # the repository knows a new model's name only after the load
            record_model(self.repository, request.model_name, context)
        return _message("RepositoryModelLoad")

    def _unload(self, request: Any, context: RequestContext) -> Any:
        """Unload a model."""
        self._check_control("RepositoryModelUnload", request.repository_name)
        record_model(self.repository, request.model_name, context)
        self.repository.unload(request.model_name)
        return _message("RepositoryModelUnload")

    def _check_control(self, method: str, repository: str) -> None:
        """Raise `ControlDisabledError` unless the operator permits loading and unloading."""
        if not self.control:
            raise ControlDisabledError(f"{method} is disabled on this server; the operator enables it with --control")
        _check_repository(repository)

    def _region_status(self, request: Any, _context: RequestContext) -> Any:
        """List the registered regions."""
        response = _message("SystemSharedMemoryStatus")
        for region in self.regions.list(request.name):
            status = response.regions[region.name]
            status.name, status.key = region.name, region.key
            status.offset, status.byte_size = region.offset, region.byte_size
        return response

    def _register(self, request: Any, _context: RequestContext) -> Any:
        """Register a region."""
        self.regions.register(request.name, request.key, request.offset, request.byte_size)
        return _message("SystemSharedMemoryRegister")

    def _unregister(self, request: Any, _context: RequestContext) -> Any:
        """Unregister a region, or all."""
        self.regions.unregister(request.name)
        return _message("SystemSharedMemoryUnregister")

    def _trace_setting(self, request: Any, _context: RequestContext) -> Any:
        """Return the settings of traces; refuse to change them."""
        if request.settings:
            raise NotSupportedError("traces are configured when the server starts, with --otlp-endpoint")
        response = _message("TraceSetting")
        settings: dict[str, Sequence[str]] = {
            "trace_level": ["TIMESTAMPS" if self.traces else "OFF"],
            "trace_mode": ["opentelemetry"],
        }
        for name, values in settings.items():
            response.settings[name].value.extend(values)
        return response


def _message(method: str, **fields: Any) -> Any:
    """Return the response of a method with these fields."""
    return message_class(f"{method}Response")(**fields)


def _refuse_cuda(_request: Any, _context: RequestContext) -> Any:
    """Refuse to register a region of CUDA memory."""
    raise NotSupportedError("CUDA shared memory is not supported; use system shared memory or raw contents")


def _log_settings(request: Any, _context: RequestContext) -> Any:
    """Return the settings of the log; refuse to change them."""
    if request.settings:
        raise NotSupportedError("the log is configured when the server starts, with --log-level and --log-format")
    response = _message("LogSettings")
    for level in ("log_error", "log_warning", "log_info"):
        response.settings[level].bool_param = True
    response.settings["log_verbose_level"].uint32_param = 0
    return response


def _check_repository(name: str) -> None:
    """Raise `InvalidRequestError` if a request names a repository, since the server has one without a name."""
    if name:
        message = f"expected an empty repository_name, since the server has one repository, got {name!r:.100}"
        raise InvalidRequestError(message, field="repository_name")
