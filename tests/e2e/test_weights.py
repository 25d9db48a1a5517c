"""End-to-end tests of GetWeights: parameters are those of the file, and need the operator's permission."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from layertap import AsyncClient, Client, errors
from layertap.types import Array
from tests.processes import ServerProcess, running_server

NET = "net"


def convolutions() -> onnx.ModelProto:
    """Return a network of three convolutions, one with a filter bank of some chunks, and a batch normalization."""
    random = np.random.default_rng(1)
    shapes = {
        "w1": (24, 3, 7, 7),
        "b1": (24,),
        "w2": (600, 24, 3, 3),
        "w3": (8, 600, 1, 1),
        **dict.fromkeys("sbmv", (8,)),
    }
    weights = [
        numpy_helper.from_array(np.abs(random.normal(size=shape)).astype(np.float32) * (-1) ** index, name)
        for index, (name, shape) in enumerate(shapes.items())
    ]
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["first"], strides=[2, 2]),
        helper.make_node("Relu", ["first"], ["act"]),
        helper.make_node("Conv", ["act", "w2"], ["second"]),
        helper.make_node("Conv", ["second", "w3"], ["third"]),
        helper.make_node("BatchNormalization", ["third", "s", "b", "m", "v"], ["out"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 32, 32])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 8, 11, 11])
    graph = helper.make_graph(nodes, "net", [image], [out], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def quantized() -> onnx.ModelProto:
    """Return a network whose filters are stored as int8, as float16 and as bfloat16."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 8, 8])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 4, 8, 8])
    random = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(random.integers(-100, 100, (4, 3, 1, 1)).astype(np.int8), "w8"),
        numpy_helper.from_array(np.array(0.1, np.float32), "scale"),
        numpy_helper.from_array(random.normal(size=(4, 4, 1, 1)).astype(np.float16), "w16"),
        helper.make_tensor("wb", TensorProto.BFLOAT16, [4, 4, 1, 1], random.normal(size=16)),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["w8", "scale"], ["w8f"]),
        helper.make_node("Conv", ["image", "w8f"], ["a"]),
        helper.make_node("Cast", ["w16"], ["w16f"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["a", "w16f"], ["b"]),
        helper.make_node("Cast", ["wb"], ["wbf"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["b", "wbf"], ["c"]),
        helper.make_node("Relu", ["c"], ["out"]),
    ]
    graph = helper.make_graph(nodes, "net", [image], [out], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in (NET, "stored"):
        (folder / name).mkdir()
    onnx.save(convolutions(), folder / NET / "model.onnx")
    onnx.save(quantized(), folder / "stored" / "model.onnx")
    return folder


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[ServerProcess]:
    with running_server("--weights", models=models) as process:
        yield process


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.address) as connected:
        yield connected


def in_file(models: Path, name: str) -> dict[str, Array]:
    """Return the initializers of a model's file."""
    proto = onnx.load(models / name / "model.onnx")
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def test_every_parameter_is_that_of_the_file(client: Client, models: Path) -> None:
    stored = in_file(models, NET)
    seen: set[str] = set()
    for layer in client.layers(NET):
        if not layer.weights:
            continue
        got = client.weights(NET, layer.name)
        assert {(info.name, info.dtype, info.shape) for info in layer.weights} == {
            (name, array.dtype.name, array.shape) for name, array in got.items()
        }
        for name, array in got.items():
            np.testing.assert_array_equal(array, stored[name])
        seen |= got.keys()
    assert seen == stored.keys()


def test_several_layers_at_once(client: Client) -> None:
    listed = [info.name for layer in client.layers(NET, "op:Conv") for info in layer.weights]
    assert list(client.weights(NET, "op:Conv")) == listed


def test_parameters_are_returned_as_they_are_stored(client: Client, models: Path) -> None:
    stored = in_file(models, "stored")
    assert client.weights("stored", "a")["w8"].dtype == np.int8
    np.testing.assert_array_equal(client.weights("stored", "a")["w8"], stored["w8"])
    np.testing.assert_array_equal(client.weights("stored", "b")["w16"], stored["w16"])
    got = client.weights("stored", "c")["wb"]
    assert got.dtype == np.float32  # NumPy has no bfloat16; float32 holds its values exactly
    np.testing.assert_array_equal(got, stored["wb"].astype(np.float32))


def test_the_asyncio_client(server: ServerProcess, client: Client) -> None:
    async def fetch() -> dict[str, Array]:
        async with AsyncClient(server.address) as connected:
            return await connected.weights("stored", "a")

    np.testing.assert_array_equal(asyncio.run(fetch())["w8"], client.weights("stored", "a")["w8"])


def test_refusals(client: Client) -> None:
    with pytest.raises(errors.InvalidRequestError, match="have no parameters"):
        client.weights("stored", "out")
    with pytest.raises(errors.UnknownLayerError):
        client.weights("stored", "nothing")
    with pytest.raises(errors.UnknownModelError):
        client.weights("nothing", "a")


def test_it_is_off_by_default(models: Path) -> None:
    with running_server(models=models) as process, Client(process.address) as connected:
        assert connected.layers("stored", "a")[0].weights[0].name == "w8"
        with pytest.raises(errors.WeightsDisabledError, match="enables it with --weights"):
            connected.weights("stored", "a")


def test_a_limit_of_responses_holds(models: Path) -> None:
    with (
        running_server("--weights", "--max-response-bytes", "10000", models=models) as process,
        Client(process.address) as connected,
        pytest.raises(errors.ResponseTooLargeError),
    ):
        connected.weights(NET, "op:Conv")


def test_a_token_needs_the_role(models: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.yaml"
    reader, owner = "r" * 20, "o" * 20
    tokens.write_text(
        f"reader: {{token: {reader}, roles: [extract]}}\nowner: {{token: {owner}, roles: [extract, weights]}}\n"
    )
    with running_server("--weights", "--tokens", str(tokens), models=models) as process:
        with Client(process.address, token=reader) as connected:
            assert connected.layers("stored")
            with pytest.raises(errors.ForbiddenError, match="lacks the role weights"):
                connected.weights("stored", "a")
        with Client(process.address, token=owner) as connected:
            assert connected.weights("stored", "a")["w8"].shape == (4, 3, 1, 1)


def run(server: ServerProcess, *arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command."""
    command = [sys.executable, "-m", "layertap.cli", *map(str, arguments), "--server", server.address]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def test_the_command_saves_them(server: ServerProcess, client: Client, tmp_path: Path) -> None:
    done = run(server, "weights", "stored", "a", "-o", "a.npy", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), client.weights("stored", "a")["w8"])
    assert "4×3×1×1" in done.stdout
    assert run(server, "weights", NET, "op:Conv", "-o", "all.npz", "-q", folder=tmp_path).returncode == 0
    with np.load(tmp_path / "all.npz") as saved:
        for name, array in client.weights(NET, "op:Conv").items():
            np.testing.assert_array_equal(saved[name], array)
    several = run(server, "weights", NET, "op:Conv", "-o", "all.npy", folder=tmp_path)
    assert (several.returncode, "a .npy holds one array" in several.stderr) == (1, True)
    assert run(server, "weights", NET, "op:Conv", "-o", "all.txt", folder=tmp_path).returncode == 2


def test_the_filters_are_drawn(server: ServerProcess, client: Client, tmp_path: Path) -> None:
    first = client.layers(NET, "op:Conv")[0]
    done = run(server, "show", "--weights", first.name, "-m", NET, "-o", "filters.png", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "filters.png") as image:
        assert image.width > 500
        assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 1000
    no_filters = run(server, "show", "--weights", "out", "-m", "stored", folder=tmp_path)
    assert (no_filters.returncode, "have no parameters" in no_filters.stderr) == (1, True)
    assert run(server, "show", "-m", NET, folder=tmp_path).returncode == 2
