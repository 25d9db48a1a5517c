"""Run an object in a separate process and call its methods, so that measured parties share no interpreter."""

from __future__ import annotations

import multiprocessing
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def _serve(pipe: Connection, make: Callable[..., object], arguments: tuple[object, ...]) -> None:
    """Create the object and execute the calls that arrive through the pipe, until None arrives."""
    target = make(*arguments)
    while (call := pipe.recv()) is not None:
        method, positional, named = call
        try:
            pipe.send((True, getattr(target, method)(*positional, **named)))
        except Exception as error:  # noqa: BLE001 - raised again in the calling process
            pipe.send((False, repr(error)))


class Remote:
    """An object in a separate process; its methods are called on this one."""

    def __init__(self, make: Callable[..., object], *arguments: object) -> None:
        """Start the process and create the object there."""
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, make, arguments), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        """Process id."""
        return int(self._process.pid or 0)

    def start(self, method: str, *arguments: object) -> None:
        """Call a method without waiting for its result; `wait` returns it."""
        self._pipe.send((method, arguments, {}))

    def wait(self) -> Any:
        """Wait for the result of a call; raise RuntimeError if the call failed."""
        done, result = self._pipe.recv()
        if not done:
            raise RuntimeError(result)
        return result

    def close(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join(10)

    def __getattr__(self, method: str) -> Callable[..., Any]:
        """Return a function that calls the method of this name and waits for its result."""

        def call(*arguments: object, **options: object) -> Any:
            self._pipe.send((method, arguments, options))
            return self.wait()

        return call


@contextmanager
def server(*flags: str) -> Iterator[tuple[str, int]]:
    """Start a server with these flags and otherwise default settings; yield its address and process id."""
    command = [sys.executable, "-m", "layertap_server", "--models", str(ROOT / "models"), "--port", "0"]
    process = subprocess.Popen(
        [*command, "--metrics-port", "-1", "--log-level", "warning", *flags], stdout=subprocess.PIPE, text=True
    )
    banner = process.stdout.readline() if process.stdout else ""
    address = re.search(r" on (\S+:\d+) ", banner)
    if address is None:
        raise SystemExit("the server did not start")
    try:
        yield address.group(1), process.pid
    finally:
        process.terminate()
        process.wait(40)


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
