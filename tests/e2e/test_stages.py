"""End-to-end tests of ``stage:N`` and ``block:N`` against the maps of the networks' own framework."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import numpy as np
import pytest

from layertap import Client
from layertap.errors import UnknownLayerError
from layertap.types import Array, Layout
from tests.paths import ROOT
from tests.processes import running_server

CASES = ROOT / "tests" / "data" / "cases"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    models = tmp_path_factory.mktemp("models")
    for path in CASES.glob("*.onnx"):
        (models / path.stem).mkdir()
        shutil.copy(path, models / path.stem / "model.onnx")
    with running_server(models=models) as server, Client(server.address) as client:
        yield client


def as_map(array: Array, want: Array) -> Array:
    """Return tokens, or a map with channels last, as N×C×H×W."""
    if array.ndim == 3:
        array = array.reshape(len(array), *want.shape[2:], -1)
    return array if array.shape == want.shape else array.transpose(0, 3, 1, 2)


@pytest.mark.parametrize(("model", "image", "count"), [("swin", "x", 2), ("convnext", "xc", 4)])
def test_stages_are_those_of_timm(client: Client, model: str, image: str, count: int) -> None:
    want = np.load(CASES / "channels_last_stages.npz")
    taps = [f"stage:{number} -> {number}" for number in range(1, count + 1)]
    got = client.extract(want[image], model=model, taps=[*taps, "stage:-1 -> last"])
    for number in range(count):
        stage = want[f"{model}_stage{number}"]
        np.testing.assert_allclose(as_map(got[str(number + 1)], stage), stage, atol=1e-5)
    np.testing.assert_array_equal(got["last"], got[str(count)])
    with pytest.raises(UnknownLayerError, match=f"they go from stage:1 to stage:{count}"):
        client.extract(want[image], model=model, taps=[f"stage:{count + 1}"])


def test_stages_of_a_network_of_any_size(client: Client) -> None:
    images = np.random.default_rng(0).normal(size=(2, 3, 40, 56)).astype(np.float32)
    got = client.extract(images, model="any_size_residual", taps=["stage:1 -> a", "stage:2 -> b", "stage:3 -> c"])
    assert [got[name].shape for name in "abc"] == [(2, 8, 20, 28), (2, 16, 10, 14), (2, 32, 5, 7)]
    assert client.extract(images, model="any_size_residual", taps=["stage:-1 | gap -> d"])["d"].shape == (2, 32)


def test_the_listing_numbers_stages_and_blocks(client: Client) -> None:
    layers = {layer.name: layer for layer in client.layers("swin")}
    assert {layer.stage: name for name, layer in layers.items() if layer.stage} == {1: "view_28", 2: "view_55"}
    assert (layers["view_28"].shape, layers["view_28"].layout) == ((-1, 28, 28, 16), Layout.NHWC)
    blocks = {layer.block: name for name, layer in layers.items() if layer.block}
    assert list(blocks) == [1, 2, 3, 4]
    (named,) = client.layers("swin", "block:2")
    assert (named.name, named.block, named.stage) == (blocks[2], 2, 1)


ENCODER = "/m/model/backbone/model/encoder/stages.{}/layers.0/activation/Relu_output_0"


@pytest.mark.parametrize(
    ("model", "stages", "layout"),
    [
        (
            "keras",
            [f"StatefulPartitionedCall/model/{name}/Relu:0" for name in ("activation", "activation_1")],
            Layout.NHWC,
        ),
        ("line_layouts", ["r"], Layout.NCHW),
        ("two_inputs", [ENCODER.format(number) for number in range(4)], Layout.NCHW),
    ],
)
def test_stages_are_maps_of_the_backbone(client: Client, model: str, stages: list[str], layout: Layout) -> None:
    found = [layer for layer in client.layers(model) if layer.stage]
    assert [(layer.stage, layer.name) for layer in found] == list(enumerate(stages, 1))
    assert {layer.layout for layer in found} == {layout}
    (last,) = client.layers(model, "stage:-1")
    assert last.name == stages[-1]


def test_the_end_of_a_module_path_is_a_selector(client: Client) -> None:
    (layer,) = client.layers("keras", "activation_1")
    assert layer.name == "StatefulPartitionedCall/model/activation_1/Relu:0"
    image = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype(np.float32)
    got = client.extract(image, model="keras", taps=["activation_1", "stage:2"])
    np.testing.assert_array_equal(got["activation_1"], got["stage:2"])
