"""Health check of a container: ``python -m layertap_server.healthcheck`` exits with 0 if the server is ready.

The address comes from the server's environment variables and config file; flags of the server's command line are not
known here. The check calls the gRPC health service, or ``/ready`` on the metrics port if TLS is enabled. It ignores the
proxy settings of the environment, since the server is in the same container.
"""

from __future__ import annotations

import argparse
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from layertap_server.config.settings import Settings, SettingsError, settings_from

TIMEOUT_SECONDS = 3
"""Seconds to wait for the server's response."""
LOOPBACKS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - a key, not an address to listen on
"""Loopback address at which to call a server that listens on all addresses."""


def is_serving(address: str) -> bool:
    """Return whether the gRPC health service at the address reports SERVING."""
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_SECONDS)
        except grpc.RpcError:
            return False
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


def is_ready(address: str) -> bool:
    """Return whether ``/ready`` on the HTTP port at the address responds with success."""
    without_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with without_proxy.open(f"http://{address}/ready", timeout=TIMEOUT_SECONDS):
            return True
    except (urllib.error.URLError, OSError):
        return False


def check(environment: Mapping[str, str]) -> bool:
    """Return whether the server with these environment variables is ready.

    Raises:
        SettingsError: the settings are invalid or do not give the port to call.
    """
    settings = settings_from(argparse.Namespace(config=None), environment)
    if not settings.tls_certificate:
        return is_serving(_address(settings, "port"))
    return is_ready(_address(settings, "metrics_port"))


def _address(settings: Settings, name: str) -> str:
    """Return the address of the port in the setting ``name``."""
    port = getattr(settings, name)
    if port <= 0:
        raise SettingsError(f"{name} is {port}: the health check needs it; set a port, or disable the check")
    host = LOOPBACKS.get(settings.host, settings.host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def main() -> int:
    """Run the check and return the exit status: 0 if the server is ready, else 1."""
    try:
        return 0 if check(os.environ) else 1
    except SettingsError as error:
        sys.stderr.write(f"layertap: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
