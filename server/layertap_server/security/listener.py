"""The gRPC listener: its credentials, tokens and options, and the check against unprotected public addresses."""

from __future__ import annotations

import ipaddress
import logging
from pathlib import Path

import grpc

from layertap_server.config.settings import Settings
from layertap_server.security.tls import Certificates
from layertap_server.security.tokens import Tokens

log = logging.getLogger(__name__)


class ExposureError(Exception):
    """Model control is enabled on a public address without authentication; the message says how to protect it."""


def listen(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None) -> int:
    """Bind the server to an address and return the bound port.

    Args:
        server: a server that has not started.
        address: ``host:port``; port 0 binds any free port.
        credentials: TLS credentials, or None for plain connections.

    Raises:
        RuntimeError: the address cannot be bound.
    """
    if credentials is None:
        return server.add_insecure_port(address)
    return server.add_secure_port(address, credentials)


def credentials_for(settings: Settings) -> grpc.ServerCredentials | None:
    """Return the TLS credentials of the settings, or None if TLS is not enabled.

    Raises:
        TlsError: a certificate or key file cannot be used.
    """
    if not settings.tls_certificate:
        return None
    authorities = Path(settings.tls_client_authorities) if settings.tls_client_authorities else None
    return Certificates(Path(settings.tls_certificate), Path(settings.tls_key), authorities).credentials()


def tokens_for(settings: Settings) -> Tokens | None:
    """Return the access tokens of the settings, or None if no token is required.

    Raises:
        TokensError: the tokens file cannot be used.
    """
    return Tokens(Path(settings.tokens)) if settings.tokens else None


def check_exposure(settings: Settings) -> None:
    """Log a warning if the server listens on a public address without authentication.

    Raises:
        ExposureError: callers could also load and unload models, or read their parameters.
    """
    if _is_loopback(settings.host) or settings.tokens or settings.tls_client_authorities:
        return
    if settings.control:
        raise ExposureError(
            f"--control on {settings.host} would let everyone who reaches the port load and unload models; "
            "set --tokens or --tls-client-authorities, or listen on 127.0.0.1"
        )
    if settings.weights:
        raise ExposureError(
            f"--weights on {settings.host} would hand out the models to everyone who reaches the port; "
            "set --tokens or --tls-client-authorities, or listen on 127.0.0.1"
        )
    log.warning("everyone who reaches %s:%s may use the service: no tokens, no mTLS", settings.host, settings.port)


def _is_loopback(host: str) -> bool:
    """Return whether the host is a loopback address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def server_options(settings: Settings) -> list[tuple[str, int]]:
    """Return the channel options of the gRPC server.

    With gRPC's defaults two servers could share a port, messages would be limited to 4 MiB, and dead peers would be
    noticed only after hours.
    """
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", settings.max_request_bytes),
        ("grpc.max_send_message_length", -1),  # the size of a response is checked before it is computed
        ("grpc.max_concurrent_streams", 128),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", 60_000),
        *_connection_age(settings.max_connection_age_seconds),
    ]


def _connection_age(seconds: int) -> list[tuple[str, int]]:
    """Return the options that close connections of this age in seconds, after their calls; none for 0.

    A client that keeps its connection open would otherwise never connect to a server that was added later.
    """
    if not seconds:
        return []
    return [("grpc.max_connection_age_ms", seconds * 1000), ("grpc.max_connection_age_grace_ms", 60_000)]
