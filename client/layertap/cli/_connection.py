"""Connect a command to a server: at an address, or started in this process for one command."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from layertap._client import Client
from layertap._connection import DEFAULT_ADDRESS, Tls
from layertap._waiting import check_wait
from layertap.cli._output import CommandError

if TYPE_CHECKING:
    from layertap_server.embedded import EmbeddedServer


def seconds(text: str) -> float:
    """Parse a positive number of seconds, for argparse."""
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"expected a number of seconds above 0, got {text}")
    return value


def waiting_seconds(text: str) -> float:
    """Parse the value of ``--wait``: a number of seconds of 0 or more."""
    value = float(text)
    try:
        check_wait(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number of seconds of 0 or more, got {text}") from None
    return value


def add_connection_arguments(parser: argparse.ArgumentParser, timeout_seconds: float = 30.0) -> None:
    """Add the arguments that name the server and the credentials."""
    group = parser.add_argument_group("server")
    group.add_argument(
        "--server",
        metavar="HOST:PORT",
        default=DEFAULT_ADDRESS,
        help=f"address, also as http://… or https://… for TLS (default: {DEFAULT_ADDRESS})",
    )
    group.add_argument("--local", action="store_true", help="start a server in this process, for this command only")
    group.add_argument("--models", metavar="DIR", default="models", help="with --local: folder of models")
    group.add_argument("--device", default="auto", help="with --local: auto, cpu, cuda or cuda:N")
    group.add_argument("--tls", action="store_true", help="use TLS with the root certificates of gRPC")
    group.add_argument("--tls-roots", metavar="FILE", help="use TLS with these root certificates only (PEM)")
    group.add_argument("--tls-certificate", metavar="FILE", help="client certificate (PEM), for mutual TLS")
    group.add_argument("--tls-key", metavar="FILE", help="private key of the client certificate (PEM)")
    group.add_argument(
        "--token", metavar="FILE", type=Path, help="file with the token (default: the variable LAYERTAP_TOKEN)"
    )
    group.add_argument(
        "--wait",
        metavar="SECONDS",
        type=waiting_seconds,
        default=0.0,
        help="how long to wait for the server to become ready (default: 0)",
    )
    group.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        default=timeout_seconds,
        help=f"deadline of each request (default: {timeout_seconds:g})",
    )


@contextlib.contextmanager
def connect(arguments: argparse.Namespace) -> Iterator[Client]:
    """Yield a client of the server that the arguments name.

    Raises:
        CommandError: the address, the TLS files or the token are unusable, or a server in this process cannot start.
    """
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(_local_server(arguments)) if arguments.local else arguments.server
        tls = False if arguments.local else _tls(arguments)
        try:
            client = Client(
                address,
                timeout_seconds=arguments.timeout,
                tls=tls,
                token=_token(arguments),
                wait_seconds=arguments.wait,
            )
        except (OSError, ValueError) as error:
            raise CommandError(str(error)) from error
        yield stack.enter_context(client)


def _tls(arguments: argparse.Namespace) -> Tls | bool:
    """Return the TLS files, or whether to use TLS with gRPC's own root certificates."""
    files = arguments.tls_roots, arguments.tls_certificate, arguments.tls_key
    return Tls(*files) if any(files) else bool(arguments.tls)


def _token(arguments: argparse.Namespace) -> str:
    """Return the token from the file of ``--token``, or from the variable LAYERTAP_TOKEN.

    The token is not an argument itself, because every user of the machine can read those.
    """
    if arguments.token is None:
        return os.environ.get("LAYERTAP_TOKEN", "")
    try:
        return str(arguments.token.read_text().strip())
    except OSError as error:
        raise CommandError(f"{arguments.token}: {error.strerror}") from error


@contextlib.contextmanager
def _local_server(arguments: argparse.Namespace) -> Iterator[str]:
    """Start a server in this process and yield its address."""
    try:
        from layertap_server.app import StartError
        from layertap_server.config.settings import Settings, SettingsError
        from layertap_server.embedded import EmbeddedServer
    except ImportError as error:
        raise CommandError(
            f"--local needs the server ({error.name} is missing): pip install 'layertap[server]'"
        ) from None
    try:
        embedded = EmbeddedServer(
            Settings(
                models=arguments.models,
                device=arguments.device,
                port=0,
                metrics_port=-1,
                log_level="error",
                weights=True,  # the caller can read the files
            )
        )
        address = embedded.__enter__()
    except (SettingsError, StartError) as error:
        raise CommandError(str(error)) from None
    _embedded.append(embedded)
    with contextlib.ExitStack() as stack:
        stack.push(embedded)
        yield address


@contextlib.contextmanager
def connect_local(models: Path, timeout_seconds: float = 600.0) -> Iterator[Client]:
    """Yield a client of a server in this process that serves a models folder on the CPU.

    Raises:
        CommandError: the server is not installed, or cannot start.
    """
    arguments = argparse.Namespace(models=models, device="cpu")
    with _local_server(arguments) as address, Client(address, timeout_seconds=timeout_seconds) as client:
        yield client


def has_local_work() -> bool:
    """Return whether a server in this process still computes an abandoned request."""
    return any(embedded.has_work for embedded in _embedded)


_embedded: list[EmbeddedServer] = []
"""Servers started in this process."""
