"""Test adding, changing and removing models while a real server runs."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from onnx import numpy_helper

from layertap import Client, errors
from layertap.types import ModelState
from tests.models import branching, model_folder
from tests.paths import MODELS
from tests.processes import ServerProcess, resident_bytes, running_server, until

VERSIONS = ("1", "3", "10")
IMAGE = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)


def scaled(factor: float) -> onnx.ModelProto:
    """Return the branching model with its first weight, and therefore `conv`, multiplied by a factor."""
    model = branching()
    weight = model.graph.initializer[0]
    array = numpy_helper.to_array(weight) * np.float32(factor)
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    return model


def write_version(home: Path, version: int, model: onnx.ModelProto) -> None:
    """Write a version of a model."""
    (home / str(version)).mkdir(parents=True, exist_ok=True)
    onnx.save(model, home / str(version) / "model.onnx")


def conv(client: Client, version: str = "", model: str = "versions") -> float:
    """Return the largest value of the layer `conv`."""
    return float(np.abs(client.extract(IMAGE, model=model, version=version, taps="conv")["conv"]).max())


def test_versions_as_triton_lays_them_out(tmp_path: Path) -> None:
    home = tmp_path / "versions"
    for version in VERSIONS:
        write_version(home, int(version), scaled(int(version)))
    (home / "model.yaml").write_text("aliases: {first: conv}\n")
    (home / "10" / "model.yaml").write_text("aliases: {begin: conv}\n")
    (home / "notes").mkdir()
    with running_server(models=tmp_path) as server, Client(server.address) as client:
        assert [(info.name, info.version) for info in client.models()] == [
            ("versions", item) for item in ("1", "3", "10")
        ]
        one = conv(client, "1")
        assert conv(client, "3") == pytest.approx(3 * one)
        assert conv(client) == conv(client, "latest") == pytest.approx(10 * one)
        features = client.extract(IMAGE, model="versions", taps="begin -> a")
        assert (features.version, features.map("a").layer) == ("10", "conv")
        assert client.extract(IMAGE, model="versions", version="3", taps="first -> a").version == "3"
        with pytest.raises(errors.UnknownModelError, match="has no version '2'; it has 1, 10, 3"):
            conv(client, "2")


def test_what_changes_on_disk_is_loaded_where_the_operator_watches(tmp_path: Path) -> None:
    write_version(tmp_path / "versions", 1, scaled(1))
    flags = ["--watch", "--watch-seconds", "0.1"]
    with running_server(*flags, models=tmp_path) as server, Client(server.address) as client:
        one = conv(client)
        write_version(tmp_path / "versions", 2, scaled(2))
        until(lambda: conv(client) == pytest.approx(2 * one))
        (tmp_path / "versions" / "2" / "model.onnx").write_bytes(b"broken")
        until(lambda: any("reload failed" in info.reason for info in client.models()))
        assert conv(client) == pytest.approx(2 * one)
        shutil.rmtree(tmp_path / "versions" / "2")
        until(lambda: conv(client) == pytest.approx(one))
        model_folder(tmp_path, "new", branching())
        until(lambda: len(client.models()) == 2)
        shutil.rmtree(tmp_path / "versions")
        until(lambda: [info.name for info in client.models()] == ["new"])


def health(server: ServerProcess, service: str) -> int:
    """Return the health of a service."""
    with grpc.insecure_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return int(stub.Check(health_pb2.HealthCheckRequest(service=service)).status)


def test_load_and_unload(tmp_path: Path) -> None:
    home = model_folder(tmp_path, "versions", scaled(1))
    model_folder(tmp_path, "other", branching())
    with running_server("--control", models=tmp_path) as server, Client(server.address) as client:
        one = conv(client)
        onnx.save(scaled(4), home / "model.onnx")
        assert conv(client) == one  # no reload was requested
        assert client.load_model("versions").state is ModelState.READY
        assert conv(client) == pytest.approx(4 * one)
        (home / "model.onnx").write_bytes(b"broken")
        with pytest.raises(errors.ModelFailedError, match=r"model\.onnx is not an ONNX model"):
            client.load_model("versions")
        assert conv(client) == pytest.approx(4 * one)
        assert health(server, "model/versions") == health_pb2.HealthCheckResponse.SERVING
        client.unload_model("versions")
        with pytest.raises(errors.UnknownModelError, match="is unloaded"):
            conv(client)
        assert client.model("versions").state is ModelState.UNLOADED
        until(lambda: health(server, "model/versions") == health_pb2.HealthCheckResponse.NOT_SERVING)
        assert conv(client, model="other") > 0
        onnx.save(scaled(1), home / "model.onnx")
        client.load_model("versions")
        assert conv(client) == one
        with pytest.raises(errors.UnknownModelError, match="did you mean other"):
            client.load_model("othr")
        with pytest.raises(errors.UnknownModelError):
            client.load_model("../versions")


def test_control_is_refused_unless_the_operator_allows_it(client: Client) -> None:
    with pytest.raises(errors.ControlDisabledError, match="--control"):
        client.load_model("efficientnet_lite0")
    with pytest.raises(errors.ControlDisabledError):
        client.unload_model("efficientnet_lite0")


def test_reloads_under_traffic(tmp_path: Path) -> None:
    """Reload under four callers: every result is one model's or the other's, none fails, memory stays bounded."""
    home = model_folder(tmp_path, "versions", scaled(1))
    wrong: list[object] = []
    stop = threading.Event()
    answers = [0] * 4

    def ask(address: str, caller: int, right: list[float]) -> None:
        with Client(address) as mine:
            while not stop.is_set():
                try:
                    features = mine.extract(IMAGE, model="versions", taps=["conv | gmp -> a", "scores | l2 -> b"])
                    value = float(np.abs(mine.extract(IMAGE, model="versions", taps="conv")["conv"]).max())
                    if not any(value == pytest.approx(item) for item in right) or len(features) != 2:
                        wrong.append(value)
                except errors.LayertapError as error:
                    wrong.append(error)
                answers[caller] += 1

    with running_server("--control", models=tmp_path) as server, Client(server.address) as client:
        one = conv(client)
        right = [one, 2 * one]
        callers = [threading.Thread(target=ask, args=(server.address, caller, right)) for caller in range(4)]
        for caller in callers:
            caller.start()
        early = 0
        for number in range(200):
            onnx.save(scaled(1 + number % 2), home / "model.onnx")
            client.load_model("versions")
            if number == 60:
                early = resident_bytes(server)
        late = resident_bytes(server)
        stop.set()
        for caller in callers:
            caller.join()
    assert not wrong, wrong[:3]
    assert min(answers) > 20
    assert late - early < 40 * 2**20, (early, late)


def test_unloading_frees_the_memory(tmp_path: Path) -> None:
    for name in ("model.yaml", "weights.safetensors", "labels.txt"):
        for number in range(4):
            (tmp_path / f"m{number}").mkdir(exist_ok=True)
            shutil.copy(MODELS / "efficientnet_lite0" / name, tmp_path / f"m{number}" / name)
    image = np.zeros((64, 64, 3), np.uint8)
    with running_server("--control", models=tmp_path) as server, Client(server.address) as client:
        for number in range(4):
            for tap in ("stage:3 | gap", "stage:5 | gap", "logits"):
                client.extract(image, model=f"m{number}", taps=tap)
        full = resident_bytes(server)
        for number in range(1, 4):
            client.unload_model(f"m{number}")
        until(lambda: resident_bytes(server) < full - 3 * 40 * 2**20)
        client.extract(image, model="m0", taps="logits")
