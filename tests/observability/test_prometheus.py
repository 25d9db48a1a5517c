"""Test that a real Prometheus scrapes a real server, and finds all metrics of the dashboard and the alerts."""

from __future__ import annotations

import contextlib
import json
import re
import runpy
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from layertap import Client, errors
from tests.paths import MODEL, ROOT
from tests.processes import ServerProcess, running_server

PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "layertap.json"
ON_DEVICES = "layertap_device_"
PATIENCE = 60
"""Number of attempts, half a second apart."""

for _program in ("prometheus", "promtool"):
    if shutil.which(_program) is None:
        pytest.skip(f"{_program} is not installed (Debian: prometheus)", allow_module_level=True)


@dataclass(frozen=True)
class Prometheus:
    """Client of Prometheus's HTTP API."""

    port: int

    def get(self, path: str, **query: str) -> Any:
        """Send a query to the HTTP API."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as reply:
            return json.load(reply)["data"]

    def result(self, expression: str) -> list[Any]:
        """Return the current value of the expression; raise if it is invalid."""
        return list(self.get("query", query=expression)["result"])

    def is_ready(self) -> bool:
        """Return whether Prometheus is ready."""
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=10):
            return True
        return False


def promtool(*arguments: str | Path, text: str | None = None) -> str:
    """Run promtool and return its output."""
    done = subprocess.run(["promtool", *arguments], input=text, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def wait_until(holds: Callable[[], bool], why: object) -> None:
    """Wait until the condition holds."""
    for _ in range(PATIENCE):
        if holds():
            return
        time.sleep(0.5)
    raise AssertionError(why)


@pytest.fixture(scope="module")
def scraped() -> Iterator[ServerProcess]:
    """Start a server and a Prometheus that scrapes it, and send requests."""
    with running_server("--triton-metrics", "--response-cache-bytes", "1000000") as server:
        yield server


@pytest.fixture(scope="module")
def prometheus(scraped: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Start Prometheus with the deployed configuration, except for the server's address and the scrape interval."""
    folder = tmp_path_factory.mktemp("prometheus")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(PROMETHEUS / name) for name in config["rule_files"]]
    for job, own_port in zip(config["scrape_configs"], (scraped.metrics_port, port), strict=True):
        job.pop("dns_sd_configs", None)
        job["static_configs"] = [{"targets": [f"127.0.0.1:{own_port}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
    asked = Prometheus(port)
    try:
        wait_until(lambda: asked.is_ready() or process.poll() is not None, "it does not start")
        assert process.poll() is None, (folder / "log").read_text()
        yield asked
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture
def load(scraped: ServerProcess) -> Iterator[None]:
    """Send requests of every kind, good and bad, one after another."""
    over, photo = threading.Event(), np.zeros((64, 64, 3), np.uint8)

    def ask() -> None:
        with Client(scraped.address) as client:
            while not over.wait(0.1):
                client.extract(photo, model=MODEL, taps="stage:1 | gap")
                list(client.extract_many([photo, b"no image"], model=MODEL, taps="stage:1 | gap"))
                with contextlib.suppress(errors.UnknownModelError):
                    client.extract(photo, model="nothing")

    thread = threading.Thread(target=ask)
    thread.start()
    yield
    over.set()
    thread.join()


def dashboard_expressions() -> list[str]:
    """Yield the dashboard's expressions with all servers selected."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    found = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    return [text.replace("$instance", ".*").replace("$__rate_interval", "30s") for text in found]


def alerts() -> list[dict[str, Any]]:
    """Return the rules of all alerts."""
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_the_endpoints_text_is_well_formed(server: ServerProcess) -> None:
    assert promtool("check", "metrics", text=server.metrics()) == ""


def test_configuration_and_rules_are_valid() -> None:
    promtool("check", "config", PROMETHEUS / "prometheus.yml")
    promtool("check", "rules", PROMETHEUS / "alerts.yml")
    jobs = {
        job["job_name"]: job for job in yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    }
    (found,) = jobs["layertap"]["dns_sd_configs"]
    assert (found["names"], found["type"], found["port"]) == (["layertap"], "A", 8002)


def test_alerts_fire_when_they_should() -> None:
    cases = Path(__file__).with_name("alerts_test.yml")
    promtool("test", "rules", cases)
    tests = yaml.safe_load(cases.read_text())["tests"]
    fired = {case["alertname"] for test in tests for case in test.get("alert_rule_test", ()) if case["exp_alerts"]}
    quiet = {case["alertname"] for test in tests for case in test.get("alert_rule_test", ()) if not case["exp_alerts"]}
    assert fired == quiet == {rule["alert"] for rule in alerts()}


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_says_how_long_how_bad_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["for"]
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["runbook"] == f"docs/operations.md#alert-{rule['alert'].lower()}"
    page = ROOT / "docs" / "operations.md"
    if page.exists():
        headings = re.findall(r"^#+ Alert:? (\w+)", page.read_text(), re.MULTILINE)
        assert rule["alert"] in headings


def test_the_dashboard_is_up_to_date() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "make_dashboard.py"))
    assert script["text"]() == DASHBOARD.read_text(), "run scripts/make_dashboard.py"


def test_panels_stand_beside_each_other() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    places = [panel["gridPos"] for panel in panels]
    cells = [
        (x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)


@pytest.mark.usefixtures("load")
def test_every_expression_of_the_dashboard_gives_data(prometheus: Prometheus) -> None:
    asked = [text for text in dashboard_expressions() if ON_DEVICES not in text]
    assert len(asked) > 40
    missing = asked

    def all_answered() -> bool:
        missing[:] = [text for text in missing if not prometheus.result(text)]
        return not missing

    wait_until(all_answered, missing)
    for text in dashboard_expressions():
        prometheus.result(text)  # expressions about devices are at least valid


@pytest.mark.usefixtures("load")
def test_every_alert_asks_for_metrics_that_there_are(prometheus: Prometheus) -> None:
    wait_until(lambda: bool(prometheus.result('up{job="layertap"} == 1')), "the server is not scraped")
    names = {name for rule in alerts() for name in re.findall(r"\b(?:layertap|process)_\w+", rule["expr"])}
    missing = {name for name in names if not name.startswith(ON_DEVICES) and not prometheus.result(f"count({name})")}
    assert not missing

    def rules() -> list[dict[str, Any]]:
        return [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]

    wait_until(lambda: all(rule["health"] != "unknown" for rule in rules()), "not evaluated")
    assert {rule["name"]: rule.get("lastError") for rule in rules()} == {rule["alert"]: None for rule in alerts()}


@pytest.mark.usefixtures("load")
def test_what_was_scraped_is_what_the_server_told(prometheus: Prometheus) -> None:
    """Compare via OpenMetrics, the format that Prometheus requests."""
    expression = f'layertap_requests_total{{model="{MODEL}", status="OK", method="Extract"}} > 0'
    wait_until(lambda: bool(prometheus.result(expression)), "no request was counted")
    for name in ("nv_inference_count", "nv_inference_request_success", "nv_inference_queue_duration_us"):
        assert prometheus.result(f'{name}{{model="{MODEL}", version="1"}}'), name
    assert prometheus.result('layertap_info{version="0.1.0"}')


def test_a_server_that_is_gone_is_noticed(prometheus: Prometheus, scraped: ServerProcess) -> None:
    """Run last, since it ends the server."""
    scraped.process.terminate()
    scraped.process.wait(timeout=30)
    wait_until(
        lambda: any(alert["labels"]["alertname"] == "LayertapDown" for alert in prometheus.get("alerts")["alerts"]),
        "no alert",
    )
