"""Tests that the health check calls the address of the server's settings."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2_grpc
from prometheus_client import CollectorRegistry

from layertap_server import healthcheck
from layertap_server.config.settings import Settings, SettingsError
from layertap_server.telemetry.http_port import start_monitoring
from tests.processes import free_port

TLS = {"LAYERTAP_TLS_CERTIFICATE": "c.pem", "LAYERTAP_TLS_KEY": "k.pem"}


@contextlib.contextmanager
def serving(host: str) -> Iterator[int]:
    """Run a server with only the health service and yield its port."""
    server = grpc.server(ThreadPoolExecutor(1))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port(f"{host}:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "0.0.0.0", "localhost"])
def test_the_host_of_the_settings_is_called(host: str) -> None:
    with serving(host) as port:
        environment = {"LAYERTAP_HOST": host, "LAYERTAP_PORT": str(port)}
        assert healthcheck.check(environment)
        if host == "127.0.0.2":
            assert not healthcheck.check({**environment, "LAYERTAP_HOST": "127.0.0.1"})


def test_proxy_variables_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignore proxy variables, since Docker passes its own proxy settings to every container."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    with serving("127.0.0.1") as port:
        assert healthcheck.is_serving(f"127.0.0.1:{port}")
    server = start_monitoring("127.0.0.1", 0, CollectorRegistry(), lambda: True)
    try:
        assert healthcheck.is_ready(f"127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()


def test_the_config_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "layertap.yaml"
    with serving("127.0.0.1") as port:
        file.write_text(f"port: {port}\n")
        assert healthcheck.check({"LAYERTAP_CONFIG": str(file)})
        assert not healthcheck.check({"LAYERTAP_CONFIG": str(file), "LAYERTAP_PORT": str(free_port())})


@pytest.mark.parametrize("host", ["127.0.0.2", "0.0.0.0"])
def test_with_tls_the_metrics_port_is_called(host: str) -> None:
    server = start_monitoring(host, 0, CollectorRegistry(), lambda: True)
    try:
        assert healthcheck.check({**TLS, "LAYERTAP_HOST": host, "LAYERTAP_METRICS_PORT": str(server.server_port)})
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({**TLS, "LAYERTAP_METRICS_PORT": "-1"}, "metrics_port is -1: the health check needs it"),
        ({"LAYERTAP_PORT": "0"}, "port is 0: the health check needs it"),
        ({"LAYERTAP_PORT": "x"}, "LAYERTAP_PORT: port must be of type int"),
    ],
)
def test_unusable_settings_give_one_line_and_status_1(environment: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        healthcheck.check(environment)
    command = [sys.executable, "-m", "layertap_server.healthcheck"]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_addresses_of_ipv6_are_in_brackets() -> None:
    def address(host: str) -> str:
        return healthcheck._address(Settings(host=host), "port")

    assert [address(host) for host in ("::", "::1", "0.0.0.0", "server")] == [
        "[::1]:8001",
        "[::1]:8001",
        "127.0.0.1:8001",
        "server:8001",
    ]
