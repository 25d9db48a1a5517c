"""Test attribution through a real server process: maps of photographs, the command line, and a vision transformer."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from layertap import AsyncClient, Client, errors
from layertap.types import Array
from tests.paths import MODEL, PHOTOS, ROOT
from tests.processes import ServerProcess, running_server

COFFEE = PHOTOS / "coffee.png"
CUP = (slice(10, 120), slice(50, 185))
"""Rows and columns of the cup and the coffee in it, in the image as the network sees it, 224×224."""
QUICK = (
    *("grad_cam", "grad_cam_plus_plus", "layer_cam", "hires_cam", "occlusion(window=56, stride=28)"),
    *("rise(masks=64)", "smooth_grad(samples=4)", "saliency"),
)


def inside(found: Array) -> float:
    """Return how much stronger the map's positive part is in the cup than in the whole image."""
    positive = np.maximum(found, 0)
    return float(positive[CUP].mean() / positive.mean())


@pytest.mark.parametrize("method", QUICK)
def test_the_espresso_comes_from_the_cup(method: str, client: Client) -> None:
    result = client.attribute(COFFEE, model=MODEL, method=method, target_index="espresso", timeout_seconds=120)
    assert result.maps.shape == (1, 224, 224)
    assert result.maps.dtype == np.float32
    assert inside(result.maps[0]) > 1.1
    assert (result.target, result.targets[0].label) == ("logits", "espresso")
    assert result.method.startswith(method.split("(", maxsplit=1)[0])


def test_integrated_gradients_report_what_they_lack(client: Client) -> None:
    method = "integrated_gradients(steps=4, most_steps=4)"
    result = client.attribute(COFFEE, model=MODEL, method=method, target_index="espresso")
    black = client.extract(np.zeros((1, 3, 224, 224), np.float32), model=MODEL, taps="logits")["logits"][0, 967]
    assert result.maps.sum() + result.missing[0] == pytest.approx(result.targets[0].value - black, abs=1e-2)
    assert "is missing in a map" in result.warning


def test_several_images_have_targets_of_their_own(client: Client, server: ServerProcess) -> None:
    images, indices = [COFFEE, PHOTOS / "chelsea.png"], [967, 281]
    both = client.attribute(images, model=MODEL, target_index=indices, size="layer")
    assert both.maps.shape == (2, 7, 7)
    for row in (0, 1):
        one = client.attribute(images[row], model=MODEL, target_index=indices[row], size="layer")
        np.testing.assert_allclose(both.maps[row], one.maps[0], atol=1e-4 * one.maps.max())

    async def ask() -> Array:
        async with AsyncClient(server.address) as asynchronous:
            result = await asynchronous.attribute(images, model=MODEL, target_index=indices, size="layer")
            return result.maps

    np.testing.assert_allclose(asyncio.run(ask()), both.maps, atol=1e-4 * both.maps.max())


def test_errors_are_typed(client: Client) -> None:
    with pytest.raises(errors.UnknownMethodError, match="did you mean grad_cam") as unknown:
        client.attribute(COFFEE, model=MODEL, method="grad_cm")
    assert unknown.value.reason == "UNKNOWN_METHOD"
    with pytest.raises(errors.TooExpensiveError, match="runs of occlusion"):
        client.attribute(COFFEE, model=MODEL, method="occlusion(window=1, stride=1)")
    with pytest.raises(errors.InvalidRequestError, match="expected size as one of input, layer"):
        client.attribute(COFFEE, model=MODEL, size="picture")  # type: ignore[arg-type]


def explain(server: ServerProcess, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run ``layertap explain``."""
    command = [sys.executable, "-m", "layertap.cli", "explain", "--server", server.address, "--model", MODEL]
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_the_command_line_draws_methods_and_targets_side_by_side(server: ServerProcess, tmp_path: Path) -> None:
    out = tmp_path / "why.png"
    methods = ["--method", "grad_cam", "--method", "rise(masks=16)"]
    done = explain(server, COFFEE, *methods, "--target-index", "espresso", "--target-index", "cup", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "coffee.png: espresso = 11.4" in done.stdout
    with Image.open(out) as picture:
        assert picture.width > 500
        assert np.asarray(picture.convert("RGB")).std() > 20
    done = explain(server, COFFEE, *methods[2:], "--out", out, "--json")
    assert json.loads(done.stdout)["rows"] == [{"title": "coffee.png: espresso = 11.4", "methods": ["rise(masks=16)"]}]
    done = explain(server, COFFEE, "--method", "nothing", "--out", out)
    assert done.returncode != 0
    assert "there is no method 'nothing'" in done.stderr
    done = explain(server, *[COFFEE] * 3, *["--target-index", "1"] * 7, "--out", out)
    assert "a figure has at most 20 rows, got 21" in done.stderr


def test_a_vision_transformer_is_explained_by_its_attention_and_its_tokens() -> None:
    digit = next((ROOT / "examples" / "images" / "digits").glob("3_*.png"))
    with running_server(models=ROOT / "examples" / "models") as server, Client(server.address) as client:
        rollout = client.attribute(digit, model="digits_vit", method="attention_rollout", size="layer")
        assert rollout.maps.ndim == 3
        assert (rollout.maps > 0).all()
        assert rollout.targets == ()
        cam = client.attribute(digit, model="digits_vit", method="layer_cam", layer="block:2")
        assert cam.maps.shape[1:] == client.extract(digit, model="digits_vit", taps="#0")["#0"].shape[2:]
        assert cam.maps.max() > 0
