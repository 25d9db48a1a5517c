"""Ask the addresses of a host what listens there, over plain sockets: gRPC reports the failure of only one of them."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from enum import Enum, auto

from layertap._address import parse_address

_SECONDS = 0.5
"""Longest time for a connection, and for the first bytes of an answer."""
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
"""The opening of HTTP/2 with an empty SETTINGS frame, as gRPC sends it."""
_SETTINGS, _TYPE = 4, 3
"""Type of a SETTINGS frame, and its place in the frame."""
_TLS_ALERT = b"\x15\x03"


class Listener(Enum):
    """What listens at an address."""

    NOTHING = auto()
    CLOSING = auto()
    """It ends a plain connection, as a TLS server does."""
    OTHER = auto()
    """It answers in another protocol than gRPC's."""
    UNKNOWN = auto()
    """It accepts a connection and has not answered, or it is a gRPC server after all."""


def find_listener(address: str) -> Listener:
    """Return what listens at the first address of a host that accepts a connection."""
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
    """Return the addresses that a name stands for; none for one that is not a host and a port."""
    try:
        parsed = parse_address(address)
        port = int(parsed.shown.rpartition(":")[2])
        found = [each for host in parsed.hosts for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, ValueError):
        return []
    return found


def _ask(connection: socket.socket) -> Listener:
    """Open HTTP/2 and tell by the first bytes of the answer what is at the other end."""
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
