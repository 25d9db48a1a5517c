"""Test gradients through a real server process, on real networks and photographs."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from layertap import AsyncClient, Client, errors
from layertap.types import Array
from tests.paths import MODEL, MODELS, PHOTOS
from tests.processes import ServerProcess

COFFEE = PHOTOS / "coffee.png"
ESPRESSO = 967
TAP = "grad:stage:-1"


def cam(client: Client, photo: str, label: int) -> Array:
    """Return Grad-CAM of a photograph, height × width."""
    features = client.extract(PHOTOS / photo, model=MODEL, taps=["stage:-1", TAP], target_index=label)
    weights = features[TAP].mean((2, 3), keepdims=True)
    return np.asarray(np.maximum((weights * features["stage:-1"]).sum(1), 0)[0])


def test_the_gradient_of_the_last_layer_is_a_row_of_its_weights(client: Client) -> None:
    weights = load_file(MODELS / MODEL / "weights.safetensors")
    (classifier,) = (array for array in weights.values() if array.shape in {(1000, 1280), (1280, 1000)})
    rows = classifier if classifier.shape[0] == 1000 else classifier.T
    features = client.extract([COFFEE, COFFEE], model=MODEL, taps="grad:pooled", target_index=[ESPRESSO, 281])
    np.testing.assert_allclose(features["grad:pooled"], rows[[ESPRESSO, 281]], rtol=1e-5)


def test_the_answer_names_the_target(client: Client) -> None:
    features = client.extract(COFFEE, model=MODEL, taps=[TAP, "logits"])
    (target,) = features.targets
    assert (features.target, target.index, target.label) == ("logits", ESPRESSO, "espresso")
    assert target.value == pytest.approx(features["logits"][0, ESPRESSO])
    assert features[TAP].shape == client.extract(COFFEE, model=MODEL, taps="stage:-1")["stage:-1"].shape


def test_grad_cam_finds_the_espresso(client: Client) -> None:
    assert cam(client, "coffee.png", ESPRESSO).argmax() == 3 * 7 + 3, "the middle of 7×7 positions"


def test_streams_and_the_asynchronous_client_give_the_same(client: Client, server: ServerProcess) -> None:
    expected = client.extract(COFFEE, model=MODEL, taps=TAP, target_index="espresso")
    (item,) = client.extract_many([COFFEE], model=MODEL, taps=[TAP], target_index="espresso")
    (large,) = client.extract_many([COFFEE], model=MODEL, taps=[TAP, "grad:input"], target_index="espresso")

    async def ask() -> Array:
        async with AsyncClient(server.address) as asynchronous:
            features = await asynchronous.extract(COFFEE, model=MODEL, taps=TAP, target_index="espresso")
            assert features.targets == expected.targets
            return features[TAP]

    for found in (item.features, large.features):
        assert found is not None
        assert (found.target, found.targets[0].label) == ("logits", "espresso")
        np.testing.assert_allclose(found[TAP], expected[TAP], atol=1e-6)
    np.testing.assert_array_equal(asyncio.run(ask()), expected[TAP])


def test_errors_are_typed_and_say_what_to_do(client: Client) -> None:
    with pytest.raises(errors.UnknownLabelError, match="did you mean espresso") as unknown:
        client.extract(COFFEE, model=MODEL, taps=TAP, target_index="expresso")
    assert unknown.value.reason == "UNKNOWN_LABEL"
    assert "espresso" in unknown.value.suggestions
    with pytest.raises(errors.BadTargetError, match="from 0 to 999"):
        client.extract(COFFEE, model=MODEL, taps=TAP, target_index=1000)
    with pytest.raises(errors.BadTargetError, match="at least 0, got -1"):
        client.extract(COFFEE, model=MODEL, taps=TAP, target_index=-1)
    with pytest.raises(errors.BadTargetError, match="one number per image, or a vector"):
        client.preview(model=MODEL, taps=TAP, target="stage:2")
    with pytest.raises(errors.NotDifferentiableError, match="does not depend on"):
        client.preview(model=MODEL, taps=TAP, target="stage:2 | gap")
    with pytest.raises(TypeError, match=r"target_index has 1\.5"):
        client.extract(COFFEE, model=MODEL, taps=TAP, target_index=[1.5])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="target is 7"):
        client.extract(COFFEE, model=MODEL, taps=TAP, target=7)  # type: ignore[arg-type]


def layertap(server: ServerProcess, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    command = [sys.executable, "-m", "layertap.cli", "extract", "--server", server.address, "--model", MODEL]
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_the_command_line_takes_a_target(server: ServerProcess, tmp_path: Path, client: Client) -> None:
    out = tmp_path / "why.npz"
    done = layertap(server, COFFEE, "--tap", TAP, "--target-index", "espresso", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "target of image 0: logits[967] (espresso) = 11.4" in done.stdout
    expected = client.extract(COFFEE, model=MODEL, taps=TAP, target_index=ESPRESSO)[TAP]
    np.testing.assert_allclose(np.load(out)[TAP], expected, atol=1e-6)
    done = layertap(server, COFFEE, "--tap", TAP, "--target", "pooled", "--target-index", 7, "--json")
    (row,) = json.loads(done.stdout)
    assert (row["target"], row["targets"][0]["index"]) == ("pooled", 7)
    done = layertap(server, COFFEE, "--tap", TAP, "--target-index", "expresso")
    assert done.returncode != 0
    assert "did you mean espresso" in done.stderr
    done = layertap(server, tmp_path, "--tap", TAP, "--target-index", "espresso", "--out", tmp_path / "all.zarr")
    assert "--target and --edit need image files by name" in done.stderr
