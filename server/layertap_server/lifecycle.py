"""The life of one server: loads the models, starts to listen, reports health, drains and stops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from wsgiref.simple_server import WSGIServer

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from layertap_server.app import Parts, StartError, create_parts, handlers, open_repository, start_errors
from layertap_server.config.settings import Settings
from layertap_server.gauges import add_gauges
from layertap_server.rpc.access import Access
from layertap_server.rpc.all_rpcs import RPCS, SERVICES
from layertap_server.rpc.reflected import reflected_pool
from layertap_server.security.listener import listen, server_options
from layertap_server.telemetry.http_port import start_monitoring

log = logging.getLogger(__name__)

SETTLE_SECONDS = 1.0
"""Maximum seconds that a scrape waits for pending updates of metrics."""
LAST_CALLS_SECONDS = 1.0
"""Seconds that remaining calls, such as watches of health, may take after the drain."""
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Server:
    """One server: its models, its gRPC services and its HTTP port."""

    def __init__(self, settings: Settings) -> None:
        """Create the parts of the server and load the models, without listening.

        Raises:
            StartError: the models folder does not exist, the device does not work, or a setting cannot be applied.
        """
        self.settings = settings
        self._parts: Parts = create_parts(settings)
        self.device = self._parts.computation.runtime.device
        self._health = health.aio.HealthServicer()
        self._reported_models: set[str] = set()
        """Health service names of the models that were reported as serving."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = threading.Event()
        self._metrics_server: WSGIServer | None = None
        self.port = 0
        self.metrics_port: int | None = None
        self.repository = open_repository(self._parts, self._on_models_changed)
        add_gauges(self._parts, self.repository)
        self._load_models()

    async def start(self) -> None:
        """Start to listen, and set `port` and `metrics_port` to the bound ports.

        Raises:
            StartError: an address cannot be bound.
        """
        entry = self._parts.entry
        interceptors = [Access(entry.tokens, self._parts.dispatcher.finish)] if entry.tokens else []
        self._server = grpc.aio.server(interceptors=interceptors, options=server_options(self.settings))
        self._register_services()
        self.metrics_port = self._start_metrics()
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        address = f"{host}:{self.settings.port}"
        try:
            self.port = listen(self._server, address, entry.credentials)
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
        dispatcher = self._parts.dispatcher
        dispatcher.drain()
        self._stopping.set()
        await self._health.enter_graceful_shutdown()
        loop = asyncio.get_running_loop()
        earliest, latest = loop.time() + drain_seconds, loop.time() + grace_seconds
        while loop.time() < earliest or (dispatcher.is_busy and loop.time() < latest):  # noqa: ASYNC110 - clock
            await asyncio.sleep(0.01)
        is_complete = not dispatcher.is_busy
        # The remaining calls, such as watches of health, lose nothing if they are cancelled.
        await self._server.stop(LAST_CALLS_SECONDS)
        dispatcher.close()
        self._parts.computation.decode_pool.shutdown(wait=False, cancel_futures=True)
        if self._metrics_server is not None:
            self._metrics_server.shutdown()
            self._metrics_server.server_close()
        self._parts.sandbox.close()
        if self._parts.traces is not None:
            await asyncio.to_thread(self._parts.traces.close)
        return is_complete

    def _register_services(self) -> None:
        """Register the services with the gRPC server."""
        for rpc in RPCS:
            self._parts.metrics.expect(rpc.service, rpc.name)
        self._server.add_generic_rpc_handlers(handlers(self._parts, self.repository))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if self.settings.reflection:
            names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server, reflected_pool())

    def _load_models(self) -> None:
        """Load all models; if that fails, end the sandbox's processes."""
        self._parts.sandbox.start()
        try:
            with start_errors():
                self.repository.load_all()
        except BaseException:
            self._parts.sandbox.close()
            raise

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
        for service in ("", *SERVICES, *ready):
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
                self.settings.host, port, self._parts.metrics.registry, lambda: self._is_ready, self._flush_metrics
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
