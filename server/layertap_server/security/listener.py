"""Who reaches the services and how: certificates, tokens, gRPC's options, and what an open address needs."""

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
    """Strangers could change what is served; the message says what to give against it."""


def listen(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None) -> int:
    """The port that was had.

    Raises:
        RuntimeError: the address cannot be had.
    """
    if credentials is None:
        return server.add_insecure_port(address)
    return server.add_secure_port(address, credentials)


def credentials_for(settings: Settings) -> grpc.ServerCredentials | None:
    """None where connections are plain; raises `TlsError` where a file cannot be used."""
    if not settings.tls_certificate:
        return None
    authorities = Path(settings.tls_client_authorities) if settings.tls_client_authorities else None
    return Certificates(Path(settings.tls_certificate), Path(settings.tls_key), authorities).credentials()


def tokens_for(settings: Settings) -> Tokens | None:
    """None where nobody is asked for one; raises `TokensError` where the file cannot be used."""
    return Tokens(Path(settings.tokens)) if settings.tokens else None


def check_exposure(settings: Settings) -> None:
    """Warns where strangers may call.

    Raises:
        ExposureError: they could also load and unload models.
    """
    if _is_loopback(settings.host) or settings.tokens or settings.tls_client_authorities:
        return
    if settings.control:
        raise ExposureError(
            f"--control on {settings.host} would let everyone who reaches the port load and unload models; "
            "give --tokens or --tls-client-authorities, or listen on 127.0.0.1"
        )
    log.warning("everyone who reaches %s:%s may use the service: no tokens, no mTLS", settings.host, settings.port)


def _is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def server_options(settings: Settings) -> list[tuple[str, int]]:
    """gRPC's own defaults would let two servers share a port, take 4 MiB a message and notice dead peers in hours."""
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", settings.max_request_bytes),
        ("grpc.max_send_message_length", -1),  # answers are measured before they are computed
        ("grpc.max_concurrent_streams", 128),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", 60_000),
        *_connection_age(settings.max_connection_age_seconds),
    ]


def _connection_age(seconds: int) -> list[tuple[str, int]]:
    """A caller who never closes its connection would never learn of a server that was added."""
    if not seconds:
        return []
    return [("grpc.max_connection_age_ms", seconds * 1000), ("grpc.max_connection_age_grace_ms", 60_000)]
