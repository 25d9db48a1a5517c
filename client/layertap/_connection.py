"""The parameters of a connection: channel options, TLS, and the token sent with every call."""

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
"""Address of a server started with the default settings."""
DEFAULT_TIMEOUT_SECONDS = 30.0
"""Default deadline of a call, in seconds."""
PARTING_SECONDS = 1.0
"""Maximum time, in seconds, to release one shared memory region when the client is closed."""
LONGEST_SECONDS = 1e8
"""Largest deadline, in seconds, that is sent to gRPC; a longer one means no deadline."""
LARGEST_MESSAGE_BYTES = 512 * 2**20
"""Message limit of the channel, above the server's limit, so that the server reports what is too large."""
CLOSED = "the client is closed; make a new one, or keep its calls inside its 'with' block"
"""Message of the error for a call on a closed client."""

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
"""A file's path, or its content."""


@dataclass(frozen=True, slots=True)
class Tls:
    """The certificates of an encrypted connection.

    Each file is PEM, given as a path or as bytes, and is read when the client is created.
    """

    roots: File | None = None
    """Certificates of the authorities trusted to sign the server's certificate; if None, those that gRPC ships."""
    certificate: File | None = None
    """The client's own certificate chain, for a server that requires one (mTLS)."""
    key: File | None = None
    """The private key of ``certificate``."""
    server_name: str = ""
    """The name in the server's certificate, if it differs from the address."""

    def credentials(self) -> grpc.ChannelCredentials:
        """Return gRPC's channel credentials.

        Raises:
            OSError: a file cannot be read.
            ValueError: a certificate has no key, a key has no certificate, or a file is not PEM.
        """
        if (self.certificate is None) != (self.key is None):
            raise ValueError("expected certificate and key together, got only one of them: give both, or neither")
        return grpc.ssl_channel_credentials(
            *(_read(name, getattr(self, name)) for name in ("roots", "key", "certificate"))
        )


def _deadline(seconds: float) -> float | None:
    """Return a deadline for gRPC; None if it is so long that gRPC's clock would overflow."""
    if not seconds > 0:
        raise ValueError(f"expected a deadline in seconds above 0, got {seconds}")
    return seconds if seconds < LONGEST_SECONDS else None


def _read(name: str, file: File | None) -> bytes | None:
    """Return the content of a file of `Tls`; raise `ValueError` if it is not PEM."""
    if file is None:
        return None
    data = file if isinstance(file, bytes) else Path(file).read_bytes()
    if b"-----BEGIN" not in data and file != b"":
        shown = "the given bytes" if isinstance(file, bytes) else os.fspath(file)
        raise ValueError(f"expected PEM ('-----BEGIN …') as {name} of tls, got {len(data)} bytes without it: {shown}")
    return data


@dataclass(frozen=True, slots=True)
class Connection:
    """The address of a server and the parameters of a connection to it."""

    address: str = DEFAULT_ADDRESS
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    tls: Tls | bool = False
    token: str = ""
    grpc_options: Sequence[tuple[str, str | int]] = ()

    def __post_init__(self) -> None:
        """Validate the parameters before anything is sent.

        Raises:
            ValueError: the address is malformed or its scheme contradicts ``tls``; the deadline is not above 0; or the
                token has characters that cannot be sent.
        """
        if self.place.tls is False and self.tls:
            raise ValueError(f"{self.address} means no TLS, but tls= requests it; write https://{self.place.shown}")
        _deadline(self.timeout_seconds)
        if not (self.token.isascii() and self.token.isprintable()):
            raise ValueError("expected a token of printable ASCII characters; does it contain a line break?")

    def open(
        self,
        insecure: Callable[[str, list[tuple[str, str | int]]], Channel],
        secure: Callable[[str, grpc.ChannelCredentials, list[tuple[str, str | int]]], Channel],
    ) -> Channel:
        """Open a channel with functions of `grpc` or `grpc.aio`; raise the errors of `Tls.credentials`."""
        place, options = self.place, self._channel_options()
        if not (self.tls or place.tls):
            return insecure(place.target, options)
        tls = self.tls if isinstance(self.tls, Tls) else Tls()
        if tls.server_name:
            options.append(("grpc.ssl_target_name_override", tls.server_name))
        return secure(place.target, tls.credentials(), options)

    @property
    def place(self) -> Address:
        """The parsed address."""
        return parse_address(self.address)

    def timeout(self, seconds: float | None) -> float | None:
        """Return a call's deadline in seconds: its own, or else the connection's; None means no deadline.

        Raises:
            ValueError: the deadline is not above 0.
        """
        return _deadline(self.timeout_seconds if seconds is None else seconds)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata sent with every call."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def _channel_options(self) -> list[tuple[str, str | int]]:
        """Return gRPC's channel arguments; the caller's own come last and take precedence."""
        return [
            ("grpc.max_receive_message_length", LARGEST_MESSAGE_BYTES),
            ("grpc.max_send_message_length", LARGEST_MESSAGE_BYTES),
            ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
            # Reconnect to a restarted server within seconds; gRPC's default backoff grows to two minutes.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 3000),
            # Detect a connection that is open but dead, also for a stream, which has no deadline.
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            # gRPC silently does not retry larger requests; its default of 256 KiB is less than many images.
            ("grpc.per_rpc_retry_buffer_size", 16 * 2**20),
            # Bypass the environment's proxy for this host; gRPC would use it even for localhost.
            *([("grpc.enable_http_proxy", 0)] if self.place.is_this_host else []),
            *self.grpc_options,
        ]
