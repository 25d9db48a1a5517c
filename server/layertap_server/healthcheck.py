"""``python -m layertap_server.healthcheck [HOST:PORT]``: exit status 0 when the service says SERVING."""

from __future__ import annotations

import os
import sys

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


if __name__ == "__main__":
    port = os.environ.get("LAYERTAP_PORT", "8001")
    sys.exit(0 if is_serving(sys.argv[1] if len(sys.argv) > 1 else f"127.0.0.1:{port}") else 1)
