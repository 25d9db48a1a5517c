"""``python -m layertap_server.healthcheck``: exit status 0 when the server of this container is ready.

It asks as the server's own environment says: over gRPC, or, where that wants TLS, at the HTTP port.
"""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_SECONDS = 3


def is_serving(address: str) -> bool:
    """Whether a server answers there and says that it serves."""
    with grpc.insecure_channel(address) as channel:
        try:
            reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_SECONDS)
        except grpc.RpcError:
            return False
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


def is_ready(address: str) -> bool:
    """Whether the HTTP port says so."""
    try:
        with urllib.request.urlopen(f"http://{address}/ready", timeout=TIMEOUT_SECONDS):
            return True
    except (urllib.error.URLError, OSError):
        return False


def check(environment: Mapping[str, str]) -> bool:
    """Whether the server that runs with these variables is ready."""
    if environment.get("LAYERTAP_TLS_CERTIFICATE"):
        return is_ready(f"127.0.0.1:{environment.get('LAYERTAP_METRICS_PORT', '8002')}")
    return is_serving(f"127.0.0.1:{environment.get('LAYERTAP_PORT', '8001')}")


if __name__ == "__main__":
    sys.exit(0 if check(os.environ) else 1)
