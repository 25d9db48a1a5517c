"""The HTTP port for monitoring: ``/metrics`` for Prometheus, ``/ready`` for probes without gRPC or TLS."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import Any, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import prometheus_client
from prometheus_client import CollectorRegistry

IDLE_SECONDS = 5.0
"""Seconds after which an inactive connection is closed, since each connection occupies a thread."""


class _Server(ThreadingMixIn, WSGIServer):
    """HTTP server with one thread per connection."""

    daemon_threads = True
    """Threads of connections do not delay the end of the process."""


class _Server6(_Server):
    """HTTP server on an IPv6 address."""

    address_family = socket.AF_INET6


class _QuietHandler(WSGIRequestHandler):
    """Request handler that logs nothing."""

    timeout = IDLE_SECONDS

    def handle(self) -> None:
        """Serve one request, without a traceback if the client disconnects or times out."""
        with contextlib.suppress(TimeoutError, ConnectionError):
            super().handle()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Discard the access log line."""


def start_monitoring(
    host: str,
    port: int,
    registry: CollectorRegistry,
    is_ready: Callable[[], bool],
    flush: Callable[[], None] = lambda: None,
) -> WSGIServer:
    """Start the HTTP server on a thread of its own.

    Args:
        host: address to listen on.
        port: port to listen on; 0 for any free port.
        registry: registry of the exported metrics.
        is_ready: function that returns whether the server accepts requests.
        flush: function called before each scrape; it flushes pending updates of metrics.

    Returns:
        The server; its ``server_port`` is the bound port.

    Raises:
        OSError: the address cannot be bound.
    """
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double the series
    metrics = prometheus_client.make_wsgi_app(registry)

    def app(environment: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environment.get("PATH_INFO") != "/ready":
            flush()
            return cast("Iterable[bytes]", metrics(environment, start_response))
        ready = is_ready()
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        start_response(f"{status.value} {status.phrase}", [("Content-Type", "text/plain")])
        return [b"ready\n" if ready else b"not ready\n"]

    server = make_server(host, port, app, _Server6 if ":" in host else _Server, _QuietHandler)
    threading.Thread(target=server.serve_forever, name="monitoring", daemon=True).start()
    return server
