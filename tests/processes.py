"""Real server processes for the tests."""

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
    process: subprocess.Popen[str]
    address: str
    metrics_port: int
    banner: str
    log: Path

    def metrics(self) -> str:
        """What a Prometheus would scrape."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as reply:
            return str(reply.read().decode())

    def gauge(self, name: str) -> float:
        """One without labels, of what a Prometheus would scrape."""
        match = re.search(rf"^{name} (\S+)", self.metrics(), re.MULTILINE)
        assert match, name
        return float(match.group(1))

    def wait_until_busy(self, requests: int = 1) -> None:
        """Returns when so many requests wait or run."""
        for _ in range(1000):
            if self.gauge("layertap_requests_admitted") >= requests:
                return
            time.sleep(0.005)
        raise AssertionError("no request was admitted")

    def wait_until_idle(self) -> None:
        """Returns when no request waits or runs."""
        until(lambda: "layertap_requests_admitted 0.0" in self.metrics())

    def open_files(self) -> int:
        """How many files and connections the process has open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))


def until(condition: Callable[[], object], seconds: float = 40) -> None:
    """Returns when the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve_command(*flags: str, models: Path = MODELS) -> list[str]:
    ports = ["--port", "0", "--metrics-port", "0"]
    return [sys.executable, "-m", "layertap_server", "--models", str(models), "--device", "cpu", *ports, *flags]


def resident_bytes(server: ServerProcess) -> int:
    """Memory that the process holds."""
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def mapped_regions() -> set[Path]:
    """Return the regions of shared memory that this process has mapped, whether or not their files are still there."""
    maps = Path("/proc/self/maps").read_text()
    return {Path(path) for path in re.findall(r"/dev/shm/layertap-[0-9a-f]{32}", maps)}


@contextlib.contextmanager
def running_server(*flags: str, models: Path = MODELS, status: int = 0) -> Iterator[ServerProcess]:
    """A server on free ports; it is stopped, and must end with this status, at the end."""
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
            if process.poll() is None and "stopping;" not in log.read_text():  # a second signal would cut it off
                process.terminate()
            ended_with = process.wait(timeout=40)
            process.stdout.close()
        assert ended_with == status, log.read_text()
