"""End-to-end tests of models of volumes, series, tokens and tables, and of requests without images."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from layertap import AsyncClient, Client, ExtractedItem, Features, errors
from layertap.sklearn import LayertapTransformer
from layertap.types import Array, Layout
from tests.paths import ROOT
from tests.processes import ServerProcess, running_server

CASES = ROOT / "tests" / "data" / "cases"
RANDOM = np.random.default_rng(0)
IDS = RANDOM.integers(0, 10, (3, 7))
INPUTS: dict[str, tuple[str, Array]] = {
    "ct": ("x", RANDOM.normal(size=(2, 1, 8, 10, 12)).astype(np.float32)),
    "wave": ("x", RANDOM.normal(size=(3, 400)).astype(np.float32)),
    "spec": ("x", RANDOM.normal(size=(2, 80, 50)).astype(np.float32)),
    "tabular": ("x", RANDOM.normal(size=(4, 20)).astype(np.float32)),
    "bert": ("input_ids", IDS),
}
"""Name and value of the input of each model."""
LAYOUTS = {"ct": Layout.NCDHW, "wave": Layout.NCT, "spec": Layout.NCT, "tabular": Layout.VECTOR, "bert": Layout.TOKENS}
every_model = pytest.mark.parametrize("model", INPUTS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    models = tmp_path_factory.mktemp("models")
    for name in (*INPUTS, "clip", "two_inputs"):
        (models / name).mkdir()
        shutil.copy(CASES / f"{name}.onnx", models / name / "model.onnx")
    with running_server(models=models) as process:
        yield process


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.address) as connected:
        yield connected


def truth(model: str, inputs: dict[str, Array], layer: str) -> Array:
    """Return a layer as onnxruntime computes it in the whole model."""
    proto = onnx.load(CASES / f"{model}.onnx")
    if layer not in {value.name for value in proto.graph.output}:
        proto.graph.output.append(onnx.ValueInfoProto(name=layer))
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    known = {value.name for value in session.get_inputs()}
    return np.asarray(session.run([layer], {name: array for name, array in inputs.items() if name in known})[0])


@every_model
def test_layers_of_arrays(client: Client, model: str) -> None:
    name, array = INPUTS[model]
    features = client.extract(model=model, taps=["r1"], inputs={name: array})
    np.testing.assert_allclose(features["r1"], truth(model, {name: array}, "r1"), rtol=1e-5, atol=1e-6)
    assert features.map("r1").layout is LAYOUTS[model]


@pytest.mark.parametrize("model", ["ct", "wave", "spec", "bert"])
def test_global_pools_take_all_positions(client: Client, model: str) -> None:
    name, array = INPUTS[model]
    want = truth(model, {name: array}, "r1").astype(np.float64)
    axes = (1,) if model == "bert" else tuple(range(2, want.ndim))
    pooled = client.extract(model=model, taps=["r1 | gap -> mean", "r1 | gmp -> max"], inputs={name: array})
    np.testing.assert_allclose(pooled["mean"], want.mean(axes), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pooled["max"], want.max(axes), rtol=1e-5, atol=1e-6)


@every_model
def test_they_are_listed(client: Client, model: str) -> None:
    layers = {layer.name: layer for layer in client.layers(model)}
    assert layers["r1"].layout is LAYOUTS[model]
    assert (layers["r1"].tappable, layers["r1"].batching_reason) == (True, "")
    assert client.model(model).preprocessing == ""
    assert not client.model(model).preprocessing_assumed


@every_model
def test_rows_in_bulk(client: Client, model: str) -> None:
    name, array = INPUTS[model]
    want = truth(model, {name: array}, "r1")
    items = list(client.extract_many(model=model, taps=["r1"], inputs={name: array}))
    assert [item.id for item in items] == [str(number) for number in range(len(array))]
    for row, item in enumerate(items):
        assert item.features is not None
        np.testing.assert_allclose(item.features["r1"][0], want[row], rtol=1e-5, atol=1e-6)


def test_statistics_and_previews(client: Client) -> None:
    name, array = INPUTS["wave"]
    (statistics,) = client.inspect(model="wave", selectors="r1", inputs={name: array})
    assert statistics.mean == pytest.approx(truth("wave", {name: array}, "r1").mean(), rel=1e-5)
    assert client.preview(model="wave", taps=["r1 | gap"]).features[0].shape == (1, 8)


def test_a_tap_that_needs_no_image_runs_without(client: Client) -> None:
    features = client.extract(model="clip", taps=["text_embeds"], inputs={"input_ids": IDS})
    want = truth("clip", {"input_ids": IDS, "pixel_values": np.zeros((3, 3, 32, 32), np.float32)}, "text_embeds")
    np.testing.assert_allclose(features["text_embeds"], want, rtol=1e-5, atol=1e-6)


def test_the_image_input_may_be_an_array_in_inputs(client: Client) -> None:
    pixels = RANDOM.normal(size=(3, 3, 32, 32)).astype(np.float32)
    both: dict[str, Array] = {"pixel_values": pixels, "input_ids": IDS}
    want = truth("clip", both, "both")
    np.testing.assert_allclose(client.extract(model="clip", taps=["both"], inputs=both)["both"], want, rtol=1e-5)
    again = client.extract(pixels, model="clip", taps=["both"], inputs={"input_ids": IDS})["both"]
    np.testing.assert_allclose(again, want, rtol=1e-5)


def test_picture_and_mask_in_bulk(client: Client) -> None:
    want = np.load(CASES / "two_inputs.npz")
    inputs = {"pixel_mask": want["mask"]}
    together = client.extract(want["x"], model="two_inputs", taps=["logits"], inputs=inputs)["logits"]
    np.testing.assert_allclose(together, want["logits"], atol=1e-4)
    for row, item in enumerate(client.extract_many(want["x"], model="two_inputs", taps=["logits"], inputs=inputs)):
        assert item.features is not None
        np.testing.assert_allclose(item.features["logits"][0], want["logits"][row], atol=1e-4)


def test_the_asyncio_client(server: ServerProcess) -> None:
    name, array = INPUTS["spec"]

    async def extract() -> tuple[Features, list[ExtractedItem]]:
        async with AsyncClient(server.address) as client:
            features = await client.extract(model="spec", taps=["r1 | gap -> v"], inputs={name: array})
            items = client.extract_many(model="spec", taps=["r1 | gap -> v"], inputs={name: array})
            return features, [item async for item in items]

    features, rows = asyncio.run(extract())
    for row, item in enumerate(rows):
        assert item.features is not None
        np.testing.assert_allclose(item.features["v"][0], features["v"][row], rtol=1e-6)


PICTURES = np.zeros((2, 40, 40, 3), np.uint8)


@pytest.mark.parametrize(
    ("model", "images", "inputs", "kind", "message"),
    [
        ("ct", None, {}, errors.NoImagesError, r"x: float32 \[any, 1, any, any, any\]"),
        ("ct", PICTURES, {}, errors.BadTensorError, "the model takes no images; send arrays in inputs: x"),
        ("ct", None, {"x": np.zeros((3, 400), np.float32)}, errors.BadTensorError, r"got float32 \[3, 400\]"),
        (
            "bert",
            None,
            {"input_ids": np.zeros((3, 4), np.float32)},
            errors.BadTensorError,
            r"expected int64 \[any, any\]",
        ),
        ("bert", None, {"ids": IDS}, errors.InvalidRequestError, r"no input 'ids' \(did you mean input_ids\?\)"),
        ("clip", None, {"input_ids": IDS}, errors.InvalidRequestError, "pixel_values .*; send images"),
        ("clip", PICTURES, {}, errors.InvalidRequestError, "input_ids .*; give it in inputs"),
        ("clip", PICTURES, {"input_ids": IDS}, errors.BadTensorError, "the request has 2 images"),
        ("ct", None, {"x": np.zeros((0, 1, 4, 4, 4), np.float32)}, errors.BadTensorError, "expected float32"),
        ("wave", None, {"x": np.zeros((2, 3), np.float32)}, errors.ShapeMismatchError, "do not go through the model"),
        ("wave", None, {"x": np.zeros((500, 40), np.float32)}, errors.TooManyImagesError, "limit is"),
    ],
)
def test_refusals(
    client: Client, model: str, images: Array | None, inputs: dict[str, Array], kind: type[Exception], message: str
) -> None:
    tap = "both" if model == "clip" else "r1"
    with pytest.raises(kind, match=message):
        client.extract(images, model=model, taps=[tap], inputs=inputs)
    assert client.extract(model="tabular", taps=["r1"], inputs={"x": INPUTS["tabular"][1]})["r1"].shape == (4, 8)


def test_a_head_takes_the_layers_that_it_fits(client: Client) -> None:
    got = client.extract(model="wave", taps=["all | gap"], inputs={"x": INPUTS["wave"][1]})
    assert {name: got[name].shape for name in got} == {"u": (3, 1), "c1": (3, 8), "r1": (3, 8)}
    assert [one.layer for one in got.skipped] == ["x"]
    message = (
        "the tap fits none of the 3 layers that its selector names: x: gap needs .*; m: gap needs .*; r1: gap needs"
    )
    with pytest.raises(errors.ShapeMismatchError, match=message):
        client.extract(model="tabular", taps=["all | gap"], inputs={"x": INPUTS["tabular"][1]})


def test_rows_that_do_not_match_are_refused_before_anything_is_sent(client: Client) -> None:
    with pytest.raises(errors.BadTensorError, match="inputs have 3 rows and there are 2 images"):
        list(client.extract_many(PICTURES, model="clip", taps=["both"], inputs={"input_ids": IDS}))
    with pytest.raises(errors.BadTensorError, match="the same number of rows"):
        list(client.extract_many(model="clip", taps=["both"], inputs={"input_ids": IDS, "pixel_values": PICTURES}))
    with pytest.raises(errors.BadTensorError, match="expected images, or inputs"):
        list(client.extract_many(model="clip", taps=["both"]))


def run(server: ServerProcess, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run ``layertap extract``."""
    command = [sys.executable, "-m", "layertap.cli", "extract", *map(str, arguments), "--server", server.address]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_line(server: ServerProcess, tmp_path: Path) -> None:
    many = np.random.default_rng(1).normal(size=(150, 20)).astype(np.float32)
    np.save(tmp_path / "rows.npy", many)
    out = tmp_path / "features.npy"
    done = run(server, "-m", "tabular", "-t", "r1", "--input", f"x={tmp_path / 'rows.npy'}", "-o", out, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["shape"] == "150×8"
    np.testing.assert_allclose(np.load(out), truth("tabular", {"x": many}, "r1"), rtol=1e-5, atol=1e-6)


def test_pictures_with_arrays_on_the_command_line(server: ServerProcess, tmp_path: Path) -> None:
    np.save(tmp_path / "ids.npy", IDS[:1])
    photo = ROOT / "examples" / "images" / "chelsea.jpg"
    done = run(server, photo, "-m", "clip", "-t", "both", "--input", f"input_ids={tmp_path / 'ids.npy'}")
    assert done.returncode == 0, done.stderr
    assert "1×16" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected an IMAGE or a FOLDER, or --input NAME=FILE"),
        (["--input", "x"], "expected NAME=FILE"),
        (["--input", "x=/nowhere.npy"], "No such file"),
        ([".", "--input", "x={rows}"], "--input needs image files by name"),
    ],
)
def test_wrong_arguments(server: ServerProcess, tmp_path: Path, arguments: list[str], message: str) -> None:
    np.save(tmp_path / "rows.npy", INPUTS["tabular"][1])
    given = [argument.format(rows=tmp_path / "rows.npy") for argument in arguments]
    done = run(server, *given, "-m", "tabular", "-t", "r1")
    assert done.returncode == 2
    assert message in done.stderr


def test_scikit_learn_takes_series_and_tables(server: ServerProcess) -> None:
    for model, tap in (("tabular", "r1"), ("wave", "r1 | gap")):
        name, array = INPUTS[model]
        transformer = LayertapTransformer(tap, model, server.address, input=name)
        got = transformer.fit_transform(array)
        want = truth(model, {name: array}, "r1")
        np.testing.assert_allclose(got, want if want.ndim == 2 else want.mean(2), rtol=1e-4, atol=1e-5)


def test_a_pytorch_dataset_of_series(server: ServerProcess) -> None:
    pytest.importorskip("torch", reason="PyTorch is in the extra 'reference'")
    from layertap.feature_dataset import FeatureDataset  # noqa: PLC0415 - needs PyTorch

    name, array = INPUTS["wave"]
    dataset = FeatureDataset(model="wave", taps=["r1 | gap -> v"], inputs={name: array}, address=server.address)
    names, vectors = zip(*dataset, strict=True)
    assert names == ("0", "1", "2")
    want = truth("wave", {name: array}, "r1").mean(2)
    np.testing.assert_allclose(np.stack([vector["v"].numpy() for vector in vectors]), want, rtol=1e-4, atol=1e-5)
