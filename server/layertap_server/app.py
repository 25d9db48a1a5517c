"""The composition root: creates the parts of the server, connects them, and starts and stops them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIServer

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from layertap import __version__
from layertap.wire import rpcs
from layertap_server.config.settings import Settings
from layertap_server.graph import ModelGraph
from layertap_server.inference.apply_blocks import Applier
from layertap_server.inference.batching import Batcher
from layertap_server.inference.engine import Engine
from layertap_server.models.loader import LoadedModel, LoadOptions
from layertap_server.models.repository import Hooks, Repository, RepositoryError
from layertap_server.models.shape_probe import probe_shapes
from layertap_server.planning.plan_store import SessionCache
from layertap_server.planning.response_cache import ResponseCache
from layertap_server.request.limits import Limits
from layertap_server.rpc.access import Access
from layertap_server.rpc.dispatch import Dispatcher
from layertap_server.rpc.feature_service import FeatureService
from layertap_server.rpc.model_service import ModelService
from layertap_server.rpc.shared_memory_service import SharedMemoryService
from layertap_server.rpc.shared_regions import Regions
from layertap_server.rpc.worker_pool import QueueLimits
from layertap_server.runtime import Contention, DeviceError, Runtime, devices_for
from layertap_server.runtime.cgroup import available_cores, available_memory_bytes, available_threads
from layertap_server.runtime.malloc import HeapTrimmer
from layertap_server.sandbox.jobs import FirstSessionError, Sandbox, SandboxLimits
from layertap_server.security.listener import (
    ExposureError,
    check_exposure,
    credentials_for,
    listen,
    server_options,
    tokens_for,
)
from layertap_server.security.tls import TlsError
from layertap_server.security.tokens import TokensError
from layertap_server.telemetry import logs
from layertap_server.telemetry.http_port import start_monitoring
from layertap_server.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from layertap_server.telemetry.tracing import Traces

log = logging.getLogger(__name__)

WORKERS_PER_CORE_ON_GPU = 4
"""Default number of worker threads per core if models run on a GPU."""
RUNS_PER_GPU = 2
"""Default number of concurrent runs per GPU."""
MAX_DEFAULT_PLAN_THREADS = 2048
"""Maximum of the default thread limit of compiled plans."""
SETTLE_SECONDS = 1.0
"""Maximum seconds that a scrape waits for pending updates of metrics."""
LAST_CALLS_SECONDS = 1.0
"""Seconds that remaining calls, such as watches of health, may take after the drain."""
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class StartError(Exception):
    """The server cannot start; the message is a single line for the operator."""


@contextlib.contextmanager
def _start_errors() -> Iterator[None]:
    """Convert the configuration errors of the parts to `StartError`."""
    try:
        yield
    except (DeviceError, ExposureError, RepositoryError, TlsError, TokensError) as error:
        raise StartError(str(error)) from error


class Server:
    """One server: its models, its gRPC services and its HTTP port."""

    def __init__(self, settings: Settings) -> None:
        """Create the parts of the server and load the models, without listening.

        Raises:
            StartError: the models folder does not exist, the device does not work, or a setting cannot be applied.
        """
        self.settings = settings
        cores = available_cores()
        with _start_errors():
            check_exposure(settings)
            self._credentials, self._tokens = credentials_for(settings), tokens_for(settings)
            runtime = _runtime(settings, cores)
        self._sandbox = Sandbox(SandboxLimits(settings.load_seconds, settings.load_memory_bytes))
        self.device = runtime.device
        # With a GPU, some workers decode while others wait for runs, and waiting requests are batched. On a CPU a batch
        # costs as much as its images one by one, so that more workers would only take memory.
        workers = settings.workers or (cores if runtime.device == "CPU" else WORKERS_PER_CORE_ON_GPU * cores)
        # With two runs, a GPU computes one batch while the next is copied to it.
        runs = cores if runtime.device == "CPU" else RUNS_PER_GPU * len(runtime.devices)
        self._metrics = Metrics()
        self._traces = _traces(settings.otlp_endpoint) if settings.otlp_endpoint else None
        observers = [
            self._metrics.count_ended,
            logs.log_request,
            *([self._traces.export_ended] if self._traces else []),
        ]
        queue_limits = QueueLimits(settings.max_waiting, settings.max_waiting_bytes)
        self._dispatcher = Dispatcher(workers, queue_limits, observers, most_streams=settings.max_streams)
        self._decode_pool = ThreadPoolExecutor(cores, thread_name_prefix="decode")
        self._memory = HeapTrimmer()
        self._plan_threads = settings.plan_cache_threads or min(available_threads() // 2, MAX_DEFAULT_PLAN_THREADS)
        self._sessions = sessions = SessionCache(settings.plan_cache_bytes, self._on_plan_event, self._plan_threads)
        limits = _limits(settings)
        self._batcher = batcher = Batcher(settings.runs or runs)
        self._responses = ResponseCache(settings.response_cache_bytes, self._metrics.count_response_event)
        self._engine = Engine(runtime, sessions, limits, self._decode_pool, batcher, self._responses)
        self._applier = Applier(runtime, sessions, limits)
        hooks = Hooks(
            try_out=self._engine.warm_up,
            retire=self._retire,
            changed=self._on_models_changed,
            attempted=self._metrics.count_load,
        )
        with _start_errors():
            options = self._load_options()
            self.repository = Repository(Path(settings.models), runtime.device, hooks, options)
        self._add_gauges(sessions)
        self._reported_models: set[str] = set()
        """Health service names of the models that were reported as serving."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = threading.Event()
        self._load_models()
        self._metrics_server: WSGIServer | None = None
        self.port = 0
        self.metrics_port: int | None = None

    async def start(self) -> None:
        """Start to listen, and set `port` and `metrics_port` to the bound ports.

        Raises:
            StartError: an address cannot be bound.
        """
        interceptors = [Access(self._tokens, self._dispatcher.finish)] if self._tokens else []
        self._server = grpc.aio.server(interceptors=interceptors, options=server_options(self.settings))
        self._health = health.aio.HealthServicer()
        self._services = rpcs.SERVICES
        for rpc in rpcs.RPCS:
            self._metrics.expect(rpc.service, rpc.name)
        self._register_services()
        self.metrics_port = self._start_metrics()
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        address = f"{host}:{self.settings.port}"
        try:
            self.port = listen(self._server, address, self._credentials)
        except RuntimeError as error:
            raise StartError(f"cannot listen on {address}; another process may be using it") from error
        await self._server.start()
        self._loop = asyncio.get_running_loop()
        await self._set_health()
        if self.settings.watch:
            threading.Thread(target=self._watch, name="watch", daemon=True).start()

    async def stop(self, *, drain_seconds: float, grace_seconds: float) -> bool:
        """Drain and stop the server.

        New requests are refused with UNAVAILABLE for ``drain_seconds``, and longer until the requests in progress have
        ended, so that callers move to other servers. Then the port closes.

        Args:
            drain_seconds: minimum duration of the drain.
            grace_seconds: maximum time for the requests in progress.

        Returns:
            Whether all requests ended in time; if not, threads of theirs may still run.
        """
        self._dispatcher.drain()
        self._stopping.set()
        await self._health.enter_graceful_shutdown()
        loop = asyncio.get_running_loop()
        earliest, latest = loop.time() + drain_seconds, loop.time() + grace_seconds
        while loop.time() < earliest or (self._dispatcher.is_busy and loop.time() < latest):  # noqa: ASYNC110 - clock
            await asyncio.sleep(0.01)
        is_complete = not self._dispatcher.is_busy
        # The remaining calls, such as watches of health, lose nothing if they are cancelled.
        await self._server.stop(LAST_CALLS_SECONDS)
        self._dispatcher.close()
        self._decode_pool.shutdown(wait=False, cancel_futures=True)
        if self._metrics_server is not None:
            self._metrics_server.shutdown()
            self._metrics_server.server_close()
        self._sandbox.close()
        if self._traces is not None:
            await asyncio.to_thread(self._traces.close)
        return is_complete

    def _register_services(self) -> None:
        """Register the services with the gRPC server."""
        regions = Regions(enabled=self.settings.shared_memory)
        features = FeatureService(self.repository, self._engine, self._applier, regions)
        memory = SharedMemoryService(regions)
        models = ModelService(self.repository, control=self.settings.control)
        services = [self._dispatcher.service(service.handlers) for service in (features, memory, models)]
        self._server.add_generic_rpc_handlers(services)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if self.settings.reflection:
            names = (*self._services, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)

    def _load_models(self) -> None:
        """Load all models; if that fails, end the sandbox's processes."""
        self._sandbox.start()
        try:
            with _start_errors():
                self.repository.load_all()
        except BaseException:
            self._sandbox.close()
            raise

    def _load_options(self) -> LoadOptions:
        """Return the options of loading models."""
        return LoadOptions(
            native=self._sandbox,
            probe=self._try_model,
            most_bytes=self.settings.max_model_bytes,
            follow_links=self.settings.follow_links,
        )

    def _try_model(self, model: ModelGraph, size: tuple[int, int] | None) -> ModelGraph:
        """Run the model once in a child process on the CPU, and return it with the observed shapes.

        A failure is ignored if the server uses a GPU, since the model may run only there; the warm-up then tries it.
        """
        try:
            return probe_shapes(model, size, self._sandbox.try_model)
        except FirstSessionError:
            if self.device == "CPU":
                raise
            return model

    def _on_plan_event(self, event: str) -> None:
        """Count an event of the plan cache, and trim the heap after sessions were closed."""
        self._metrics.count_plan_event(event)
        if event in {"shrink", "eviction"}:
            self._memory.trim()

    def _retire(self, model: LoadedModel) -> None:
        """Drop the plans and cached responses of a retired model, and trim the heap when its last request has ended."""
        self._sessions.forget(model.key)
        self._responses.forget(model.key)
        weakref.finalize(model.graph, self._memory.trim, at_once=True)
        self._memory.trim(at_once=True)

    def _on_models_changed(self) -> None:
        """Update the health service after a load or unload; called on the loading thread."""
        if self._loop is not None and not self._stopping.is_set():
            asyncio.run_coroutine_threadsafe(self._set_health(), self._loop)

    @property
    def _is_ready(self) -> bool:
        """Whether the server accepts requests."""
        return self._loop is not None and not self._stopping.is_set()

    async def _set_health(self) -> None:
        """Report the server, its services and its models to the health service."""
        ready = {f"model/{model.info.name}" for model in self.repository.loaded()}
        for service in ("", *self._services, *ready):
            await self._health.set(service, SERVING)
        for service in self._reported_models - ready:
            await self._health.set(service, NOT_SERVING)
        self._reported_models |= ready

    def _watch(self) -> None:
        """Reload changed models at the interval of the settings, until the server stops."""
        while not self._stopping.wait(self.settings.watch_seconds):
            try:
                self.repository.refresh()
            except OSError as error:
                log.warning("cannot read the models folder; trying again later: %s", error)
            except Exception:  # one failure must not end the watch
                log.exception("cannot check the models folder for changes; trying again later")

    def _start_metrics(self) -> int | None:
        """Start the HTTP port and return the bound port; None if it is disabled."""
        port = self.settings.metrics_port
        if port < 0:
            return None
        try:
            server = start_monitoring(
                self.settings.host, port, self._metrics.registry, lambda: self._is_ready, self._flush_metrics
            )
        except OSError as error:
            message = f"cannot listen on {self.settings.host}:{port} for metrics: {error.strerror}"
            raise StartError(f"{message}; set another --metrics-port, or -1 for none") from error
        self._metrics_server = server
        return int(server.server_port)

    def _flush_metrics(self) -> None:
        """Flush pending updates of metrics, so that a scrape includes every request already answered."""
        done = threading.Event()
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(done.set)
                done.wait(SETTLE_SECONDS)

    def _add_gauges(self, sessions: SessionCache) -> None:
        """Add the metrics whose values are read from the parts at each scrape."""
        settings, metrics = self.settings, self._metrics
        dispatcher, batcher = self._dispatcher, self._batcher
        metrics.add_info(version=__version__, device=self.device)
        metrics.watch_models(self.repository.infos)
        if self.device != "CPU":
            metrics.watch_devices()
        if settings.triton_metrics:
            metrics.add_triton_names()
        metrics.add_gauge("layertap_plans", "Compiled plans in the cache.", lambda: len(sessions))
        metrics.add_gauge("layertap_plan_bytes", "Estimated memory of the compiled plans.", lambda: sessions.used_bytes)
        metrics.add_gauge(
            "layertap_plan_budget_bytes", "Maximum memory of the compiled plans.", lambda: settings.plan_cache_bytes
        )
        metrics.add_gauge("layertap_plan_threads", "Threads of the compiled plans.", lambda: sessions.used_threads)
        metrics.add_gauge(
            "layertap_plan_threads_budget", "Maximum threads of the compiled plans.", lambda: self._plan_threads
        )
        tokens = self._tokens
        metrics.add_gauge(
            "layertap_tokens_stale",
            "1 if the tokens file is unusable and its former tokens remain valid, else 0.",
            lambda: tokens.is_stale if tokens else 0,
        )
        metrics.add_gauge(
            "layertap_response_cache_bytes", "Bytes of the cached responses.", lambda: self._responses.used_bytes
        )
        metrics.add_gauge(
            "layertap_requests_admitted", "Requests for features that wait or run.", lambda: dispatcher.admitted
        )
        metrics.add_gauge(
            "layertap_requests_waiting", "Requests for features that wait for a worker.", lambda: dispatcher.waiting
        )
        metrics.add_gauge(
            "layertap_requests_waiting_limit",
            "Maximum requests that may wait for a worker.",
            lambda: settings.max_waiting,
        )
        metrics.add_gauge("layertap_streams", "Open streams.", lambda: dispatcher.streams)
        metrics.add_gauge("layertap_runs", "Runs of models in progress.", lambda: batcher.running)
        metrics.add_gauge("layertap_runs_waiting", "Parts of requests that wait for a run.", lambda: batcher.waiting)
        metrics.add_gauge(
            "layertap_memory_limit_bytes",
            "Memory limit of the process: its container's or the machine's.",
            available_memory_bytes,
        )


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
