"""Test models of every kind as bare files: tappable layers are correct, and others have a reason."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import onnxruntime
import pytest

from layertap import Client, errors
from layertap.types import Array
from layertap_server.config.settings import Settings
from layertap_server.embedded import EmbeddedServer
from tests.odd_models import MODELS, Odd

every_model = pytest.mark.parametrize("name", MODELS)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Return a client of a server with all models."""
    folder = tmp_path_factory.mktemp("models")
    for name, odd in MODELS.items():
        odd.write(folder, name)
    settings = Settings(models=str(folder), device="cpu", port=0, metrics_port=-1, log_level="error")
    with EmbeddedServer(settings) as address, Client(address) as client:
        yield client


def whole(odd: Odd, images: Array, wanted: list[str]) -> dict[str, Array]:
    """Return the layers of the original file, each from a separate session, so that no tap changes another."""
    inputs = {"image": images, **odd.inputs}
    found = {name: array for name, array in inputs.items() if name in wanted}
    for name in [name for name in wanted if name not in found]:
        model = odd.make()
        del model.graph.output[:]
        model.graph.output.append(onnx.ValueInfoProto(name=name))
        # Prune the nodes after the layer, because onnxruntime checks unused nodes too.
        last = next(number for number, node in enumerate(model.graph.node) if name in node.output)
        del model.graph.node[last + 1 :]
        for number, node in enumerate(model.graph.node):
            node.name = str(number)  # onnxruntime refuses duplicate names
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        rows = [images[index : index + 1] for index in range(len(images))] if odd.one_by_one else [images]
        values = [session.run([name], {**inputs, "image": row})[0] for row in rows]
        found[name] = np.concatenate([np.moveaxis(value, odd.batch_axes.get(name, 0), 0) for value in values])
    return found


def quoted(name: str) -> str:
    """Return the name quoted for a tap expression."""
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


@every_model
def test_every_tappable_layer_is_right(served: Client, name: str) -> None:
    odd = MODELS[name]
    images = odd.images()
    layers = {layer.name: layer for layer in served.layers(name) if layer.tappable}
    expected = whole(odd, images, list(layers))
    for layer in layers.values():
        features = served.extract(images, model=name, taps=f"{quoted(layer.name)} -> it", inputs=odd.inputs)
        actual = features["it"]
        assert (actual.shape, actual.dtype) == (expected[layer.name].shape, expected[layer.name].dtype)
        sizes = zip(layer.shape[1:], actual.shape[1:], strict=True)
        assert all(size in {-1, got} for size, got in sizes)
        np.testing.assert_allclose(
            actual, expected[layer.name], rtol=1e-3 if odd.dtype == "float16" else 1e-5, atol=1e-6
        )
        assert features.map("it").inexact == (layer.name in odd.inexact)


@every_model
def test_all_of_them_at_once(served: Client, name: str) -> None:
    odd = MODELS[name]
    images = odd.images()
    features = served.extract(images, model=name, taps="all -> {layer}", inputs=odd.inputs)
    expected = whole(odd, images, list(features))
    for layer, actual in features.items():
        np.testing.assert_allclose(actual, expected[layer], rtol=1e-3, atol=0.031 if odd.inexact else 1e-6)


@every_model
def test_what_cannot_be_tapped_says_why(served: Client, name: str) -> None:
    odd = MODELS[name]
    reasons = {layer.name: layer.not_tappable_reason for layer in served.layers(name) if not layer.tappable}
    assert reasons.keys() == odd.not_tappable.keys()
    for layer, words in odd.not_tappable.items():
        assert words in reasons[layer]
        with pytest.raises(errors.NotTappableError, match=words):
            served.extract(odd.images(), model=name, taps=layer, inputs=odd.inputs)


@every_model
def test_pictures_go_through(served: Client, name: str) -> None:
    """Assume the preprocessing, and fit images of any size to the model."""
    odd = MODELS[name]
    picture = np.random.default_rng(0).integers(0, 255, (40, 30, 3), np.uint8)
    (model,) = [model for model in served.models() if model.name == name]
    assert model.preprocessing_assumed
    inputs = {key: value[:1] if len(value) == 2 else value for key, value in odd.inputs.items()}
    assert len(served.extract(picture, model=name, taps="all", inputs=inputs).maps) > 0


def test_a_node_name_that_several_have_is_ambiguous(served: Client) -> None:
    with pytest.raises(errors.AmbiguousLayerError, match="3 nodes are called 'same'"):
        served.extract(MODELS["strange_names"].images(), model="strange_names", taps="same | gap")


def test_inputs_that_are_missing_unknown_or_wrong(served: Client) -> None:
    odd = MODELS["two_inputs"]
    images, given = odd.images(), dict(odd.inputs)
    with pytest.raises(errors.InvalidRequestError, match="also need the model's input condition"):
        served.extract(images, model="two_inputs", taps="scores")
    assert served.extract(images, model="two_inputs", taps="mean")["mean"].shape == (2, 4, 1, 1)
    with pytest.raises(errors.InvalidRequestError, match=r"no input 'conditoin'.*did you mean condition"):
        served.extract(images, model="two_inputs", taps="scores", inputs={"conditoin": given["condition"]})
    wrong = {**given, "condition": np.zeros((2, 5), np.float32)}
    with pytest.raises(
        errors.BadTensorError, match=r"expected float32 \[any, 4\] for the input condition, got float32 \[2, 5\]"
    ):
        served.extract(images, model="two_inputs", taps="scores", inputs=wrong)


def test_one_value_of_an_input_is_for_all_images(served: Client) -> None:
    odd = MODELS["two_inputs"]
    one = {**odd.inputs, "condition": odd.inputs["condition"][0]}
    got, expected = (
        served.extract(odd.images(), model="two_inputs", taps="scores", inputs=inputs)["scores"]
        for inputs in (one, odd.inputs)
    )
    np.testing.assert_array_equal(got, expected)


def test_a_quantized_models_own_answer_is_exact_until_an_inner_tap(served: Client) -> None:
    odd = MODELS["quantized"]
    images = odd.images()
    alone = served.extract(images, model="quantized", taps="scores")
    assert not alone.map("scores").inexact
    np.testing.assert_array_equal(alone["scores"], whole(odd, images, ["scores"])["scores"])
    both = served.extract(images, model="quantized", taps=["scores", "conv1"])
    assert both.map("scores").inexact
    assert np.abs(both["scores"] - alone["scores"]).max() <= 0.03  # one quantization step


def test_external_data_count_as_the_models_own(served: Client) -> None:
    assert served.layers("external_data", "conv")[0].parameters == 4 * 3 * 9


def test_images_of_different_sizes_of_answer_do_not_join(served: Client) -> None:
    images = np.stack([np.zeros((3, 8, 8)), np.ones((3, 8, 8))]).astype(np.float32)
    with pytest.raises(errors.ShapeMismatchError, match="send them one by one"):
        served.extract(images, model="as_many_as_there_are", taps="found")


def test_a_wider_plan_that_needs_more_inputs_is_not_taken(served: Client) -> None:
    odd = MODELS["two_inputs"]
    served.extract(odd.images(), model="two_inputs", taps=["scores", "vector", "conv"], inputs=odd.inputs)
    assert served.extract(odd.images(), model="two_inputs", taps="vector")["vector"].shape == (2, 4)


def test_layers_behind_a_second_input_are_inspected(served: Client) -> None:
    odd = MODELS["two_inputs"]
    (gated,) = served.inspect(odd.images(), model="two_inputs", selectors="gated", inputs=odd.inputs)
    maps = served.extract(odd.images(), model="two_inputs", taps="gated", inputs=odd.inputs)["gated"]
    assert gated.mean == pytest.approx(float(maps.mean()), rel=1e-4)


def test_what_the_runtime_cannot_run_is_the_requests_fault(served: Client) -> None:
    with pytest.raises(errors.InvalidRequestError, match="image_count as an integer from 1 to 2147483647, got -1"):
        served.preview(model="half", taps="act", image_count=-1)
    wrong = {**MODELS["two_inputs"].inputs, "condition": np.array(3, np.float32)}
    with pytest.raises(errors.BadTensorError):
        served.extract(MODELS["two_inputs"].images(), model="two_inputs", taps="scores", inputs=wrong)
