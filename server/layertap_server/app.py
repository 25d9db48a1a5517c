"""The composition root: makes every part, joins them, starts and stops them. The one module that sees all."""

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
from layertap_server.rpc import feature_service, model_service, shared_memory_service
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
RUNS_PER_GPU = 2
MOST_PLAN_THREADS = 2048
"""Default limit of the threads of compiled plans, where the system would allow more."""
SETTLE_SECONDS = 1.0
LAST_CALLS_SECONDS = 1.0
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class StartError(Exception):
    """The server cannot start; the message is one line for the operator."""


@contextlib.contextmanager
def _start_errors() -> Iterator[None]:
    """What a part says of its settings, as the operator is told it."""
    try:
        yield
    except (DeviceError, ExposureError, RepositoryError, TlsError, TokensError) as error:
        raise StartError(str(error)) from error


class Server:
    """One running service."""

    def __init__(self, settings: Settings) -> None:
        """Loads the models; listens to nothing yet.

        Raises:
            StartError: no such folder of models, or the device does not work.
        """
        self.settings = settings
        cores = available_cores()
        with _start_errors():
            check_exposure(settings)
            self._credentials, self._tokens = credentials_for(settings), tokens_for(settings)
            runtime = _runtime(settings, cores)
        self._sandbox = Sandbox(SandboxLimits(settings.load_seconds, settings.load_memory_bytes))
        self.device = runtime.device
        # On a GPU some decode while others run, and those that wait at the same time run together; on a CPU a batch
        # costs as much as its images, and more threads only take memory.
        workers = settings.workers or (cores if runtime.device == "CPU" else WORKERS_PER_CORE_ON_GPU * cores)
        # A GPU computes one batch while the next is copied to it.
        runs = cores if runtime.device == "CPU" else RUNS_PER_GPU * len(runtime.devices)
        self._metrics = Metrics()
        self._traces = _traces(settings.otlp_endpoint) if settings.otlp_endpoint else None
        observers = [self._metrics.ended, logs.log_request, *([self._traces.ended] if self._traces else [])]
        room = QueueLimits(settings.max_waiting, settings.max_waiting_bytes)
        self._dispatcher = Dispatcher(workers, room, observers, most_streams=settings.max_streams)
        self._decode_pool = ThreadPoolExecutor(cores, thread_name_prefix="decode")
        self._memory = HeapTrimmer()
        self._plan_threads = settings.plan_cache_threads or min(available_threads() // 2, MOST_PLAN_THREADS)
        self._sessions = sessions = SessionCache(settings.plan_cache_bytes, self._plan_event, self._plan_threads)
        limits = _limits(settings)
        self._batcher = batcher = Batcher(settings.runs or runs)
        self._responses = ResponseCache(settings.response_cache_bytes, self._metrics.response)
        self._engine = Engine(runtime, sessions, limits, self._decode_pool, batcher, self._responses)
        self._applier = Applier(runtime, sessions, limits)
        hooks = Hooks(
            try_out=self._engine.warm_up,
            retire=self._retire,
            changed=self._models_changed,
            attempted=self._metrics.loaded,
        )
        with _start_errors():
            options = self._load_options()
            self.repository = Repository(Path(settings.models), runtime.device, hooks, options)
        self._observe(sessions)
        self._told: set[str] = set()
        """The models whose health was told."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = threading.Event()
        self._load_models()
        self._metrics_server: WSGIServer | None = None
        self.port = 0
        self.metrics_port: int | None = None

    async def start(self) -> None:
        """Listens; `port` and `metrics_port` then say where.

        Raises:
            StartError: an address cannot be had.
        """
        interceptors = [Access(self._tokens, self._dispatcher.ended)] if self._tokens else []
        self._server = grpc.aio.server(interceptors=interceptors, options=server_options(self.settings))
        self._health = health.aio.HealthServicer()
        services = (feature_service, model_service, shared_memory_service)
        self._services = [service.DESCRIPTOR.full_name for service in services]
        for service in services:
            self._metrics.expect(service.DESCRIPTOR.full_name, [method.name for method in service.DESCRIPTOR.methods])
        self._register()
        self.metrics_port = self._start_metrics()
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        address = f"{host}:{self.settings.port}"
        try:
            self.port = listen(self._server, address, self._credentials)
        except RuntimeError as error:
            raise StartError(f"cannot listen on {address}; is something else listening there?") from error
        await self._server.start()
        self._loop = asyncio.get_running_loop()
        await self._set_health()
        if self.settings.watch:
            threading.Thread(target=self._watch, name="watch", daemon=True).start()

    async def stop(self, *, drain_seconds: float, grace_seconds: float) -> bool:
        """Refuses new work for ``drain_seconds`` and until the work under way has ended, and stops.

        gRPC cancels calls that arrive while it stops; in the time before, callers are told UNAVAILABLE and move on.
        Work that takes longer than ``grace_seconds`` is left behind; returns whether there is none.
        """
        self._dispatcher.drain()
        self._stopping.set()
        await self._health.enter_graceful_shutdown()
        loop = asyncio.get_running_loop()
        earliest, latest = loop.time() + drain_seconds, loop.time() + grace_seconds
        while loop.time() < earliest or (self._dispatcher.is_busy and loop.time() < latest):  # noqa: ASYNC110 - clock
            await asyncio.sleep(0.01)
        is_complete = not self._dispatcher.is_busy
        # What else is open, such as a probe that watches health, has nothing to lose.
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

    def _register(self) -> None:
        dispatcher = self._dispatcher
        regions = Regions(offered=self.settings.shared_memory)
        features = FeatureService(self.repository, self._engine, self._applier, regions)
        memory = SharedMemoryService(regions)
        models = ModelService(self.repository, control=self.settings.control)
        self._server.add_generic_rpc_handlers(
            (
                dispatcher.service(
                    feature_service.DESCRIPTOR, features.methods, features.streams, features.chunked, quick=False
                ),
                dispatcher.service(shared_memory_service.DESCRIPTOR, memory.methods, quick=True),
                dispatcher.service(model_service.DESCRIPTOR, models.methods, quick=True, slow=model_service.SLOW),
            )
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if self.settings.reflection:
            names = (*self._services, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)

    def _load_models(self) -> None:
        self._sandbox.start()
        try:
            with _start_errors():
                self.repository.load_all()
        except BaseException:
            self._sandbox.close()
            raise

    def _load_options(self) -> LoadOptions:
        return LoadOptions(
            native=self._sandbox,
            probe=self._first_session,
            most_bytes=self.settings.max_model_bytes,
            follow_links=self.settings.follow_links,
        )

    def _first_session(self, model: ModelGraph, size: tuple[int, int] | None) -> ModelGraph:
        """Try the model in a child process, on its CPU; what only a GPU can run is tried when it is warmed."""
        try:
            return probe_shapes(model, size, self._sandbox.try_model)
        except FirstSessionError:
            if self.device == "CPU":
                raise
            return model

    def _plan_event(self, event: str) -> None:
        self._metrics.plan(event)
        if event in {"shrink", "eviction"}:
            self._memory.trim()

    def _retire(self, model: LoadedModel) -> None:
        """Frees what a model that serves no more took, once the requests that it still answers have ended."""
        self._sessions.forget(model.key)
        self._responses.forget(model.key)
        weakref.finalize(model.graph, self._memory.trim, at_once=True)
        self._memory.trim(at_once=True)

    def _models_changed(self) -> None:
        """Tells health; whoever loads calls it, on a thread of his own."""
        if self._loop is not None and not self._stopping.is_set():
            asyncio.run_coroutine_threadsafe(self._set_health(), self._loop)

    @property
    def _is_ready(self) -> bool:
        return self._loop is not None and not self._stopping.is_set()

    async def _set_health(self) -> None:
        ready = {f"model/{model.info.name}" for model in self.repository.loaded()}
        for service in ("", *self._services, *ready):
            await self._health.set(service, SERVING)
        for service in self._told - ready:
            await self._health.set(service, NOT_SERVING)
        self._told |= ready

    def _watch(self) -> None:
        while not self._stopping.wait(self.settings.watch_seconds):
            try:
                self.repository.refresh()
            except OSError as error:
                log.warning("the models folder cannot be looked at: %s", error)
            except Exception:  # what goes wrong once must not end the watch
                log.exception("the models folder cannot be watched")

    def _start_metrics(self) -> int | None:
        port = self.settings.metrics_port
        if port < 0:
            return None
        try:
            server = start_monitoring(
                self.settings.host, port, self._metrics.registry, lambda: self._is_ready, self._settle
            )
        except OSError as error:
            message = f"cannot listen on {self.settings.host}:{port} for metrics: {error.strerror}"
            raise StartError(f"{message}; choose another --metrics-port, or -1 for none") from error
        self._metrics_server = server
        return int(server.server_port)

    def _settle(self) -> None:
        """Lets the event loop do what was due when this was called: whoever has an answer finds it counted."""
        done = threading.Event()
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it is closed
                self._loop.call_soon_threadsafe(done.set)
                done.wait(SETTLE_SECONDS)

    def _observe(self, sessions: SessionCache) -> None:
        settings, metrics = self.settings, self._metrics
        dispatcher, batcher = self._dispatcher, self._batcher
        metrics.info(version=__version__, device=self.device)
        metrics.watch_models(self.repository.infos)
        if self.device != "CPU":
            metrics.watch_devices()
        if settings.triton_metrics:
            metrics.offer_triton_names()
        metrics.gauge("layertap_plans", "Compiled plans, each with its session or two.", lambda: len(sessions))
        metrics.gauge("layertap_plan_bytes", "Memory that they are reckoned to take.", lambda: sessions.used_bytes)
        metrics.gauge("layertap_plan_budget_bytes", "Memory that they may take.", lambda: settings.plan_cache_bytes)
        metrics.gauge("layertap_plan_threads", "Threads that they keep.", lambda: sessions.used_threads)
        metrics.gauge("layertap_plan_threads_budget", "Threads that they may keep.", lambda: self._plan_threads)
        tokens = self._tokens
        metrics.gauge(
            "layertap_tokens_stale", "1 where the tokens file cannot be read.", lambda: tokens.is_stale if tokens else 0
        )
        metrics.gauge("layertap_response_cache_bytes", "Answers that are kept.", lambda: self._responses.used_bytes)
        metrics.gauge("layertap_requests_admitted", "Requests that wait or run.", lambda: dispatcher.admitted)
        metrics.gauge("layertap_requests_waiting", "Requests that wait for a worker.", lambda: dispatcher.waiting)
        metrics.gauge("layertap_requests_waiting_limit", "How many may wait.", lambda: settings.max_waiting)
        metrics.gauge("layertap_streams", "Streams that are open.", lambda: dispatcher.streams)
        metrics.gauge("layertap_runs", "Runs of models in flight.", lambda: batcher.running)
        metrics.gauge("layertap_runs_waiting", "Parts of requests that wait for a run.", lambda: batcher.waiting)
        metrics.gauge("layertap_memory_limit_bytes", "Memory that the process may take.", available_memory_bytes)


def _runtime(settings: Settings, cores: int) -> Runtime:
    """On the devices that the settings name."""
    devices = devices_for(settings.device, settings.device_memory_bytes, tf32=settings.tf32)
    threads = settings.threads or cores
    # With fewer runs in flight than cores, runs of one thread would leave cores idle.
    may_crowd = devices[0].kind == "cpu" and threads > 1 and (settings.runs or cores) >= cores
    return Runtime(devices, threads, Contention(cores if may_crowd else 0))


def _traces(endpoint: str) -> Traces:
    try:
        from layertap_server.telemetry.tracing import Traces  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise StartError(f"traces need {error.name}, which is missing: pip install 'layertap[otel]'") from error
    return Traces(endpoint)


def _limits(settings: Settings) -> Limits:
    return Limits(
        images=settings.max_images,
        image_pixels=settings.max_image_pixels,
        response_bytes=settings.max_response_bytes,
        computed_bytes=settings.max_computed_bytes,
        operations=settings.max_operations,
    )
