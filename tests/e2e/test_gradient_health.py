"""Test gradient health through a real server process against gradients that are extracted whole."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from layertap import Client, cli, errors
from layertap.gradient_health import gradient_health
from tests.paths import MODEL, PHOTOS, ROOT
from tests.processes import ServerProcess, running_server

COFFEE, CAT = PHOTOS / "coffee.png", PHOTOS / "chelsea.png"
LOSS = "logits | cross_entropy(967)"


def test_norms_and_flat_shares_are_those_of_the_whole_arrays(client: Client) -> None:
    selectors = ["stem", "blocks.8.depthwise_activation", "head"]
    names = [layer.name for selector in selectors for layer in client.layers(MODEL, selector)]
    found = gradient_health(client, [COFFEE, CAT], model=MODEL, selectors=selectors, target=LOSS)
    assert [one.layer for one in found] == names
    taps = [f'"grad:{name}" -> g{index}' for index, name in enumerate(names)]
    values = [f'"{name}" -> v{index}' for index, name in enumerate(names)]
    features = client.extract([COFFEE, CAT], model=MODEL, taps=[*taps, *values], target=LOSS)
    for index, one in enumerate(found):
        norms = np.linalg.norm(features[f"g{index}"].reshape(2, -1).astype(np.float64), axis=1)
        assert one.norm == pytest.approx(norms.mean(), rel=1e-4)
        array = features[f"v{index}"]
        assert one.flat_fraction == pytest.approx(((array == 0) | (array >= 5.94)).mean(), abs=0.02)
    assert found[0].ratio == pytest.approx(found[0].norm / found[1].norm)
    assert found[-1].ratio is None


@pytest.fixture(scope="module")
def examples() -> Iterator[ServerProcess]:
    """Start a server with the example models."""
    with running_server(models=ROOT / "examples" / "models") as process:
        yield process


def test_a_transformer_has_tokens_and_vectors(examples: ServerProcess) -> None:
    digit = ROOT / "examples" / "images" / "digits" / "3_3.png"
    with Client(examples.address) as client:
        found = gradient_health(client, digit, model="digits_vit")
        whole = client.extract(digit, model="digits_vit", taps="grad:all:activations").maps
        assert [one.norm for one in found] == pytest.approx([np.linalg.norm(one.array) for one in whole], rel=1e-4)
        assert all(one.norm > 0 for one in found)
        with pytest.raises(errors.NotDifferentiableError, match="does not depend on gelu_3"):
            gradient_health(client, digit, model="digits_vit", selectors="gelu_3", target="gelu | gap", target_index=0)


def test_the_command_line(server: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["inspect", str(COFFEE), "-m", MODEL, "--server", server.address]
    assert cli.main([*command, "--gradients", "--target", LOSS, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 33
    assert {"layer", "norm", "ratio", "flat_fraction"} == set(rows[0])
    assert cli.main([*command, "--gradients", "--layers", "stem", "head"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["layer", "gradient", "ratio", "flat"]
    assert cli.main([*command, "--target", LOSS]) == 2
    assert "need --gradients" in capsys.readouterr().err
