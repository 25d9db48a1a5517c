"""Start real server processes for tests."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.paths import MODELS


@dataclass(frozen=True)
class ServerProcess:
    """A running server."""

    process: subprocess.Popen[str]
    """The process."""
    address: str
    """Address of the service."""
    metrics_port: int
    """Port of the metrics."""
    banner: str
    """First line on standard output."""
    log: Path
    """File with standard error."""

    def metrics(self) -> str:
        """Return the metrics as Prometheus would scrape them."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as reply:
            return str(reply.read().decode())

    def gauge(self, name: str) -> float:
        """Return the value of a metric without labels."""
        match = re.search(rf"^{name} (\S+)", self.metrics(), re.MULTILINE)
        assert match, name
        return float(match.group(1))

    def wait_until_busy(self, requests: int = 1) -> None:
        """Wait until this many requests are waiting or running."""
        for _ in range(1000):
            if self.gauge("layertap_requests_admitted") >= requests:
                return
            time.sleep(0.005)
        raise AssertionError("no request was admitted")

    def wait_until_idle(self) -> None:
        """Wait until no request is waiting or running."""
        until(lambda: "layertap_requests_admitted 0.0" in self.metrics())

    def open_files(self) -> int:
        """Return the number of open files and connections."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))


def until(condition: Callable[[], object], seconds: float = 40) -> None:
    """Wait until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"the condition did not become true within {seconds:g} s"
        time.sleep(0.02)


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve_command(*flags: str, models: Path = MODELS) -> list[str]:
    """Return the command of a server on free ports."""
    ports = ["--port", "0", "--metrics-port", "0"]
    return [sys.executable, "-m", "layertap_server", "--models", str(models), "--device", "cpu", *ports, *flags]


def resident_bytes(server: ServerProcess) -> int:
    """Return the resident memory in bytes."""
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def mapped_regions() -> set[Path]:
    """Return the regions of shared memory that this process has mapped, whether or not their files are still there."""
    maps = Path("/proc/self/maps").read_text()
    return {Path(path) for path in re.findall(r"/dev/shm/layertap-[0-9a-f]{32}", maps)}


@contextlib.contextmanager
def running_server(*flags: str, models: Path = MODELS, status: int = 0) -> Iterator[ServerProcess]:
    """Run a server on free ports; stop it at the end, and check that it exits with this status."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("w") as errors:
            process = subprocess.Popen(
                serve_command(*flags, models=models), stdout=subprocess.PIPE, stderr=errors, text=True, env=os.environ
            )
        assert process.stdout
        banner = process.stdout.readline().strip()
        match = re.search(r" on (\S+:\d+) .*metrics on port (\d+)", banner)
        if not match:
            process.kill()
            raise AssertionError(f"the server did not start: {banner} {log.read_text()}")
        try:
            yield ServerProcess(process, match.group(1), int(match.group(2)), banner, log)
        finally:
            if process.poll() is None and "stopping;" not in log.read_text():  # a second signal would abort the stop
                process.terminate()
            ended_with = process.wait(timeout=40)
            process.stdout.close()
        assert ended_with == status, log.read_text()
