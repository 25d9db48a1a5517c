"""End-to-end tests of what the server says about layers: activations, layouts, tokens and attention."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import numpy as np
import pytest

from layertap import Client
from layertap.errors import ShapeMismatchError
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


def random_input(*shape: int) -> Array:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_composite_activations_have_names(client: Client) -> None:
    layers = client.layers("composite_activations", "all:activations")
    assert {layer.name: layer.op_type for layer in layers} == {
        "silu": "swish", "gelu": "gelu", "hard_swish": "hard_swish", "mish": "mish",
    }  # fmt: skip
    assert [layer.name for layer in client.layers("composite_activations", "op:silu")] == ["silu"]


def test_channels_before_and_after_positions_are_told_apart(client: Client) -> None:
    x = random_input(2, 3, 8, 20)
    layouts = {layer.name: layer.layout for layer in client.layers("line_layouts")}
    assert (layouts["n_c_t"], layouts["n_t_c"]) == (Layout.NCT, Layout.TOKENS)
    got = client.extract(x, model="line_layouts", taps=["n_c_t", "n_c_t | gap -> a", "n_t_c | gap -> b"])
    assert got["a"].shape == (2, 12)
    np.testing.assert_allclose(got["a"], got["n_c_t"].mean(axis=2), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got["b"], got["a"], rtol=1e-5, atol=1e-6)


def test_class_token_and_registers_enter_no_mean(client: Client) -> None:
    want = np.load(CASES / "register_tokens.npz")
    x, tokens = want["reg4|x"], want["reg4|blocks.1"]
    layer = next(one for one in client.layers("register_tokens") if one.name == "add_119")
    taps = ["add_119", "add_119 | tokens(grid) -> grid", "add_119 | tokens(mean) -> mean", "add_119 | gap -> gap"]
    got = client.extract(x, model="register_tokens", taps=[*taps, "add_119 | tokens(cls) -> cls"])
    assert layer.tokens is not None
    assert (layer.tokens.prefix, layer.tokens.height, layer.tokens.width) == (5, 4, 6)
    np.testing.assert_allclose(got["add_119"], tokens, atol=1e-5)
    positions = got["add_119"][:, 5:]
    np.testing.assert_allclose(got["grid"], positions.transpose(0, 2, 1).reshape(2, 24, 4, 6))
    for name in ("mean", "gap"):
        np.testing.assert_allclose(got[name], positions.mean(axis=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got["cls"], got["add_119"][:, 0])


def test_blocks_of_the_register_network_are_those_of_timm(client: Client) -> None:
    want = np.load(CASES / "register_tokens.npz")
    got = client.extract(want["reg4|x"], model="register_tokens", taps=["block:1 -> 1", "block:2 -> 2"])
    np.testing.assert_allclose(got["1"], want["reg4|blocks.0"], atol=1e-5)
    np.testing.assert_allclose(got["2"], want["reg4|blocks.1"], atol=1e-5)


def test_attention_probabilities_have_heads(client: Client) -> None:
    x = np.load(CASES / "register_tokens.npz")["reg4|x"]
    got = client.extract(x, model="register_tokens", taps=["attention:1 -> 1", "attention:-1 -> 2"])
    assert got["1"].shape == got["2"].shape == (2, 3, 29, 29)
    np.testing.assert_allclose(got["1"].sum(axis=-1), 1, rtol=1e-5)
    assert not np.allclose(got["1"], got["2"])


def test_a_layout_can_be_stated(client: Client) -> None:
    x = np.load(CASES / "register_tokens.npz")["reg4|x"]
    with pytest.raises(ShapeMismatchError, match=r"read_as\(NCHW\)"):
        client.extract(x, model="register_tokens", taps="attention:1 | gap")
    got = client.extract(x, model="register_tokens", taps=["attention:1", "attention:1 | read_as(NCHW) | gap -> heads"])
    np.testing.assert_allclose(got["heads"], got["attention:1"].mean(axis=(2, 3)), rtol=1e-5)


def test_an_unknown_prefix_must_be_stated(client: Client) -> None:
    x = random_input(1, 3, 8, 20)
    with pytest.raises(ShapeMismatchError, match="prefix=1"):
        client.extract(x, model="line_layouts", taps="n_c_t | read_as(tokens) | tokens(mean)")
    got = client.extract(x, model="line_layouts", taps=["n_c_t", "n_c_t | read_as(NTC) | tokens(mean, prefix=2) -> m"])
    np.testing.assert_allclose(got["m"], got["n_c_t"][:, 2:].mean(axis=1), rtol=1e-4, atol=1e-6)


def test_a_network_without_class_token_has_none(client: Client) -> None:
    with pytest.raises(ShapeMismatchError, match="no class token"):
        client.extract(random_input(1, 3, 8, 20), model="line_layouts", taps="n_t_c | tokens(cls)")


def test_a_narrow_input_has_the_channels_of_its_convolution(client: Client) -> None:
    x = random_input(2, 11, 60, 3)
    got = client.extract(x, model="narrow_input", taps=["pix | gap -> mean", "pix | max_pool([2, 3]) -> pooled"])
    np.testing.assert_allclose(got["mean"], x.mean(axis=(2, 3)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(got["pooled"], x.reshape(2, 11, 30, 2, 1, 3).max(axis=(3, 5)))


HEADS = (
    "max_pool(2)",
    "average_pool(3)",
    "crop(4, 4)",
    "resize(7, 7)",
    "gap",
    "gem",
    "adaptive_average_pool(2)",
    "gram",
)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(("layer", "layout"), [("add_515", Layout.TOKENS), ("view_28", Layout.NHWC)])
def test_tokens_and_channels_last_maps_take_spatial_blocks(
    client: Client, layer: str, layout: Layout, head: str
) -> None:
    """Compare with the block on the same map of timm, N×C×H×W; maps of tokens have the channels first."""
    want = np.load(CASES / "channels_last_stages.npz")
    (info,) = client.layers("swin", layer)
    assert info.layout is layout
    got = client.extract(want["x"], model="swin", taps=f"{layer} | {head} -> own")["own"]
    expected = client.apply_blocks(want["swin_stage0"], head, layout=Layout.NCHW)
    if expected.ndim == 4 and layout is Layout.NHWC:
        got = got.transpose(0, 3, 1, 2)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_maps_of_keras_are_channels_last(client: Client) -> None:
    x = random_input(1, 32, 32, 3)
    (layer,) = client.layers("keras", "*activation_1/Relu*")
    taps = [f'"{layer.name}" -> map', f'"{layer.name}" | gap -> mean', f'"{layer.name}" | max_pool(2) -> pooled']
    got = client.extract(x, model="keras", taps=taps)
    assert layer.layout is Layout.NHWC
    np.testing.assert_allclose(got["mean"], got["map"].mean(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_allclose(got["pooled"], got["map"].reshape(1, 4, 2, 4, 2, 8).max(axis=(2, 4)))
