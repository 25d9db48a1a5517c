"""The composition root: creates the parts of a server and connects them."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from layertap_server.config.settings import Settings
from layertap_server.graph import ModelGraph
from layertap_server.inference.apply_blocks import Applier
from layertap_server.inference.batching import Batcher
from layertap_server.inference.decoding import Decoder
from layertap_server.inference.engine import Engine
from layertap_server.inference.model_inputs import InputReader
from layertap_server.inference.plans import Plans
from layertap_server.inference.runs import PlanRunner
from layertap_server.models.loader import LoadedModel, LoadOptions
from layertap_server.models.repository import Hooks, Repository, RepositoryError
from layertap_server.models.shape_probe import find_multiple, probe_shapes
from layertap_server.models.warm_up import WarmUp
from layertap_server.planning.plan_store import PlanStore
from layertap_server.planning.response_cache import ResponseCache
from layertap_server.request.limits import Limits
from layertap_server.rpc.dispatch import Dispatcher
from layertap_server.rpc.feature_service import FeatureService
from layertap_server.rpc.model_service import ModelService
from layertap_server.rpc.oip.infer import Infer
from layertap_server.rpc.oip.service import InferenceService
from layertap_server.rpc.oip.shared_memory import SystemRegions
from layertap_server.rpc.shared_memory_service import SharedMemoryService
from layertap_server.rpc.shared_regions import Regions
from layertap_server.rpc.worker_pool import QueueLimits
from layertap_server.runtime import Contention, DeviceError, Runtime, devices_for
from layertap_server.runtime.cgroup import available_cores, available_threads
from layertap_server.runtime.malloc import HeapTrimmer
from layertap_server.sandbox.jobs import FirstSessionError, Sandbox, SandboxLimits
from layertap_server.security.listener import ExposureError, check_exposure, credentials_for, tokens_for
from layertap_server.security.tls import TlsError
from layertap_server.security.tokens import Tokens, TokensError
from layertap_server.telemetry import logs
from layertap_server.telemetry.metrics import Metrics

if TYPE_CHECKING:
    import grpc

    from layertap_server.telemetry.tracing import Traces

WORKERS_PER_CORE_ON_GPU = 4
"""Default number of worker threads per core if models run on a GPU."""
RUNS_PER_GPU = 2
"""Default number of concurrent runs per GPU."""
MAX_DEFAULT_PLAN_THREADS = 2048
"""Maximum of the default thread limit of compiled plans."""


class StartError(Exception):
    """The server cannot start; the message is a single line for the operator."""


@contextlib.contextmanager
def start_errors() -> Iterator[None]:
    """Convert the configuration errors of the parts to `StartError`."""
    try:
        yield
    except (DeviceError, ExposureError, RepositoryError, TlsError, TokensError) as error:
        raise StartError(str(error)) from error


@dataclass(frozen=True, slots=True)
class Entry:
    """What guards the port: credentials and tokens."""

    credentials: grpc.ServerCredentials | None
    """TLS credentials; None without TLS."""
    tokens: Tokens | None
    """Tokens of the callers; None if calls need none."""


@dataclass(frozen=True, slots=True)
class Computation:
    """The parts that compute."""

    runtime: Runtime
    store: PlanStore
    plan_threads: int
    """Maximum threads of the compiled plans."""
    responses: ResponseCache
    batcher: Batcher
    decode_pool: ThreadPoolExecutor
    engine: Engine
    applier: Applier


@dataclass(frozen=True, slots=True)
class Parts:
    """The connected parts of one server."""

    settings: Settings
    entry: Entry
    metrics: Metrics
    traces: Traces | None
    """Exporter of traces; None if traces are not exported."""
    dispatcher: Dispatcher
    computation: Computation
    sandbox: Sandbox
    trimmer: HeapTrimmer


def create_parts(settings: Settings) -> Parts:
    """Create the parts of a server and connect them.

    Raises:
        StartError: the device does not work, or a setting cannot be applied.
    """
    cores = available_cores()
    with start_errors():
        check_exposure(settings)
        entry = Entry(credentials_for(settings), tokens_for(settings))
        runtime = _runtime(settings, cores)
    metrics, trimmer = Metrics(), HeapTrimmer()
    traces = _traces(settings.otlp_endpoint) if settings.otlp_endpoint else None
    return Parts(
        settings=settings,
        entry=entry,
        metrics=metrics,
        traces=traces,
        dispatcher=_dispatcher(settings, runtime, cores, metrics, traces),
        computation=_computation(settings, runtime, cores, PlanEvents(metrics, trimmer)),
        sandbox=Sandbox(SandboxLimits(settings.load_seconds, settings.load_memory_bytes)),
        trimmer=trimmer,
    )


@dataclass(frozen=True, slots=True)
class PlanEvents:
    """Observer of the plan store and the response cache."""

    metrics: Metrics
    trimmer: HeapTrimmer

    def count(self, event: str) -> None:
        """Count an event of the plan store, and trim the heap after sessions were closed."""
        self.metrics.count_plan_event(event)
        if event in {"shrink", "eviction"}:
            self.trimmer.trim()


@dataclass(frozen=True, slots=True)
class ModelHooks:
    """What the server does when models load and leave."""

    parts: Parts

    def complete(self, model: ModelGraph, size: tuple[int, int] | None) -> ModelGraph:
        """Run the model once in a child process on the CPU, and return it with the observed shapes.

        A failure is ignored if the server uses a GPU, since the model may run only there; the warm-up then tries it.
        """
        try:
            return probe_shapes(model, size, self.parts.sandbox.try_model)
        except FirstSessionError:
            if self.parts.computation.runtime.device == "CPU":
                raise
            return model

    def find_multiple(self, model: ModelGraph) -> int:
        """Return the multiple of pixels that a model accepts; see ``shape_probe.find_multiple``."""
        try:
            return find_multiple(model, self.parts.sandbox.try_model)
        except FirstSessionError:
            return 1

    def retire(self, model: LoadedModel) -> None:
        """Drop the plans and cached responses of a retired model, and trim the heap when its last request has ended."""
        self.parts.computation.store.forget(model.key)
        self.parts.computation.responses.forget(model.key)
        weakref.finalize(model.graph, self.parts.trimmer.trim, at_once=True)
        self.parts.trimmer.trim(at_once=True)


def open_repository(parts: Parts, changed: Callable[[], None]) -> Repository:
    """Return the repository of the settings' models folder, with no model loaded.

    Args:
        parts: the parts of the server.
        changed: callback for each change of the table of models.

    Raises:
        StartError: the models folder does not exist.
    """
    settings, runtime = parts.settings, parts.computation.runtime
    hooks = ModelHooks(parts)
    options = LoadOptions(
        native=parts.sandbox,
        probe=hooks,
        most_bytes=settings.max_model_bytes,
        follow_links=settings.follow_links,
    )
    observers = Hooks(
        try_out=WarmUp(runtime, parts.computation.engine).run,
        retire=hooks.retire,
        changed=changed,
        attempted=parts.metrics.count_load,
    )
    with start_errors():
        return Repository(Path(settings.models), runtime.device, observers, options)


def handlers(parts: Parts, repository: Repository) -> tuple[grpc.GenericRpcHandler, ...]:
    """Return the gRPC handlers of all services of Layertap."""
    computation = parts.computation
    regions = Regions(enabled=parts.settings.shared_memory)
    weights = parts.settings.weights
    features = FeatureService(repository, computation.engine, computation.applier, regions, weights=weights)
    memory = SharedMemoryService(regions)
    models = ModelService(repository, control=parts.settings.control)
    services = (features, memory, models, _inference_service(parts, repository, features))
    return tuple(parts.dispatcher.service(service.handlers) for service in services)


def _inference_service(parts: Parts, repository: Repository, features: FeatureService) -> InferenceService:
    """Return the service of the Open Inference Protocol, which computes with ``features``."""
    settings = parts.settings
    regions = SystemRegions(enabled=settings.system_shared_memory, max_bytes=settings.max_request_bytes)
    return InferenceService(
        repository,
        Infer(repository, features.compute_features, regions),
        parts.computation.engine.preview,
        regions,
        totals=lambda: dict(parts.metrics.totals.of),
        is_ready=lambda: not parts.dispatcher.is_draining,
        control=settings.control,
        traces=parts.traces is not None,
    )


def _dispatcher(
    settings: Settings, runtime: Runtime, cores: int, metrics: Metrics, traces: Traces | None
) -> Dispatcher:
    """Create the dispatcher with its worker threads."""
    # With a GPU, some workers decode while others wait for runs, and waiting requests are batched. On a CPU a batch
    # costs as much as its images one by one, so that more workers would only take memory.
    workers = settings.workers or (cores if runtime.device == "CPU" else WORKERS_PER_CORE_ON_GPU * cores)
    observers = [metrics.count_ended, logs.log_request, *([traces.export_ended] if traces else [])]
    limits = QueueLimits(settings.max_waiting, settings.max_waiting_bytes)
    return Dispatcher(workers, limits, observers, most_streams=settings.max_streams)


def _computation(settings: Settings, runtime: Runtime, cores: int, events: PlanEvents) -> Computation:
    """Create the parts that compute."""
    # With two runs, a GPU computes one batch while the next is copied to it.
    runs = cores if runtime.device == "CPU" else RUNS_PER_GPU * len(runtime.devices)
    plan_threads = settings.plan_cache_threads or min(available_threads() // 2, MAX_DEFAULT_PLAN_THREADS)
    store = PlanStore(settings.plan_cache_bytes, events.count, plan_threads)
    limits = _limits(settings)
    batcher = Batcher(settings.runs or runs)
    responses = ResponseCache(settings.response_cache_bytes, events.metrics.count_response_event)
    decode_pool = ThreadPoolExecutor(cores, thread_name_prefix="decode")
    engine = Engine(
        reader=InputReader(Decoder(decode_pool, limits.image_pixels), limits.images),
        plans=Plans(runtime, store),
        runner=PlanRunner(batcher, limits),
        responses=responses,
        limits=limits,
        contention=runtime.contention,
    )
    applier = Applier(runtime, store, limits)
    return Computation(runtime, store, plan_threads, responses, batcher, decode_pool, engine, applier)


def _runtime(settings: Settings, cores: int) -> Runtime:
    """Create the runtime on the devices of the settings."""
    devices = devices_for(settings.device, settings.device_memory_bytes, tf32=settings.tf32)
    threads = settings.threads or cores
    # Single-threaded replicas need at least one run per core; with fewer runs, cores would be idle.
    may_contend = devices[0].kind == "cpu" and threads > 1 and (settings.runs or cores) >= cores
    return Runtime(devices, threads, Contention(cores if may_contend else 0))


def _traces(endpoint: str) -> Traces:
    """Create the exporter of traces, whose packages are an optional extra."""
    try:
        from layertap_server.telemetry.tracing import Traces  # noqa: PLC0415 - its packages are an optional extra
    except ImportError as error:
        raise StartError(f"--otlp-endpoint needs the package {error.name}: pip install 'layertap[otel]'") from error
    return Traces(endpoint)


def _limits(settings: Settings) -> Limits:
    """Return the limits of requests."""
    return Limits(
        images=settings.max_images,
        image_pixels=settings.max_image_pixels,
        response_bytes=settings.max_response_bytes,
        computed_bytes=settings.max_computed_bytes,
        operations=settings.max_operations,
    )
