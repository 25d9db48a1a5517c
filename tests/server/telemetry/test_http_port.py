"""Tests of the HTTP port for monitoring, on a real socket."""

from __future__ import annotations

import contextlib
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest
from prometheus_client import CollectorRegistry, Gauge

from layertap_server.telemetry import http_port


@contextlib.contextmanager
def monitoring(host: str = "127.0.0.1", is_ready: Callable[[], bool] = lambda: True) -> Iterator[int]:
    """Serve a registry with one gauge and yield the port."""
    registry = CollectorRegistry()
    Gauge("answer", "Of everything.", registry=registry).set(42)
    server = http_port.start_monitoring(host, 0, registry, is_ready)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def skip_without_ipv6() -> None:
    """Skip the test if the machine has no IPv6."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")


def read(host: str, port: int, path: str) -> str:
    """Return the body of a response."""
    with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=10) as reply:
        return str(reply.read().decode())


@pytest.mark.parametrize(
    ("host", "asked"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("::", "[::1]"), ("::", "127.0.0.1")],
)
def test_the_port_answers_on_ipv4_and_ipv6(host: str, asked: str) -> None:
    if ":" in host:
        skip_without_ipv6()
    with monitoring(host) as port:
        assert "answer 42.0" in read(asked, port, "/metrics")
        assert read(asked, port, "/ready") == "ready\n"


def test_a_server_that_is_not_ready_reports_it() -> None:
    with monitoring(is_ready=lambda: False) as port, pytest.raises(urllib.error.HTTPError, match="503"):
        read("127.0.0.1", port, "/ready")


@pytest.mark.parametrize("sent", [b"", b"GET /ready HTTP/1.1\r\nHost: x\r\n"], ids=["nothing", "half a request"])
def test_a_silent_connection_is_closed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], sent: bytes
) -> None:
    monkeypatch.setattr(http_port._QuietHandler, "timeout", 0.05)
    with monitoring() as port, socket.create_connection(("127.0.0.1", port), timeout=10) as silent:
        silent.sendall(sent)
        assert silent.recv(1) == b""
        assert read("127.0.0.1", port, "/ready") == "ready\n"
    assert capfd.readouterr().err == ""
