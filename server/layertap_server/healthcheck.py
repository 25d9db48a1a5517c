"""``python -m layertap_server.healthcheck``: exit status 0 when the server of this container is ready.

It asks as the server's own environment and config file say: over gRPC, or, where that wants TLS, at the metrics port.
Flags of the server's command line it does not know; a proxy that the environment names is not for its own container.
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
LOOPBACKS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - asked of, not listened on
"""Where a server that listens on all addresses is asked."""


def is_serving(address: str) -> bool:
    """Whether a server answers there and says that it serves."""
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_SECONDS)
        except grpc.RpcError:
            return False
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


def is_ready(address: str) -> bool:
    """Whether the HTTP port says so."""
    without_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with without_proxy.open(f"http://{address}/ready", timeout=TIMEOUT_SECONDS):
            return True
    except (urllib.error.URLError, OSError):
        return False


def check(environment: Mapping[str, str]) -> bool:
    """Whether the server that runs with these variables is ready.

    Raises:
        SettingsError: they are wrong, or do not say where to ask.
    """
    settings = settings_from(argparse.Namespace(config=None), environment)
    if not settings.tls_certificate:
        return is_serving(_address(settings, "port"))
    return is_ready(_address(settings, "metrics_port"))


def _address(settings: Settings, name: str) -> str:
    port = getattr(settings, name)
    if port <= 0:
        raise SettingsError(f"{name} is {port}: the health check needs it; give a port, or turn the check off")
    host = LOOPBACKS.get(settings.host, settings.host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def main() -> int:
    """The exit status."""
    try:
        return 0 if check(os.environ) else 1
    except SettingsError as error:
        sys.stderr.write(f"layertap: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
