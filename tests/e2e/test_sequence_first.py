"""End-to-end tests of transformers that compute on tokens×batch×channels (``batch_first=False`` in PyTorch)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import numpy as np
import pytest

from layertap import Client
from layertap.types import Layout
from tests.paths import ROOT
from tests.processes import running_server

CASES = ROOT / "tests" / "data" / "cases"
EXPORTS = ("sequence_first_dynamo", "sequence_first_torchscript")
WANT = dict(np.load(CASES / "sequence_first.npz"))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    models = tmp_path_factory.mktemp("models")
    for name in EXPORTS:
        (models / name).mkdir()
        shutil.copy(CASES / f"{name}.onnx", models / name / "model.onnx")
    for name, surgery in (("cut", "surgery: [{match: 'block:1', insert: 'square'}]"),):
        (models / name).mkdir()
        shutil.copy(CASES / f"{EXPORTS[0]}.onnx", models / name / "model.onnx")
        (models / name / "model.yaml").write_text(f"{surgery}\n")
    with running_server(models=models) as server, Client(server.address) as connected:
        yield connected


@pytest.mark.parametrize("model", EXPORTS)
def test_blocks_are_returned_batch_first(client: Client, model: str) -> None:
    got = client.extract(WANT["x"], model=model, taps=[f"block:{number} -> {number}" for number in (1, 2, 3)])
    for number in range(3):
        want = WANT[f"transformer_{number}"].transpose(1, 0, 2)
        np.testing.assert_allclose(got[str(number + 1)], want, atol=2e-5)


@pytest.mark.parametrize("model", EXPORTS)
def test_they_are_listed_as_tokens_with_their_class_token(client: Client, model: str) -> None:
    (layer,) = client.layers(model, "block:2")
    assert (layer.layout, layer.symbolic_shape) == (Layout.TOKENS, ("N", "17", "32"))
    assert layer.tokens is not None
    assert (layer.tokens.prefix, layer.tokens.height, layer.tokens.width) == (1, 4, 4)
    assert all(other.batching_reason == "" for other in client.layers(model) if other.tappable)


@pytest.mark.parametrize("model", EXPORTS)
def test_blocks_of_a_head_see_the_tokens(client: Client, model: str) -> None:
    got = client.extract(WANT["x"], model=model, taps=["block:-1 | tokens(mean) -> a", "block:-1 | tokens(cls) -> b"])
    tokens = WANT["transformer_2"].transpose(1, 0, 2).astype(np.float64)
    np.testing.assert_allclose(got["a"], tokens[:, 1:].mean(1), atol=2e-5)
    np.testing.assert_allclose(got["b"], tokens[:, 0], atol=2e-5)


def test_statistics_are_those_of_each_image(client: Client) -> None:
    (statistics,) = client.inspect(WANT["x"], model=EXPORTS[0], selectors="block:1")
    assert statistics.mean == pytest.approx(WANT["transformer_0"].mean(), abs=1e-5)


def test_surgery_keeps_the_order_of_the_axes(client: Client) -> None:
    got = client.extract(WANT["x"], model="cut", taps=["block:1 -> a", "block:3 -> b"])
    np.testing.assert_allclose(got["a"], WANT["transformer_0"].transpose(1, 0, 2) ** 2, atol=2e-4)
    assert np.abs(got["b"] - WANT["transformer_2"].transpose(1, 0, 2)).max() > 1e-2


def test_requests_are_joined_and_right(client: Client) -> None:
    together = list(client.extract_many(WANT["x"], model=EXPORTS[0], taps=["block:3 -> a"]))
    for row, result in enumerate(together):
        assert result.features is not None
        np.testing.assert_allclose(result.features["a"][0], WANT["transformer_2"][:, row], atol=2e-5)
