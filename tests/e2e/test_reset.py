"""Test calls whose streams are reset, as a load balancer does when their server is gone."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from layertap import Client, errors

SETTINGS, HEADERS, RST_STREAM = 4, 1, 3
INTERNAL_ERROR = 2
PREFACE_BYTES = 24


@pytest.fixture
def resetting() -> Iterator[str]:
    """Yield the address of a minimal HTTP/2 server that resets every call."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_reset_calls, args=(listener,))
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def _reset_calls(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, connection.makefile("rb") as frames:
            frames.read(PREFACE_BYTES)
            connection.sendall(_frame(SETTINGS, 0, b""))
            while header := frames.read(9):
                frames.read(int.from_bytes(header[:3], "big"))
                if header[3] == HEADERS:
                    stream = int.from_bytes(header[5:], "big")
                    connection.sendall(_frame(RST_STREAM, stream, INTERNAL_ERROR.to_bytes(4, "big")))


def _frame(kind: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, 0]) + stream.to_bytes(4, "big") + payload


def test_a_call_that_is_reset_has_found_nobody_rather_than_a_fault(resetting: str) -> None:
    with (
        Client(resetting, grpc_options=[("grpc.inhibit_health_checking", 1)]) as client,
        pytest.raises(errors.UnavailableError, match="RST_STREAM"),
    ):
        client.models()
