"""The server that a command talks to: one at an address, or one in this process for this one command."""

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
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"a number of seconds above 0, not {text}")
    return value


def waiting_seconds(text: str) -> float:
    """The type of ``--wait``."""
    value = float(text)
    try:
        check_wait(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number of seconds from 0 on, got {text}") from None
    return value


def add_connection_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("server")
    group.add_argument(
        "--server",
        metavar="HOST:PORT",
        default=DEFAULT_ADDRESS,
        help=f"address, also as http://… or https://… for TLS (default: {DEFAULT_ADDRESS})",
    )
    group.add_argument("--local", action="store_true", help="run a server in this process, for this command alone")
    group.add_argument("--models", metavar="DIR", default="models", help="with --local: folder of models")
    group.add_argument("--device", default="auto", help="with --local: auto, cpu, cuda or cuda:N")
    group.add_argument("--tls", action="store_true", help="encrypt, trusting the authorities that gRPC brings")
    group.add_argument("--tls-roots", metavar="FILE", help="encrypt, trusting these authorities alone (PEM)")
    group.add_argument("--tls-certificate", metavar="FILE", help="the client's own certificate (PEM), for mTLS")
    group.add_argument("--tls-key", metavar="FILE", help="its private key (PEM)")
    group.add_argument("--token", metavar="FILE", type=Path, help="file of the token; or the variable LAYERTAP_TOKEN")
    group.add_argument(
        "--wait",
        metavar="SECONDS",
        type=waiting_seconds,
        default=0.0,
        help="wait up to so long for a server that is reachable and ready (default: 0)",
    )
    group.add_argument("--timeout", metavar="SECONDS", type=seconds, default=30.0, help="deadline (default: 30)")


@contextlib.contextmanager
def connect(arguments: argparse.Namespace) -> Iterator[Client]:
    """A client of the server that the arguments name.

    Raises:
        CommandError: a server in this process cannot start.
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
    files = arguments.tls_roots, arguments.tls_certificate, arguments.tls_key
    return Tls(*files) if any(files) else bool(arguments.tls)


def _token(arguments: argparse.Namespace) -> str:
    """Not an argument itself: everyone on the machine can read those."""
    if arguments.token is None:
        return os.environ.get("LAYERTAP_TOKEN", "")
    try:
        return str(arguments.token.read_text().strip())
    except OSError as error:
        raise CommandError(f"{arguments.token}: {error.strerror}") from error


@contextlib.contextmanager
def _local_server(arguments: argparse.Namespace) -> Iterator[str]:
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
            Settings(models=arguments.models, device=arguments.device, port=0, metrics_port=-1, log_level="error")
        )
        address = embedded.__enter__()
    except (SettingsError, StartError) as error:
        raise CommandError(str(error)) from None
    _embedded.append(embedded)
    with contextlib.ExitStack() as stack:
        stack.push(embedded)
        yield address


def is_still_working() -> bool:
    """Whether a server of this process still computes what nobody waits for."""
    return any(embedded.has_work for embedded in _embedded)


_embedded: list[EmbeddedServer] = []
