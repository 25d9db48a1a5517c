"""The HTTP port for machines: ``/metrics`` for Prometheus, ``/ready`` for probes that speak no gRPC, or no TLS."""

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
"""After which a connection that says nothing, or reads nothing, is closed: each has a thread."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    """A slow reader does not hold up the stop."""


class _Server6(_Server):
    address_family = socket.AF_INET6


class _QuietHandler(WSGIRequestHandler):
    timeout = IDLE_SECONDS

    def handle(self) -> None:
        """Whoever is silent or goes away is worth no traceback."""
        with contextlib.suppress(TimeoutError, ConnectionError):
            super().handle()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Scrapes are not worth a line."""


def start_monitoring(
    host: str,
    port: int,
    registry: CollectorRegistry,
    is_ready: Callable[[], bool],
    settle: Callable[[], None] = lambda: None,
) -> WSGIServer:
    """Serves on a thread of its own; ``server_port`` says where. Before a scrape ``settle`` counts what was answered.

    Raises:
        OSError: the address cannot be had.
    """
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the series
    metrics = prometheus_client.make_wsgi_app(registry)

    def app(environment: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environment.get("PATH_INFO") != "/ready":
            settle()
            return cast("Iterable[bytes]", metrics(environment, start_response))
        ready = is_ready()
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        start_response(f"{status.value} {status.phrase}", [("Content-Type", "text/plain")])
        return [b"ready\n" if ready else b"not ready\n"]

    server = make_server(host, port, app, _Server6 if ":" in host else _Server, _QuietHandler)
    threading.Thread(target=server.serve_forever, name="monitoring", daemon=True).start()
    return server
