"""How a client connects: gRPC's channel options, TLS, and the token that goes with every call."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar

import grpc

from layertap._address import Address, parse_address

DEFAULT_ADDRESS = "localhost:8001"
DEFAULT_TIMEOUT_SECONDS = 30.0
PARTING_SECONDS = 1.0
"""How long a server may take to hear that a client leaves."""
LONGEST_SECONDS = 1e8
LARGEST_MESSAGE_BYTES = 512 * 2**20
"""Above the server's own limit on answers, so that it is the server that says what is too large."""
CLOSED = "the client is closed; make a new one, or keep its calls inside its 'with' block"

_RETRY = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": ""},
    "methodConfig": [{"name": [{}], "retryPolicy": _RETRY}],
}
Channel = TypeVar("Channel")
File: TypeAlias = "str | os.PathLike[str] | bytes"
"""A file's path, or what it holds."""


@dataclass(frozen=True, slots=True)
class Tls:
    """An encrypted connection.

    Each file is PEM, given by its path or as bytes, and read when the client is made.
    """

    roots: File | None = None
    """Certificates of the authorities that may vouch for the server; without them, those that gRPC brings."""
    certificate: File | None = None
    """The client's own certificate, with its chain, for a server that wants one (mTLS)."""
    key: File | None = None
    """The private key of ``certificate``."""
    server_name: str = ""
    """The name that the server's certificate has, where the address is another one."""

    def credentials(self) -> grpc.ChannelCredentials:
        """What gRPC makes of it.

        Raises:
            OSError: a file cannot be read.
            ValueError: a certificate without its key, a key without its certificate, or a file that is no PEM.
        """
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: give both, or neither")
        return grpc.ssl_channel_credentials(
            *(_read(name, getattr(self, name)) for name in ("roots", "key", "certificate"))
        )


def _deadline(seconds: float) -> float | None:
    """gRPC's clock overflows where one is too far."""
    if not seconds > 0:
        raise ValueError(f"a deadline is a number of seconds above 0, not {seconds}")
    return seconds if seconds < LONGEST_SECONDS else None


def _read(name: str, file: File | None) -> bytes | None:
    """Return what a file of `Tls` holds."""
    if file is None:
        return None
    data = file if isinstance(file, bytes) else Path(file).read_bytes()
    if b"-----BEGIN" not in data and file != b"":
        shown = "the given bytes" if isinstance(file, bytes) else os.fspath(file)
        raise ValueError(f"expected PEM ('-----BEGIN …') as {name} of tls, got {len(data)} bytes without it: {shown}")
    return data


@dataclass(frozen=True, slots=True)
class Connection:
    """Where a server is and how to get there."""

    address: str = DEFAULT_ADDRESS
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    tls: Tls | bool = False
    token: str = ""
    grpc_options: Sequence[tuple[str, str | int]] = ()

    def __post_init__(self) -> None:
        """Check what can be checked before anything is sent.

        Raises:
            ValueError: an address that is none, or whose scheme contradicts ``tls``; a deadline that is none; a token
                that cannot be sent.
        """
        if self.place.tls is False and self.tls:
            raise ValueError(f"{self.address} means no TLS and tls= asks for it; write https://{self.place.shown}")
        _deadline(self.timeout_seconds)
        if not (self.token.isascii() and self.token.isprintable()):
            raise ValueError("a token is plain ASCII without control characters; is there a line end in it?")

    def open(
        self,
        insecure: Callable[[str, list[tuple[str, str | int]]], Channel],
        secure: Callable[[str, grpc.ChannelCredentials, list[tuple[str, str | int]]], Channel],
    ) -> Channel:
        """A channel, made by the functions of `grpc` or of `grpc.aio`; errors as of `Tls.credentials`."""
        place, options = self.place, self._channel_options()
        if not (self.tls or place.tls):
            return insecure(place.target, options)
        tls = self.tls if isinstance(self.tls, Tls) else Tls()
        if tls.server_name:
            options.append(("grpc.ssl_target_name_override", tls.server_name))
        return secure(place.target, tls.credentials(), options)

    @property
    def place(self) -> Address:
        """The address, read."""
        return parse_address(self.address)

    def timeout(self, seconds: float | None) -> float | None:
        """A call's deadline: its own, or the connection's; None, which is without end, from some years on.

        Raises:
            ValueError: it is none.
        """
        return _deadline(self.timeout_seconds if seconds is None else seconds)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with every call."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def _channel_options(self) -> list[tuple[str, str | int]]:
        """gRPC's channel arguments; the caller's own come last and win."""
        return [
            ("grpc.max_receive_message_length", LARGEST_MESSAGE_BYTES),
            ("grpc.max_send_message_length", LARGEST_MESSAGE_BYTES),
            ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
            # A server that is started anew is found within seconds; gRPC's own default waits up to two minutes.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 3000),
            # A server that is there and says nothing is noticed, also by a stream, which has no deadline.
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            # A request over this size is not retried, silently; gRPC's default is 256 KiB, less than many an image.
            ("grpc.per_rpc_retry_buffer_size", 16 * 2**20),
            # The environment's proxy is for other hosts; gRPC itself would send a call to localhost through it.
            *([("grpc.enable_http_proxy", 0)] if self.place.is_this_host else []),
            *self.grpc_options,
        ]
