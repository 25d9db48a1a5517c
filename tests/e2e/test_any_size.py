"""End-to-end tests of models that accept images of any size."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from onnx import parser

from layertap import Client, PreprocessingAssumedWarning
from layertap.errors import LayertapError, ShapeMismatchError
from layertap.types import ImagePadding
from tests.paths import ROOT
from tests.processes import ServerProcess, running_server

CASES = ROOT / "tests" / "data" / "cases"
U_NET = """
<ir_version: 8, opset_import: ["" : 17]> unet (float[N,3,H,W] x) => (float[N,6,H2,W2] y) {
  w1 = Constant<value = float[3,3,1,1] {1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0}>()
  scales = Constant<value = float[4] {1.0, 1.0, 4.0, 4.0}>()
  a = Conv<strides = [2, 2]>(x, w1)
  b = Conv<strides = [2, 2]>(a, w1)
  u = Resize<mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">(b, , scales)
  y = Concat<axis = 1>(u, x)
}
"""
"""A network that enlarges by a fixed factor, so that it accepts only multiples of 4."""
NAMES = ("any_size_residual", "minus_one", "odd_sizes")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    models = tmp_path_factory.mktemp("models")
    for name in NAMES:
        (models / name).mkdir()
        shutil.copy(CASES / f"{name}.onnx", models / name / "model.onnx")
    for name, text in (("unet", "input: {resize: none, normalize: none, background: [10, 20, 30]}"), ("bare", "")):
        (models / name).mkdir()
        onnx.save(parser.parse_model(U_NET), models / name / "model.onnx")
        (models / name / "model.yaml").write_text(f"{text}\n")
    with running_server(models=models) as process:
        yield process


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.address) as connected:
        yield connected


def test_sizes_are_listed_as_formulas_with_strides_and_fields(client: Client) -> None:
    layers = {layer.name: layer for layer in client.layers("any_size_residual")}
    last = layers["layer3.1"]
    assert last.symbolic_shape == ("N", "32", "H/8", "W/8")
    assert last.shape == (-1, 32, -1, -1)
    assert last.stride == 8
    assert last.receptive_field is not None
    assert last.receptive_field.size == 99
    assert [layers[f"layer{number}.1"].stage for number in (1, 2, 3)] == [1, 2, 3]
    assert client.layers("minus_one")[1].symbolic_shape == ("N", "8", "H/2", "W/2")


def test_sizes_after_an_enlargement_by_computed_sizes_are_listed(client: Client) -> None:
    layers = {layer.name: layer for layer in client.layers("odd_sizes")}
    assert layers["/Concat_2_output_0"].symbolic_shape == ("N", "56", "H/4", "W/4")
    assert (layers["97"].symbolic_shape, layers["97"].stride) == (("N", "2", "H", "W"), 1)


def test_layers_are_listed_at_a_size(client: Client) -> None:
    layers = {layer.name: layer for layer in client.layers("any_size_residual", image_height=480, image_width=640)}
    assert layers["layer3.1"].shape == (-1, 32, 60, 80)
    assert layers["layer1.0.conv2"].macs == 8 * 240 * 320 * 8 * 9
    (conv,) = client.layers("any_size_residual", "layer3.1.conv1", image_height=48, image_width=64)
    assert conv.macs == 32 * 6 * 8 * 32 * 9
    with pytest.raises(ShapeMismatchError, match="image_height"):
        client.layers("any_size_residual", image_height=-1, image_width=4)


def test_the_command_lists_a_size(server: ServerProcess) -> None:
    command = [sys.executable, "-m", "layertap.cli", "layers", "any_size_residual", "--server", server.address]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "N×32×H/8×W/8" in text
    assert "--size WIDTHxHEIGHT lists the multiply-accumulates" in text
    text = subprocess.run([*command, "--size", "640x480"], capture_output=True, text=True, check=True).stdout
    assert "N×32×60×80" in text
    assert "million multiply-accumulates per image" in text
    failed = subprocess.run([*command, "--size", "640"], capture_output=True, text=True, check=False)
    assert failed.returncode == 2
    assert "expected WIDTHxHEIGHT in pixels" in failed.stderr


def test_taps_after_an_enlargement_have_the_right_size(client: Client) -> None:
    images = np.random.default_rng(0).normal(size=(1, 3, 32, 48)).astype(np.float32)
    features = client.extract(images, model="odd_sizes", taps=["/Concat_2_output_0 -> a", "97 | gap -> b"])
    assert (features["a"].shape, features["b"].shape) == ((1, 56, 8, 12), (1, 2))


def test_pictures_are_padded_to_what_the_network_accepts(client: Client) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, 301, 454, 3), dtype=np.uint8)
    assert "pad right and below to multiples of 4 with RGB 10, 20, 30" in client.model("unet").preprocessing
    features = client.extract(pictures, model="unet", taps=["x", "y"])
    assert features.padding == (ImagePadding(3, 2),) * 2
    assert features["y"].shape == (2, 6, 304, 456)
    padded = features["x"].transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(padded[:, :301, :454], pictures)
    np.testing.assert_array_equal(padded[:, 301:], np.broadcast_to([10, 20, 30], (2, 3, 456, 3)))
    np.testing.assert_array_equal(padded[:, :, 454:], np.broadcast_to([10, 20, 30], (2, 304, 2, 3)))
    (streamed,) = client.extract_many(pictures[:1], model="unet", taps=["y"])
    assert streamed.features is not None
    assert streamed.features.padding == (ImagePadding(3, 2),)


def test_pictures_that_fit_are_not_padded(client: Client) -> None:
    picture = np.zeros((40, 44, 3), np.uint8)
    features = client.extract([picture], model="unet", taps=["y"])
    assert (features.padding, features["y"].shape) == ((), (1, 6, 40, 44))


def test_pictures_of_one_size_after_padding_are_one_batch(client: Client) -> None:
    pictures = [np.zeros((40, 44, 3), np.uint8), np.zeros((39, 41, 3), np.uint8)]
    assert client.extract(pictures, model="unet", taps=["y"]).padding == (ImagePadding(0, 0), ImagePadding(1, 3))


def test_the_guessed_multiple_is_said(client: Client) -> None:
    with pytest.warns(PreprocessingAssumedWarning, match="multiple_of: 4"):
        assert client.extract([np.zeros((41, 44, 3), np.uint8)], model="bare", taps=["y"]).padding


def test_float_arrays_are_never_padded(client: Client) -> None:
    with pytest.raises(
        LayertapError,
        match="of 44×41 do not go through the model; send multiples of 4 as height and width",
    ):
        client.extract(np.zeros((1, 3, 41, 44), np.float32), model="unet", taps=["y"])
