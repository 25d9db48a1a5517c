"""Test models that compute across the batch: no result depends on another caller's image."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser

from layertap import Batching, Client, errors
from layertap.cli import main
from layertap.types import Array
from tests.models import branching, model_folder
from tests.paths import ROOT
from tests.processes import running_server

DATA = ROOT / "tests" / "data"
MIXED = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[batch, 3, 8, 8] image) => (float[batch, 3, 8, 8] out) {
    act = Relu(image)
    mean = ReduceMean <axes = [0], keepdims = 1> (image)
    centred = Sub(image, mean)
    out = Softmax <axis = 0> (centred)
}
"""
PINNED = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[batch, 3, 8, 8] image) => (float[batch, 3, 8, 8] out)
<int64[2] one = {1, 192}, int64[4] back = {-1, 3, 8, 8}, int64[4] ones = {-1, 1, 1, 1}> {
    flat = Reshape(image, one)
    largest = ReduceMax <axes = [1], keepdims = 1> (flat)
    scale = Reshape(largest, ones)
    out = Sub(image, scale)
}
"""
PATIENT = "batching: {max_batch: 8, max_delay_ms: 300}\n"
DYNAMIC = ("dynamic", "emb")
TINY = 1e-37
"""Above the largest denormal number of float32, which the server flushes to zero."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Return a client of a server with models that compute across the batch."""
    models = tmp_path_factory.mktemp("models")
    model_folder(models, "mixed", parser.parse_model(MIXED), PATIENT)
    model_folder(models, "dynamic", onnx.load(DATA / "dynamic_quantization.onnx"), PATIENT)
    model_folder(models, "branching", branching(), PATIENT)
    model_folder(models, "pinned", parser.parse_model(PINNED), PATIENT)
    model_folder(models, "fixed_inside", onnx.load(DATA / "fixed_batch_inside.onnx"))
    with running_server("--response-cache-bytes", "1000000", models=models) as server, Client(server.address) as opened:
        yield opened


def pictures(count: int, seed: int = 0, side: int = 8) -> Array:
    """Return random images of different magnitudes."""
    random = np.random.default_rng(seed)
    return (random.normal(size=(count, 3, side, side)) * 2.0 ** np.arange(count)[:, None, None, None]).astype(
        np.float32
    )


def truth(images: Array, output: str = "out") -> Array:
    """Return an output of the model for images that run together."""
    model = parser.parse_model(MIXED)
    model.graph.output.append(onnx.ValueInfoProto(name="centred"))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run([output], {"image": images})[0])


def test_a_request_of_a_mixing_model_runs_whole_and_alone(client: Client) -> None:
    images = pictures(6)
    features = client.extract(images, model="mixed", taps=["out", "centred | gap -> pooled"])
    np.testing.assert_allclose(features["out"], truth(images), rtol=1e-5, atol=TINY)
    np.testing.assert_allclose(features["pooled"], truth(images, "centred").mean((2, 3)), atol=1e-5)


def test_callers_at_once_get_what_they_get_alone(client: Client) -> None:
    batches = [pictures(1, seed) + seed for seed in range(6)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda images: client.extract(images, model="mixed", taps="out | gap -> v"), batches))
    for images, features in zip(batches, answers, strict=True):
        np.testing.assert_allclose(features["v"], truth(images).mean((2, 3)), rtol=1e-5, atol=TINY)
        assert features.batch_size == 1


def test_more_images_than_the_model_runs_at_once_are_refused_not_split(client: Client) -> None:
    with pytest.raises(errors.TooManyImagesError, match="at most 8 at once") as caught:
        client.extract(pictures(9), model="mixed", taps="out")
    assert caught.value.metadata["limit"] == "8"
    with pytest.raises(errors.TooManyImagesError):
        client.inspect(pictures(9), model="mixed", selectors="out")
    assert len(client.extract(pictures(9), model="mixed", taps="act")["act"]) == 9


def test_layers_before_the_mixing_are_joined_with_other_requests(client: Client) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda seed: client.extract(pictures(2, seed), model="mixed", taps="act"), range(4)))
    for seed, features in enumerate(answers):
        np.testing.assert_allclose(features["act"], np.maximum(pictures(2, seed), 0))
    assert max(features.batch_size for features in answers) > 2


def test_a_wider_plan_that_mixes_does_not_serve_one_that_is_joined(client: Client) -> None:
    images = pictures(3, 7)
    client.extract(images, model="mixed", taps=["act", "out"])
    np.testing.assert_allclose(client.extract(images[:1], model="mixed", taps="act")["act"], np.maximum(images[:1], 0))
    with ThreadPoolExecutor(2) as pool:
        both = pool.map(lambda index: client.extract(images[index], model="mixed", taps=["act", "out"]), range(2))
    for index, features in enumerate(both):
        np.testing.assert_allclose(features["out"], truth(images[index : index + 1]), rtol=1e-5, atol=TINY)


def test_the_listing_says_which_images_run_together(client: Client) -> None:
    listed = {layer.name: layer.batching for layer in client.layers("mixed")}
    assert listed == {
        "image": Batching.JOINED,
        "act": Batching.JOINED,
        "mean": None,
        "centred": Batching.ONE_REQUEST,
        "out": Batching.ONE_REQUEST,
    }
    dynamic = {layer.name: layer.batching for layer in client.layers("dynamic")}
    assert dynamic["x"] is Batching.JOINED
    assert dynamic["emb"] is Batching.ONE_IMAGE
    tappable = [layer for layer in client.layers("branching") if layer.tappable]
    assert {layer.batching for layer in tappable} == {Batching.JOINED}


def test_dynamic_quantization_gives_each_image_its_own_scale(client: Client) -> None:
    model, output = DYNAMIC
    images = pictures(4, side=64)
    session = onnxruntime.InferenceSession(DATA / "dynamic_quantization.onnx", providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    expected = np.concatenate([session.run([output], {name: image[None]})[0] for image in images])
    mixed = session.run([output], {name: images})[0]
    assert not np.allclose(mixed, expected, rtol=1e-3)  # batching changes the results
    together = client.extract(images, model=model, taps=output)[output]
    np.testing.assert_allclose(together, expected, rtol=1e-5)
    with ThreadPoolExecutor(4) as pool:
        taps = f"{output} | l2 -> v"
        beside = pool.map(lambda image: client.extract(image[None], model=model, taps=taps)["v"], images)
    unit = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(np.concatenate(list(beside)), unit, rtol=1e-4, atol=1e-6)
    streamed = [item.features for item in client.extract_many(list(images), model=model, taps=output)]
    np.testing.assert_allclose(np.concatenate([item[output] for item in streamed if item]), expected, rtol=1e-5)


def test_statistics_of_layers_are_those_of_the_images_alone(client: Client) -> None:
    model, output = DYNAMIC
    images = pictures(3, side=64)
    whole = client.inspect(images, model=model, selectors=output)[0]
    alone = [client.inspect(image[None], model=model, selectors=output)[0] for image in images]
    assert whole.max == pytest.approx(max(one.max for one in alone), rel=1e-6)
    assert whole.mean == pytest.approx(np.mean([one.mean for one in alone]), rel=1e-5)


def test_a_block_across_images_does_not_go_on_a_layer_of_one_image_a_run(client: Client) -> None:
    with pytest.raises(errors.InvalidRequestError, match="ApplyBlocks"):
        client.extract(pictures(3, side=64), model="dynamic", taps="emb | z_score(column)")


def test_a_batch_of_one_inside_the_graph_does_not_harm_the_layers_before_it(client: Client) -> None:
    listed = client.layers("fixed_inside")
    size = client.model("fixed_inside").inputs[0].shape
    images = np.random.default_rng(0).normal(size=(4, *[max(side, 1) for side in size[1:]])).astype(np.float32)
    stem = client.extract(images, model="fixed_inside", taps="stem")["stem"]
    alone = [client.extract(image[None], model="fixed_inside", taps="stem")["stem"] for image in images]
    np.testing.assert_allclose(stem, np.concatenate(alone), rtol=1e-5, atol=1e-6)
    out = {layer.name: layer for layer in listed}["out"]
    assert (out.batching, out.batching_reason) == (Batching.ONE_IMAGE, "Reshape grp accepts only one image")
    together = client.extract(images, model="fixed_inside", taps=["out", "grp"])
    for name in ("out", "grp"):
        apart = [client.extract(image[None], model="fixed_inside", taps=name)[name] for image in images]
        np.testing.assert_array_equal(together[name], np.concatenate(apart))
    session = onnxruntime.InferenceSession(DATA / "fixed_batch_inside.onnx", providers=["CPUExecutionProvider"])
    want = np.concatenate([session.run(["out"], {"x": image[None]})[0] for image in images])
    np.testing.assert_allclose(together["out"], want, rtol=1e-5, atol=1e-6)


def test_four_images_through_a_shape_of_one_give_the_results_of_one_each(client: Client) -> None:
    images = pictures(4)
    assert {layer.name: layer.batching for layer in client.layers("pinned")}["out"] is Batching.ONE_IMAGE
    together = client.extract(images, model="pinned", taps="out")["out"]
    np.testing.assert_allclose(together, images - images.reshape(4, -1).max(1)[:, None, None, None], rtol=1e-6)


def test_the_command_line_shows_it_and_the_price(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model_folder(tmp_path, "mixed", parser.parse_model(MIXED))
    local = ["--local", "--models", str(tmp_path)]
    assert main(["layers", "mixed", *local]) == 0
    rows = {line.split()[1]: line for line in capsys.readouterr().out.splitlines() if line[:1].isdigit()}
    assert "one request a run" in rows["out"]
    assert "one request a run" not in rows["act"]
    assert main(["preview", "-m", "mixed", "-t", "out", *local]) == 0
    assert "price: " in capsys.readouterr().out


VALUE_DEPENDENT = {
    "branch": """
    <ir_version: 8, opset_import: ["" : 18]>
    g (float[batch, 3, 8, 8] image) => (float[batch, 3, 8, 8] out) <bool yes = {1}, float ten = {10.0}> {
        out = If (yes) <
            then_branch = a () => (float[batch, 3, 8, 8] x) {
                m = ReduceMax <keepdims = 0> (image)
                d = Sub(m, ten)
                r = Relu(d)
                x = Sub(image, r)
            },
            else_branch = b () => (float[batch, 3, 8, 8] y) { y = Identity(image) }
        >
    }
    """,
    "function": """
    <ir_version: 8, opset_import: ["" : 18, "local" : 1]>
    g (float[batch, 3, 8, 8] image) => (float[batch, 3, 8, 8] out) { out = local.Norm(image) }
    <domain: "local", opset_import: ["" : 18]>
    Norm (x) => (y) {
        ten = Constant <value = float {10.0}> ()
        m = ReduceMax <keepdims = 0> (x)
        d = Sub(m, ten)
        r = Relu(d)
        y = Sub(x, r)
    }
    """,
    "filters": """
    <ir_version: 8, opset_import: ["" : 18]>
    g (float[batch, 3, 8, 8] image) => (float[batch, m, 1, 1] out) <int64[1] places = {1}> {
        k = Conv(image, image)
        out = ReduceMax(k, places)
    }
    """,
}
"""Models that mix images on values that noise does not reach, or through weights computed from the images."""


@pytest.fixture(scope="module")
def value_dependent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    models = tmp_path_factory.mktemp("value_dependent")
    for name, text in VALUE_DEPENDENT.items():
        model_folder(models, name, parser.parse_model(text), PATIENT)
    with running_server(models=models) as server, Client(server.address) as opened:
        yield opened


@pytest.mark.parametrize("name", VALUE_DEPENDENT)
def test_mixing_that_depends_on_values_does_not_reach_another_caller(value_dependent: Client, name: str) -> None:
    batches = [pictures(1, seed) * 20 for seed in range(4)]

    def ask(images: Array) -> Array:
        return value_dependent.extract(images, model=name, taps="out")["out"]

    alone = [ask(images) for images in batches]
    with ThreadPoolExecutor(4) as pool:
        for mine, expected in zip(pool.map(ask, batches), alone, strict=True):
            np.testing.assert_array_equal(mine, expected)
    assert {layer.name: layer.batching for layer in value_dependent.layers(name)}["out"] is Batching.ONE_REQUEST


def test_a_custom_model_that_nothing_tells_of_runs_one_request(tmp_path: Path) -> None:
    """Use an operator of onnxruntime that no rule covers, so that the layer stays undecided."""
    text = """
    <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
    g (float[batch, 3, 4, 4] image) => (float[batch, 3, 4, 4] out, float[batch, 3, 4, 4] other) {
        out = com.microsoft.Inverse(image)
        sizes = Size(image)
        count = Cast<to = 1>(sizes)
        other = Div(image, count)
    }
    """
    model_folder(tmp_path, "custom", parser.parse_model(text))
    with running_server(models=tmp_path) as server, Client(server.address) as opened:
        listed = {layer.name: layer.batching for layer in opened.layers("custom")}
    assert listed["out"] is Batching.ONE_REQUEST
    assert listed["other"] is Batching.ONE_REQUEST
    shutil.rmtree(tmp_path / "custom")
