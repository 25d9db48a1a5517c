"""Test docker-compose.yml: docker-compose accepts every profile, and every service meets the requirements."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from layertap_server.config.settings import Settings, settings_from
from tests.paths import ROOT

COMPOSE = shutil.which("docker-compose")
DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = DOCUMENT["services"]
SERVERS = ("layertap", "layertap-gpu", "replica")
ENVOY: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "envoy" / "envoy.yaml").read_text())


def seconds(text: str) -> float:
    """Return a duration in seconds."""
    return float(text.removesuffix("s"))


def mebibytes(text: str) -> int:
    """Return a size in MiB."""
    return int(text[:-1]) * {"m": 1, "g": 1024}[text[-1]]


@pytest.mark.skipif(not COMPOSE, reason="docker-compose is not installed")
@pytest.mark.parametrize("profile", ["cpu", "gpu", "scale", "observability"])
def test_docker_compose_takes_the_profile(profile: str) -> None:
    assert COMPOSE
    environment = {**os.environ, "LAYERTAP_CPUS": "1.5", "LAYERTAP_REPLICAS": "5"}
    done = subprocess.run(
        [COMPOSE, "--profile", profile, "config"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert services["replica"]["scale"] == 5
    assert services["replica"]["cpus"] == 1.5
    assert services["layertap-gpu"]["build"]["args"]["EXTRA"] == "cuda"


def test_the_profile_that_is_meant_when_none_is_named() -> None:
    assert (ROOT / ".env").read_text().splitlines()[-1] == "COMPOSE_PROFILES=cpu"
    assert SERVICES["layertap"]["profiles"] == ["cpu"]


def test_a_port_is_published_once_a_profile_and_on_this_host_only() -> None:
    ports: dict[str, list[str]] = {}
    for service in SERVICES.values():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")
            ports.setdefault(service["profiles"][0], []).append(port.rpartition(":")[0])
    assert set(ports) == {"cpu", "gpu", "scale", "observability"}
    for published in ports.values():
        assert len(published) == len(set(published))
    assert ports["cpu"] == ports["gpu"] == ports["scale"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_no_privileges_and_has_limits(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service["user"].startswith("0:")
    assert mebibytes(re.sub(r"\$\{\w+:-(\w+)\}", r"\1", service["mem_limit"])) > 0
    assert service["pids_limit"] > 0
    for volume in service.get("volumes", []):
        assert not volume.startswith((".", "$")) or volume.endswith(":ro")


@pytest.mark.parametrize("name", SERVERS)
def test_the_defaults_are_the_servers(name: str) -> None:
    """Treat an empty variable as unset."""
    written = SERVICES[name]["environment"]
    environment = {key: re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", str(value)) for key, value in written.items()}
    got = settings_from(argparse.Namespace(config=None), environment)
    assert got == Settings(device=got.device, drain_seconds=got.drain_seconds)


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_can_be_given_secrets(name: str) -> None:
    assert "${LAYERTAP_SECRETS:-./deploy/secrets}:/run/secrets:ro" in SERVICES[name]["volumes"]
    assert {"LAYERTAP_TOKENS", "LAYERTAP_TLS_CERTIFICATE", "LAYERTAP_TLS_KEY"} <= set(SERVICES[name]["environment"])
    assert (ROOT / "deploy" / "secrets" / "README.md").exists()
    assert "/deploy/secrets/*" in (ROOT / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_has_the_time_to_stop(name: str) -> None:
    grace = float(SERVICES[name]["environment"].get("LAYERTAP_GRACEFUL_STOP_SECONDS", Settings().graceful_stop_seconds))
    assert seconds(SERVICES[name]["stop_grace_period"]) > grace


def test_envoy_has_noticed_that_a_replica_stops_before_its_port_closes() -> None:
    (check,) = ENVOY["static_resources"]["clusters"][0]["health_checks"]
    drain = float(SERVICES["replica"]["environment"]["LAYERTAP_DRAIN_SECONDS"])
    assert drain > seconds(check["interval"]) * check["unhealthy_threshold"]


def test_envoy_refuses_before_its_memory_ends() -> None:
    heap = ENVOY["overload_manager"]["resource_monitors"][0]["typed_config"]["max_heap_size_bytes"]
    assert heap < mebibytes(SERVICES["envoy"]["mem_limit"]) * 2**20


def test_envoy_keeps_the_largest_request() -> None:
    connections = ENVOY["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    (host,) = connections["route_config"]["virtual_hosts"]
    assert host["request_body_buffer_limit"] > Settings().max_request_bytes


def test_all_servers_answer_to_one_name() -> None:
    """Give all servers the name that Envoy and Prometheus look up."""
    for name in SERVERS:
        aliases = SERVICES[name].get("networks", {}).get("default", {}).get("aliases", [])
        assert "layertap" in (name, *aliases)
