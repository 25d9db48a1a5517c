"""Test gradients through the engine: indices and labels of targets, batches, the cache, and what is reported."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from layertap.errors import BadTargetError, InvalidRequestError, LayertapError, UnknownLabelError
from layertap.types import Array, ExtractRequest, ExtractResponse, PixelImage, PreviewRequest, Target, TargetValue
from layertap_server.inference.engine import Engine
from layertap_server.models.loader import LoadedModel, load_model
from layertap_server.planning.plan_store import PlanStore
from layertap_server.planning.response_cache import ResponseCache
from layertap_server.request.context import RequestContext
from layertap_server.request.limits import Limits
from tests.models import branching
from tests.server.graph.gradient.networks import layer_gradient

DEFAULT = Target()
LABELS = ("tench", "crane", "crane", "3")
PIXELS = np.random.default_rng(5).normal(size=(5, 3, 8, 8)).astype(np.float32)
MIXING = """
<ir_version: 8, opset_import: ["" : 17]>
mixing (float[n, 4] x) => (float[n, 4] y) { mean = ReduceMean <axes = [0]> (x) y = Sub(x, mean) }
"""


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """Return the branching model with labels, of which two are equal."""
    home = tmp_path_factory.mktemp("models") / "labelled"
    home.mkdir()
    onnx.save(branching(), home / "model.onnx")
    (home / "labels.txt").write_text("\n".join(LABELS))
    (home / "model.yaml").write_text("labels: labels.txt\nbatching: {max_batch: 4}\n")
    return load_model(home, "CPU")


def ask(
    engine: Engine, model: LoadedModel, *taps: str, images: Array = PIXELS, target: Target = DEFAULT
) -> ExtractResponse:
    """Return the features of images given as arrays of the model's own input."""
    request = ExtractRequest("labelled", (PixelImage(images),), taps, target=target)
    return engine.extract(model, request, RequestContext())


def test_each_image_has_the_gradient_of_its_own_target_also_over_several_runs(
    engine: Engine, labelled: LoadedModel
) -> None:
    indices = (3, 0, 1, 2, 0)
    response = ask(engine, labelled, "grad:joined", target=Target("scores", indices))
    for number, index in enumerate(indices):
        image = {"image": PIXELS[number : number + 1]}
        exact = layer_gradient(branching(), image, "joined", "scores", index)
        np.testing.assert_allclose(response.maps[0].array[number : number + 1], exact, atol=1e-5)
    assert [value.index for value in response.targets] == list(indices)
    assert [value.label for value in response.targets] == [LABELS[index] for index in indices]


def test_the_answer_says_which_target_was_taken(engine: Engine, labelled: LoadedModel) -> None:
    response = ask(engine, labelled, "grad:stage:1 | gap", "scores")
    scores = response.maps[1].array
    assert response.target == "scores"
    assert [value.index for value in response.targets] == scores.argmax(1).tolist()
    np.testing.assert_allclose([value.value for value in response.targets], scores.max(1), rtol=1e-6)
    number = ask(engine, labelled, "grad:down", target=Target("vector | select([1])"))
    assert number.targets[0] == TargetValue(number.targets[0].value, index=None, label="")
    assert ask(engine, labelled, "scores").targets == ()


@pytest.mark.parametrize(("index", "expected"), [("tench", 0), ("label:3", 3), ("3", 3), (2, 2)])
def test_an_index_may_be_a_label(index: int | str, expected: int, engine: Engine, labelled: LoadedModel) -> None:
    response = ask(engine, labelled, "grad:down", target=Target("", (index,)))
    assert {value.index for value in response.targets} == {expected}


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (Target("", ("tensh",)), UnknownLabelError, "no label 'tensh' .did you mean tench"),
        (Target("", ("crane",)), UnknownLabelError, "belongs to the indices 1, 2"),
        (Target("vector", ("tench",)), UnknownLabelError, "4 labels and the target vector has 6 values"),
        (Target("", ("x" * 2000,)), UnknownLabelError, "at most 1024 characters, got 2000"),
        (Target("", (4,)), BadTargetError, "from 0 to 3, a label or 'top', got 4"),
        (Target("", (-1,)), BadTargetError, "got -1"),
        (Target("", (1, 2)), BadTargetError, "one for each of 5 images, got 2"),
        (Target("scores | select([1])", (0,)), BadTargetError, "takes no index"),
    ],
)
def test_a_wrong_index_is_refused(
    target: Target, error: type[LayertapError], message: str, engine: Engine, labelled: LoadedModel
) -> None:
    with pytest.raises(error, match=message) as caught:
        ask(engine, labelled, "grad:down", target=target)
    assert caught.value.metadata["field"] == "target.index"


def test_an_index_without_a_gradient_or_a_label_without_labels_is_refused(engine: Engine, model: LoadedModel) -> None:
    with pytest.raises(BadTargetError, match="no tap has a gradient"):
        ask(engine, model, "down", target=Target("", (1,)))
    with pytest.raises(UnknownLabelError, match="the model has no labels"):
        ask(engine, model, "grad:down", target=Target("", ("tench",)))


def test_another_index_is_no_new_plan_and_no_cached_answer(
    engine: Engine, store: PlanStore, labelled: LoadedModel
) -> None:
    first = ask(engine, labelled, "grad:down", target=Target("", (0,)))
    assert len(store) == 1
    other = ask(engine, labelled, "grad:down", target=Target("", (1,)))
    assert len(store) == 1
    assert not np.array_equal(first.maps[0].array, other.maps[0].array)
    again = ask(engine, labelled, "grad:down", target=Target("", (0,)))
    assert again.batch_size == 0, "the response is cached"
    np.testing.assert_array_equal(again.maps[0].array, first.maps[0].array)
    assert again.targets == first.targets


def test_arrays_without_images_are_cached_by_their_values(engine: Engine, tmp_path: Path) -> None:
    home = tmp_path / "table"
    home.mkdir()
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[n, 3] x) => (float[n, 3] y) { y = Mul(x, x) }'
    onnx.save(parser.parse_model(text), home / "model.onnx")
    table = load_model(home, "CPU")
    for value in (1.0, 2.0):
        for _ in range(2):
            request = ExtractRequest("t", (), ("y", "grad:x"), inputs={"x": np.full((1, 3), value, np.float32)})
            result, gradient = engine.extract(table, request, RequestContext()).maps
            assert result.array.max() == value**2
            assert gradient.array.max() == 2 * value


def test_requests_with_different_indices_share_a_run(engine: Engine, labelled: LoadedModel) -> None:
    engine = dataclasses.replace(engine, responses=ResponseCache(0))
    slow = dataclasses.replace(labelled, max_delay_seconds=0.5)
    alone = [
        ask(engine, labelled, "grad:down", images=PIXELS[number : number + 1], target=Target("", (number,)))
        for number in range(4)
    ]
    with ThreadPoolExecutor(4) as pool:
        jobs = [
            pool.submit(
                ask, engine, slow, "grad:down", images=PIXELS[number : number + 1], target=Target("", (number,))
            )
            for number in range(4)
        ]
        together = [job.result() for job in jobs]
    assert max(response.batch_size for response in together) > 1
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(other.maps[0].array, one.maps[0].array, atol=1e-6)
        assert [value.index for value in other.targets] == [value.index for value in one.targets]


def test_model_yaml_names_the_target(engine: Engine, tmp_path: Path) -> None:
    home = tmp_path / "named"
    home.mkdir()
    onnx.save(branching(), home / "model.onnx")
    (home / "model.yaml").write_text("target: vector | select([2])\n")
    response = ask(engine, load_model(home, "CPU"), "grad:down")
    assert (response.target, response.targets[0].index) == ("vector | select([2])", None)
    (home / "model.yaml").write_text("target: stage:1\n")
    with pytest.raises(BadTargetError, match="one number per image, or a vector"):
        load_model(home, "CPU")


def softmax(x: Array) -> Array:
    """Return the softmax of each row."""
    shares = np.exp(x - x.max(1, keepdims=True))
    return np.asarray(shares / shares.sum(1, keepdims=True))


@pytest.mark.parametrize(
    ("head", "derive"),
    [
        ("cross_entropy(2)", lambda x: softmax(x) - np.eye(4)[2]),
        ("binary_cross_entropy([0, 1, 0, 1])", lambda x: 1 / (1 + np.exp(-x)) - np.array([0, 1, 0, 1])),
        ("squared_error(0.5)", lambda x: x - 0.5),
    ],
)
def test_losses_are_targets(head: str, derive: Callable[[Array], Array], engine: Engine, labelled: LoadedModel) -> None:
    response = ask(
        engine, labelled, "grad:scores", "scores", f"scores | {head} -> loss", target=Target(f"scores | {head}")
    )
    gradient, scores, loss = (feature.array.astype(np.float64) for feature in response.maps)
    expected = derive(scores)
    np.testing.assert_allclose(gradient, expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose([value.value for value in response.targets], loss.reshape(-1), rtol=1e-5)


def test_a_gradient_is_refused_where_images_mix(engine: Engine, tmp_path: Path) -> None:
    home = tmp_path / "mixing"
    home.mkdir()
    onnx.save(parser.parse_model(MIXING), home / "model.onnx")
    mixing = load_model(home, "CPU")

    def gradient(rows: int) -> ExtractResponse:
        inputs = {"x": np.arange(4 * rows, dtype=np.float32).reshape(rows, 4)}
        return engine.extract(mixing, ExtractRequest("m", (), ("grad:x",), inputs=inputs), RequestContext())

    assert gradient(1).maps[0].array.tolist() == [[0, 0, 0, 0]]
    with pytest.raises(InvalidRequestError, match="one image at a time"):
        gradient(2)


def test_a_backward_pass_over_the_limit_is_refused(engine: Engine, labelled: LoadedModel) -> None:
    cost = engine.preview(labelled, PreviewRequest(model="labelled", taps=("grad:image",)), RequestContext()).operations
    forward = engine.preview(labelled, PreviewRequest(model="labelled", taps=("scores",)), RequestContext()).operations
    assert cost > 2 * forward
    limited = dataclasses.replace(engine, limits=Limits(operations=forward))
    with pytest.raises(LayertapError, match="operations"):
        ask(limited, labelled, "grad:image", images=PIXELS[:1])


def test_a_network_with_weights_of_one_dimension_is_differentiated(engine: Engine, tmp_path: Path) -> None:
    home = tmp_path / "scaled"
    home.mkdir()
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> scaled (float[n, 4] x) => (float[n, 4] y) { y = Mul(x, w) }'
    )
    model.graph.initializer.append(numpy_helper.from_array(np.arange(4, dtype=np.float32), "w"))
    onnx.save(model, home / "model.onnx")
    inputs = {"x": np.ones((2, 4), np.float32)}
    request = ExtractRequest("s", (), ("grad:x",), inputs=inputs, target=Target("", (2, 3)))
    response = engine.extract(load_model(home, "CPU"), request, RequestContext())
    assert response.maps[0].array.tolist() == [[0, 0, 2, 0], [0, 0, 0, 3]]
