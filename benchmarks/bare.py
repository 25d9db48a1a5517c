"""Measure gRPC's Python by itself: a minimal server around the twin's work, and its client."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from benchmarks.twin import THREADS, Twin

METHOD = "/bare.Bare/Work"
PLAN = "bare"
"""Name of the twin's session."""


class BareServer:
    """A server that decodes, runs the session and returns as many bytes as Layertap would."""

    def __init__(self, path: str) -> None:
        """Create the server with the model at ``path``."""
        self._twin = Twin(path)
        self._server = grpc.server(ThreadPoolExecutor(THREADS))
        handler: Any = grpc.unary_unary_rpc_method_handler(self._work)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bare.Bare", {"Work": handler}),))
        self._port = self._server.add_insecure_port("127.0.0.1:0")
        self._answer = b""

    def serve(self, layer: str, answer_bytes: int) -> str:
        """Start the server for one layer and a response of this size, and return its address."""
        self._twin.prepare(PLAN, [layer])
        self._answer = bytes(answer_bytes)
        self._server.start()
        return f"127.0.0.1:{self._port}"

    def _work(self, image: bytes, _context: grpc.ServicerContext) -> bytes:
        """Handle one request."""
        self._twin.one(PLAN, image)
        return self._answer


class BareCaller:
    """A client with one channel and gRPC's default options."""

    def __init__(self, address: str) -> None:
        """Open the channel."""
        self._channel = grpc.insecure_channel(address)
        self._work: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(METHOD)

    def one(self, image: bytes) -> float:
        """Return the seconds of one call."""
        began = time.perf_counter()
        self._work(image)
        return time.perf_counter() - began
