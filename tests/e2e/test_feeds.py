"""Test feeds through a real server process: networks that go on from values that the caller gives."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import numpy as np
import pytest

from layertap import Client, errors
from layertap.types import Array
from tests.paths import MODEL, PHOTOS, ROOT
from tests.processes import running_server

COFFEE, CAT = PHOTOS / "coffee.png", PHOTOS / "chelsea.png"
CASES = ROOT / "tests" / "data" / "cases"
NAMES = ("any_size_residual", "clip", "sequence_first_torchscript", "swin", "two_inputs", "wave")


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    models = tmp_path_factory.mktemp("models")
    for name in NAMES:
        (models / name).mkdir()
        shutil.copy(CASES / f"{name}.onnx", models / name / "model.onnx")
    with running_server(models=models) as server, Client(server.address) as connected:
        yield connected


def test_a_network_goes_on_from_any_stage(client: Client) -> None:
    taps = [f"stage:{number}" for number in range(1, 6)]
    plain = client.extract(COFFEE, model=MODEL, taps=[*taps, "logits"])
    for tap in taps:
        fed = {tap: plain[tap]}
        for images in ([COFFEE], [CAT], None):
            got = client.extract(images, model=MODEL, taps="logits", inputs=fed)
            np.testing.assert_array_equal(got["logits"], plain["logits"], err_msg=tap)


def test_every_call_takes_feeds(client: Client) -> None:
    maps = client.extract([COFFEE, CAT], model=MODEL, taps=["stage:3", "grad:stage:4", "logits"])
    fed = {"stage:3": maps["stage:3"]}
    gradients = client.extract(None, model=MODEL, taps="grad:stage:4", inputs=fed)["grad:stage:4"]
    np.testing.assert_allclose(gradients, maps["grad:stage:4"], atol=1e-5 * np.abs(gradients).max())
    items = [item.features for item in client.extract_many(None, model=MODEL, taps="logits", inputs=fed)]
    got = np.concatenate([features["logits"] for features in items if features is not None])
    np.testing.assert_allclose(got, maps["logits"], atol=1e-4)
    (statistics,) = client.inspect(COFFEE, model=MODEL, selectors="stage:4", inputs={"stage:3": fed["stage:3"][:1] * 0})
    (plain,) = client.inspect(COFFEE, model=MODEL, selectors="stage:4")
    assert statistics.l2_norm != plain.l2_norm
    whole, cut = (client.preview(model=MODEL, taps="logits", feeds=feeds) for feeds in ((), "stage:3"))
    assert cut.macs_per_image < whole.macs_per_image
    mine, other = (
        client.attribute(COFFEE, model=MODEL, target_index=967, inputs=inputs).maps
        for inputs in ({}, {"stage:3": fed["stage:3"][1:]})
    )
    assert np.abs(mine - other).max() > 0


def test_errors_are_typed(client: Client) -> None:
    with pytest.raises(errors.BadFeedError, match="and its feed has") as bad:
        client.extract(COFFEE, model=MODEL, taps="logits", inputs={"stage:2": np.zeros((1, 3, 4, 4), np.float32)})
    assert (bad.value.reason, bad.value.metadata["field"]) == ("BAD_FEED", "inputs")
    with pytest.raises(errors.InvalidRequestError, match=r"no input 'stagee:2' \(did you mean stage:2"):
        client.extract(COFFEE, model=MODEL, taps="logits", inputs={"stagee:2": np.zeros(3)})


def _inputs(client: Client, model: str) -> dict[str, Array]:
    """Return random values for the inputs of a model."""
    random = np.random.default_rng(4)
    given: dict[str, Array] = {}
    for info in client.model(model).inputs:
        shape = [(32 if axis else 2) if size < 0 else size for axis, size in enumerate(info.shape)]
        is_float = np.dtype(info.dtype).kind == "f"
        values = random.normal(size=shape) if is_float else random.integers(0, 3, shape)
        given[info.name] = values.astype(info.dtype)
    return given


@pytest.mark.parametrize("model", NAMES)
def test_each_layer_can_be_fed_its_own_values(model: str, cases: Client) -> None:
    inputs = _inputs(cases, model)
    layers = [layer.name for layer in cases.layers(model) if layer.tappable and layer.name not in inputs]
    plain = cases.extract(
        None, model=model, taps=[f'"{name}" -> {index}' for index, name in enumerate(layers)], inputs=inputs
    )
    outputs = [info.name for info in cases.model(model).outputs if info.name in layers]
    ran = 0
    for index, name in enumerate(layers):
        try:
            got = cases.extract(None, model=model, taps=outputs, inputs={**inputs, name: plain[str(index)]})
        except errors.BadFeedError as error:
            assert "no tap reads" in error.message
            continue
        ran += 1
        for output in outputs:
            np.testing.assert_allclose(got[output], plain[str(layers.index(output))], atol=1e-5, err_msg=name)
    assert ran > len(layers) // 2
