"""The command ``layertap serve``: runs a server in this process until a signal ends it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable

from layertap.types import ModelState
from layertap_server.app import StartError
from layertap_server.config.settings import Settings
from layertap_server.lifecycle import Server
from layertap_server.models.scratch import remove_scratch
from layertap_server.telemetry import logs, native_lines

log = logging.getLogger(__name__)


def serve(settings: Settings, *, quiet: bool = False) -> None:
    """Run a server until SIGTERM or SIGINT.

    Args:
        settings: the server's settings.
        quiet: whether to omit the banner and all log lines below level error.

    Raises:
        StartError: the server cannot start.
    """
    # For the time of loading: the first process of a container ignores signals for which it has no handler.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    level = "error" if quiet else settings.log_level
    with native_lines.redirect(settings.log_format), logs.configure(level, settings.log_format):
        # Loading the models may take long, so addresses in use are reported before.
        for port, purpose in ((settings.port, ""), (settings.metrics_port, " for metrics")):
            _check_address(settings.host, port, purpose)
        ended = asyncio.run(_serve(Server(settings), quiet=quiet))
        if not ended:
            log.warning("requests still in progress after --graceful-stop-seconds were cut off")
    if not ended:
        # Exit without joining the threads of these requests, whose results nobody receives.
        remove_scratch()
        os._exit(1)


def _check_address(host: str, port: int, purpose: str) -> None:
    """Raise `StartError` if the address is in use; ports that are not positive are not checked."""
    if port <= 0:
        return
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        raise StartError(f"cannot listen on {host}:{port}{purpose}: {error.strerror or error}") from error


async def _serve(server: Server, *, quiet: bool) -> bool:
    """Run the server until a signal; return whether all requests ended in time. A second signal ends the process."""
    await server.start()
    stop = asyncio.Event()

    def on_signal(number: int) -> None:
        if stop.is_set():
            # Written to stderr directly, since the thread that writes the log ends here too.
            sys.stderr.write("layertap: stopped at once by a second signal; requests in progress were cut off\n")
            remove_scratch()
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        _handle(number, on_signal)
    if not quiet:
        print(_banner(server), flush=True)  # noqa: T201 - scripts wait for this line
    await stop.wait()
    log.info("stopping; requests in progress may end")
    return await server.stop(
        drain_seconds=server.settings.drain_seconds, grace_seconds=server.settings.graceful_stop_seconds
    )


def _handle(number: int, on_signal: Callable[[int], None]) -> None:
    """Let the running loop call ``on_signal`` when the signal arrives."""
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(number, on_signal, number)
    except NotImplementedError:  # on Windows
        signal.signal(number, lambda received, _: loop.call_soon_threadsafe(on_signal, received))


def _banner(server: Server) -> str:
    """Return the line that reports models, address and device."""
    infos = server.repository.infos()
    ready = [info.name for info in infos if info.state is ModelState.READY]
    failed = len(infos) - len(ready)
    metrics = f", metrics on port {server.metrics_port}" if server.metrics_port else ""
    trouble = f", {failed} failed" if failed else ""
    names = ", ".join(ready) or "no model"
    return f"layertap serves {names}{trouble} on {server.settings.host}:{server.port} ({server.device}){metrics}"
