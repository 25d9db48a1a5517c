"""Find out over plain sockets what listens at the addresses of a host; gRPC reports the failure of only one address."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from enum import Enum, auto

from layertap._address import parse_address

_SECONDS = 0.5
"""Maximum seconds for a connection, and for the first bytes of a response."""
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
"""The opening of HTTP/2 with an empty SETTINGS frame, as gRPC sends it."""
_SETTINGS, _TYPE = 4, 3
"""Type of a SETTINGS frame, and the index of the type's byte in a frame."""
_TLS_ALERT = b"\x15\x03"
"""First bytes of a TLS alert."""


class Listener(Enum):
    """Kind of program that listens at an address."""

    NOTHING = auto()
    """No address accepts a connection."""
    CLOSING = auto()
    """A program that closes a plain connection, as a TLS server does."""
    OTHER = auto()
    """A program that responds in a protocol other than HTTP/2."""
    UNKNOWN = auto()
    """A program that accepts a connection and has not responded, or that responds in HTTP/2 as a gRPC server does."""


def find_listener(address: str) -> Listener:
    """Return the kind of listener at the first address of a host that accepts a connection."""
    for family, kind, protocol, _, where in _resolve(address):
        try:
            with socket.socket(family, kind, protocol) as connection:
                connection.settimeout(_SECONDS)
                connection.connect(where)
                return _ask(connection)
        except OSError:
            continue
    return Listener.NOTHING


def _resolve(address: str) -> Sequence[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[object, ...]]]:
    """Return the socket addresses of a host and port; none if the text is not a host and a port."""
    try:
        parsed = parse_address(address)
        port = int(parsed.shown.rpartition(":")[2])
        found = [each for host in parsed.hosts for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, ValueError):
        return []
    return found


def _ask(connection: socket.socket) -> Listener:
    """Send the opening of HTTP/2, and return the kind of listener that the first bytes of the response indicate."""
    try:
        connection.sendall(_PREFACE)
        answer = connection.recv(len(_PREFACE))
    except TimeoutError:
        return Listener.UNKNOWN
    except OSError:
        return Listener.CLOSING
    if not answer or answer.startswith(_TLS_ALERT):
        return Listener.CLOSING
    is_http2 = len(answer) > _TYPE and answer[0] == 0 and answer[_TYPE] == _SETTINGS
    return Listener.UNKNOWN if is_http2 else Listener.OTHER
