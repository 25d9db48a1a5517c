"""Test the manifests against Kubernetes' schemas, and the requirements on every pod."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from layertap_server.config.settings import Settings
from tests.paths import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
OLDEST = "1.30"
"""First version with the preStop action ``sleep``."""
KUBECTL = shutil.which("kubectl")

FILES = sorted(path for path in (FOLDER / "base").glob("*.yaml") if path.name != "kustomization.yaml")


def manifests(text: str) -> list[dict[str, Any]]:
    """Return the documents of a YAML file."""
    return [document for document in yaml.safe_load_all(text) if document]


def base() -> list[dict[str, Any]]:
    """Return all manifests of the base."""
    return [manifest for path in FILES for manifest in manifests(path.read_text())]


def one(kind: str) -> dict[str, Any]:
    """Return the only manifest of a kind."""
    (manifest,) = [manifest for manifest in base() if manifest["kind"] == kind]
    return manifest


def pod() -> dict[str, Any]:
    """Return the pod's specification."""
    spec: dict[str, Any] = one("Deployment")["spec"]["template"]["spec"]
    return spec


def container() -> dict[str, Any]:
    """Return the pod's only container."""
    (only,) = pod()["containers"]
    return dict(only)


def built(overlay: str) -> list[dict[str, Any]]:
    """Return the manifests of an overlay."""
    assert KUBECTL
    done = subprocess.run([KUBECTL, "kustomize", FOLDER / overlay], capture_output=True, text=True, check=True)
    return manifests(done.stdout)


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_is_valid(path: Path, version: str) -> None:
    for manifest in manifests(path.read_text()):
        kubernetes_validate.validate(manifest, version, strict=True)


def test_a_key_that_does_not_exist_is_not_valid() -> None:
    manifest = one("Deployment")
    manifest["spec"]["template"]["spec"]["containers"][0]["resource"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, OLDEST, strict=True)


@pytest.mark.skipif(not KUBECTL, reason="kubectl is not installed")
@pytest.mark.parametrize("overlay", ["base", "gpu"])
def test_what_is_applied_is_valid(overlay: str) -> None:
    for manifest in built(overlay):
        kubernetes_validate.validate(manifest, OLDEST, strict=True)


@pytest.mark.skipif(not KUBECTL, reason="kubectl is not installed")
def test_the_gpu_overlay_takes_one_and_insists_on_it() -> None:
    (deployment,) = [manifest for manifest in built("gpu") if manifest["kind"] == "Deployment"]
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    assert only["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert only["env"] == [{"name": "LAYERTAP_DEVICE", "value": "cuda"}]
    assert only["image"].endswith("-cuda")
    assert only["securityContext"] == container()["securityContext"]


def test_every_file_is_applied() -> None:
    kustomization = yaml.safe_load((FOLDER / "base" / "kustomization.yaml").read_text())
    assert sorted(kustomization["resources"]) == [path.name for path in FILES]


def test_the_pod_has_no_privileges() -> None:
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert pod()["securityContext"]["runAsUser"] == 10001
    assert pod()["automountServiceAccountToken"] is False


def test_everything_has_a_limit() -> None:
    resources = container()["resources"]
    for kind in ("requests", "limits"):
        assert set(resources[kind]) == {"cpu", "memory", "ephemeral-storage"}
    for volume in pod()["volumes"]:
        assert volume["emptyDir"]["sizeLimit"]


def test_health_is_asked_where_no_tls_is_spoken() -> None:
    assert {"name": "metrics", "containerPort": Settings().metrics_port} in container()["ports"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container()[probe]["httpGet"] == {"path": "/ready", "port": "metrics"}


def test_the_services_variables_do_not_become_settings() -> None:
    """Disable service variables: a service named layertap would set LAYERTAP_PORT to ``tcp://…``."""
    assert pod()["enableServiceLinks"] is False


def test_the_settings_exist() -> None:
    for name in one("ConfigMap")["data"]:
        assert name.removeprefix("LAYERTAP_").lower() in Settings.__dataclass_fields__


def test_a_pod_has_the_time_to_stop() -> None:
    before = container()["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = int(one("ConfigMap")["data"]["LAYERTAP_GRACEFUL_STOP_SECONDS"])
    assert pod()["terminationGracePeriodSeconds"] > before + grace
    # The services have removed the pod before it starts to refuse requests.
    readiness = container()["readinessProbe"]
    drain = int(one("ConfigMap")["data"]["LAYERTAP_DRAIN_SECONDS"])
    assert drain > readiness["periodSeconds"] * readiness["failureThreshold"]


def test_selectors_find_the_pods() -> None:
    labels = one("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert one("Deployment")["spec"]["selector"]["matchLabels"] == labels
    assert one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    assert one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels
    services = [manifest for manifest in base() if manifest["kind"] == "Service"]
    assert {service["spec"].get("clusterIP") for service in services} == {None, "None"}
    for service in services:
        assert service["spec"]["selector"] == labels
