"""What listens at an address: real sockets of this process."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from layertap import errors
from layertap._probe import Listener, find_listener
from layertap._unreachable import explain


@contextlib.contextmanager
def listening(answer: bytes | None) -> Iterator[int]:
    """Listen at 127.0.0.1 alone; answer each connection with these bytes and close it, or keep silent for None."""
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as silent:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    if answer is None:
                        silent.enter_context(connection)
                        continue
                    with connection:
                        connection.recv(100)
                        connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.0 400 Bad Request\r\n", Listener.OTHER),
        (b"SSH-2.0-x\r\n", Listener.OTHER),
        (b"", Listener.CLOSING),
        (b"\x15\x03\x01\0\x02\x02\x46", Listener.CLOSING),
        (b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64", Listener.UNKNOWN),
        (None, Listener.UNKNOWN),
    ],
)
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_what_listens(host: str, answer: bytes | None, expected: Listener) -> None:
    with listening(answer) as port:
        assert find_listener(f"{host}:{port}") is expected
        assert find_listener(f"http://{host}:{port}") is expected


@pytest.mark.parametrize("address", ["localhost:1", "[::1]:1", "nohost.invalid:1", "unix:/tmp/x", "the server", ""])
def test_nothing(address: str) -> None:
    assert find_listener(address) is Listener.NOTHING


@pytest.mark.parametrize("refused", ["ipv6:[::1]", "ipv4:127.0.0.1"])
def test_the_address_that_is_listened_at_decides(refused: str) -> None:
    """A name has two addresses, and gRPC reports the one that it tried last."""
    with listening(b"HTTP/1.0 400 Bad Request\r\n") as port:
        details = f"last error: UNKNOWN: {refused}:{port}: Failed to connect to remote host: Connection refused"
        error = explain("UNAVAILABLE", details, f"localhost:{port}")
    assert type(error) is errors.WrongServerError
    assert "is no gRPC server" in error.message
    assert type(explain("UNAVAILABLE", details, "localhost:1")) is errors.UnavailableError
