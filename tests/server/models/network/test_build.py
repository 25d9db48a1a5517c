"""Tests of networks configured in ``model.yaml``: results, names, costs and errors."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from safetensors.numpy import save_file

from layertap.errors import LayertapError
from layertap.types import Array, ModelState
from layertap_server.config.yaml_document import ManifestError
from layertap_server.graph import GraphError
from layertap_server.models.loader import LoadedModel, load_model
from tests import references
from tests.models import built_model, open_repository, tapped
from tests.paths import ROOT

IMAGES = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)


def folder_of(tmp_path: Path, source: str, weights: dict[str, Array] | None = None, name: str = "net") -> Path:
    """Write the folder of a configured model."""
    folder = tmp_path / name
    folder.mkdir(parents=True)
    lines = "".join(f"  {line}\n" for line in source.strip("\n").splitlines())
    size = "input: {resize: {size: [8, 8]}}\n"
    (folder / "model.yaml").write_text(f"{size}source:\n{lines}")
    if weights is not None:
        save_file(
            {key: np.asarray(value, np.float32) for key, value in weights.items()}, folder / "weights.safetensors"
        )
    return folder


def loaded(tmp_path: Path, source: str, weights: dict[str, Array] | None = None) -> LoadedModel:
    """Write and load a configured model."""
    return load_model(folder_of(tmp_path, source, weights), "CPU")


def run(model: LoadedModel, *layers: str, images: Array = IMAGES) -> list[Array]:
    """Run layers of a model on images."""
    return tapped(model, images, *layers)


def assert_close(actual: Array, expected: Array) -> None:
    """Assert that arrays agree within 1e-5 of the largest value."""
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * float(np.abs(expected).max()))


RANDOM = np.random.default_rng(1)
WEIGHTS = {
    "stem.conv.weight": RANDOM.normal(size=(4, 3, 3, 3)),
    "stem.norm.mean": RANDOM.normal(size=4),
    "stem.norm.variance": RANDOM.uniform(0.5, 2, size=4),
    "stem.norm.scale": RANDOM.normal(size=4),
    "stem.norm.bias": RANDOM.normal(size=4),
    "scores.weight": RANDOM.normal(size=(5, 4)),
    "scores.bias": RANDOM.normal(size=5),
}
SMALL = """
defaults: {activation: relu6, norm: batch_norm(eps=1e-3), pool: max_pool(2), padding: same, bias: false}
layers:
  - stem: conv(4, 3, stride=2) | $norm | $activation
  - down: $pool
  - vector: gap
  - scores: linear(5, bias=true)
weights: weights.safetensors
"""


def test_a_network_is_its_blocks_with_the_weights_of_its_layers(tmp_path: Path) -> None:
    model = loaded(tmp_path, SMALL, WEIGHTS)
    stem, down, vector, scores = run(model, "stem", "down", "vector", "scores")
    w = {key: np.asarray(value, np.float32).astype(np.float64) for key, value in WEIGHTS.items()}
    expected = references.conv(IMAGES.astype(np.float64), w["stem.conv.weight"], stride=(2, 2), padding="same")
    mean, variance, scale, bias = (w[f"stem.norm.{part}"] for part in ("mean", "variance", "scale", "bias"))
    expected = np.clip(references.batch_norm(expected, mean, variance, scale, bias, 1e-3), 0, 6)
    assert_close(stem, expected)
    assert_close(down, references.max_pool(expected, kernel=(2, 2), padding="same"))
    assert_close(scores, vector.astype(np.float64) @ w["scores.weight"].T + w["scores.bias"])


def test_layers_are_called_as_in_the_file(tmp_path: Path) -> None:
    layers = {layer.name: layer for layer in loaded(tmp_path, SMALL, WEIGHTS).planner.layers("")}
    assert list(layers) == ["input", "stem.conv", "stem.norm", "stem", "down", "vector", "scores"]
    stem = layers["stem"]
    assert (stem.node, stem.op_type, stem.module_path, stem.shape) == (
        "stem.activation",
        "Clip",
        "stem.activation",
        (-1, 4, 4, 4),
    )
    assert layers["stem.conv"].macs == 9 * 3 * 4 * 4 * 4
    assert layers["stem.conv"].parameters == 9 * 3 * 4
    assert layers["scores"].macs == 20


@pytest.mark.parametrize(
    ("old", "new", "layer", "reference"),
    [
        ("activation: relu6", "activation: leaky_relu(0.2)", "stem", lambda x: references.leaky(x, 0.2)),
        ("activation: relu6", "activation: swish", "stem", lambda x: x * references.sigmoid(x)),
        ("activation: relu6", "activation: lrn(3) | relu", "stem", lambda x: references.relu(references.lrn(x, 3))),
    ],
)
def test_another_activation_is_one_changed_word(
    tmp_path: Path, old: str, new: str, layer: str, reference: references.Reference
) -> None:
    model = loaded(tmp_path, SMALL.replace(old, new), WEIGHTS)
    norm, result = run(model, "stem.norm", layer)
    assert_close(result, reference(norm.astype(np.float64)))


def test_another_normalization_has_its_own_statistics_and_the_stored_scale(tmp_path: Path) -> None:
    model = loaded(tmp_path, SMALL.replace("batch_norm(eps=1e-3)", "instance_norm"), WEIGHTS)
    conv, norm = run(model, "stem.conv", "stem.norm")
    scale, bias = (np.asarray(WEIGHTS[f"stem.norm.{part}"]) for part in ("scale", "bias"))
    assert_close(norm, references.standardized(conv.astype(np.float64), (2, 3), 1e-5, scale, bias))


def test_another_pooling(tmp_path: Path) -> None:
    model = loaded(tmp_path, SMALL.replace("max_pool(2)", '"average_pool(3, stride=2)"'), WEIGHTS)
    stem, down = run(model, "stem", "down")
    expected = references.average_pool(stem.astype(np.float64), kernel=(3, 3), stride=(2, 2), padding="same")
    assert_close(down, expected)


def test_float16(tmp_path: Path) -> None:
    exact = run(loaded(tmp_path / "32", SMALL, WEIGHTS), "scores")[0]
    model = loaded(tmp_path / "16", SMALL + "precision: float16\n", WEIGHTS)
    (half,) = run(model, "scores", images=IMAGES.astype(np.float16))
    assert half.dtype == np.float16
    assert np.abs(half - exact).max() < 1e-2 * np.abs(exact).max()


COMPOSED = """
defaults: {activation: relu, norm: instance_norm, padding: same, weight: he}
layers:
  - stem: conv(6, 3)
  - wide: inverted_residual(8, kernel=3, expand=2, stride=2, repeat=2)
  - body:
      residual:
        layers:
          - first: conv(8, 3) | $activation
          - second: conv(8, 3)
        shortcut: {side: "conv(8, 1)"}
  - split:
      parallel:
        join: concat
        branches:
          - left: conv(2, 1)
          - separable_conv(3, kernel=3)
          - - conv(4, 3) | relu
            - max_pool(3, stride=1)
  - tail: {from: split, head: "conv(8, 1) | tanh"}
  - both: {from: [tail, body], join: add}
  - twice: {from: [both, body], join: concat, head: gap}
outputs: [twice]
"""


def test_composites_and_branches(tmp_path: Path) -> None:
    model = loaded(tmp_path, COMPOSED)
    names = [layer.name for layer in model.planner.layers("")]
    assert "wide.0.depthwise_norm" in names
    assert "wide" in names  # the result of the last repetition has the layer's name
    stem, wide, first, second, side, body = run(
        model, "stem", "wide", "body.first", "body.second", "body.shortcut.side", "body"
    )
    assert_close(body, second.astype(np.float64) + side)
    assert stem.shape == (2, 6, 8, 8)
    assert wide.shape == first.shape == (2, 8, 4, 4)
    left, separable, third, split = run(model, "split.left", "split.separable_conv", "split.sequential", "split")
    assert_close(split, np.concatenate([left, separable, third], axis=1).astype(np.float64))
    tail, both, twice = run(model, "tail", "both", "twice")
    assert_close(both, tail.astype(np.float64) + body)
    assert_close(twice, np.concatenate([both, body], axis=1).astype(np.float64).mean((2, 3)))
    # The second repetition has stride 1 and keeps the number of channels, so its input is added.
    zero, inner = run(model, "wide.0", "wide.1.project_norm")
    assert_close(wide, zero.astype(np.float64) + inner)


def test_layers_of_one_seed_have_different_random_weights(tmp_path: Path) -> None:
    source = "layers:\n  - a: conv(3, 1, weight=he)\n  - b: conv(3, 1, weight=he)\n"
    model = loaded(tmp_path, source)
    again = loaded(tmp_path / "again", source)
    weights = {tensor.name: tensor.raw_data for tensor in model.graph.proto.graph.initializer}
    assert weights["a.weight"] != weights["b.weight"]
    assert weights == {tensor.name: tensor.raw_data for tensor in again.graph.proto.graph.initializer}


def test_pools_are_undone_in_turn(tmp_path: Path) -> None:
    source = """
layers:
  - first: max_pool(2)
  - second: max_pool(3, stride=1, padding=same)
  - up: max_unpool
  - out: max_unpool
"""
    first, second, up, out = run(loaded(tmp_path, source), "first", "second", "up", "out")
    assert (up.shape, out.shape) == (first.shape, IMAGES.shape)
    # Each maximum of second is in up at its position in first, and all other values are 0.
    assert set(np.unique(up)) <= set(np.unique(second)) | {0}
    assert (up[up != 0] == first[up != 0]).all()
    assert (out[out != 0] == IMAGES[out != 0]).all()


def test_the_size_of_the_pictures_may_be_free(tmp_path: Path) -> None:
    folder = tmp_path / "free"
    folder.mkdir()
    (folder / "model.yaml").write_text(
        "source:\n  layers:\n    - a: conv(4, 3, stride=2, padding=same, weight=he)\n    - b: gap\n"
    )
    model = load_model(folder, "CPU")
    assert model.graph.image_size is None
    for size in (8, 9):
        images = np.zeros((1, 3, size, size), np.float32)
        assert run(model, "a", images=images)[0].shape == (1, 4, -(-size // 2), -(-size // 2))


WRONG = {
    "unknown block": ("layers:\n  - a: relu\n  - b: conf(3, 1)", None, "line 5: .*there is no block 'conf'.*conv"),
    "syntax": ("layers:\n  - a: relu | | gap", None, "line 4: 'relu | | gap': .*expected a block's name"),
    "unknown parameter": (
        "layers:\n  - a: conv(3, 1, weight=he, strid=2)",
        None,
        "line 4: layer 'a': conv has no parameter 'strid'.*stride",
    ),
    "no weights": ("layers:\n  - a: conv(3, 1)", None, r"line 4: layer 'a': conv needs its weight \[3, 3, 1, 1\]"),
    "missing weight": (
        "layers:\n  - a: relu\n  - b: conv(3, 1, bias=false)\nweights: weights.safetensors",
        {},
        r"line 5: layer 'b': conv needs its weight \[3, 3, 1, 1\], and the weights file has no b.weight",
    ),
    "missing bias": (
        "layers:\n  - b: conv(3, 1)\nweights: weights.safetensors",
        {"b.weight": np.ones((3, 3, 1, 1))},
        "line 4: layer 'b': .*the weights file has no b.bias; set bias=false to omit it",
    ),
    "missing statistics": (
        "layers:\n  - b: batch_norm\nweights: weights.safetensors",
        {},
        "line 4: layer 'b': batch_norm needs its mean, and the weights file has no b.mean",
    ),
    "shape of a weight": (
        "layers:\n  - b: conv(3, 1, bias=false)\nweights: weights.safetensors",
        {"b.weight": np.ones((3, 3, 5, 5))},
        r"line 4: layer 'b': conv: the weight has shape \[3, 3, 5, 5\] where \[3, 3, 1, 1\] is needed",
    ),
    "shape of statistics": (
        "layers:\n  - b: batch_norm\nweights: weights.safetensors",
        {"b.mean": np.ones(4), "b.variance": np.ones(3)},
        "line 4: layer 'b': batch_norm: mean has 4 values for 3 channels",
    ),
    "no weights file": ("layers:\n  - a: relu\nweights: weights.safetensors", None, "weights.safetensors is missing"),
    "weights elsewhere": ("layers:\n  - a: relu\nweights: ../w.safetensors", None, "line 5: .*own folder"),
    "cycle": (
        "layers:\n  - a: {from: c, head: relu}\n  - b: relu\n  - c: relu",
        None,
        "line 4: layer 'a' depends on itself: a <- c <- b <- a|line .: layer '.' depends on itself",
    ),
    "needs itself": ("layers:\n  - a: {from: a, head: relu}", None, "line 4: layer 'a' depends on itself"),
    "unreachable": (
        "layers:\n  - a: relu\n  - b: {from: input, head: tanh}",
        None,
        "line 4: layer 'a' is needed by no output; name it in source.outputs",
    ),
    "unknown layer": (
        "layers:\n  - a: {from: imput, head: relu}",
        None,
        "line 4: layer 'a': .*no layer 'imput'",
    ),
    "unknown output": ("layers:\n  - a: relu\noutputs: [b]", None, "line 5: outputs: there is no layer 'b'"),
    "two of one name": ("layers:\n  - a: relu\n  - a: tanh", None, "line 5: the name 'a' is taken"),
    "no default": ("layers:\n  - a: $norm", None, "line 4: layer 'a' needs \\$norm; set norm in source.defaults"),
    "default of defaults": (
        "defaults: {norm: $norm}\nlayers:\n  - a: $norm",
        None,
        "line 5: \\$norm stands for '\\$norm', which uses another placeholder",
    ),
    "unknown default": ("defaults: {nrom: l2}\nlayers:\n  - a: relu", None, "line 3: unknown key 'nrom'.*norm"),
    "bad default": (
        "defaults: {padding: sam}\nlayers:\n  - a: relu",
        None,
        "line 3: padding must be .*same.*got 'sam'",
    ),
    "sum of shapes": (
        'layers:\n  - a: {residual: {layers: ["conv(4, 1, weight=he)"]}}',
        None,
        r"line 4: layer 'a': \[N, 4, 8, 8\] and \[N, 3, 8, 8\] cannot be joined by add",
    ),
    "across images": ("layers:\n  - a: batch_norm(stats=batch)", None, "line 4: layer 'a': .*combines the images"),
    "does not fit": ("layers:\n  - a: gap\n  - b: max_pool(2)", None, "line 5: layer 'b': max_pool needs height"),
    "no layers": ("layers: []", None, "line 3: expected at least one layer"),
    "no layer": ("layers: [7]", None, "line 3: expected a layer as 'name: head', got 7"),
    "nothing said": ("layers:\n  - a: {}", None, "line 4: the layer 'a' needs one of head"),
    "composite": (
        "layers:\n  - inverted_residual: {out: 3}",
        None,
        "line 4: layer 'inverted_residual': .*needs kernel",
    ),
    "composite inside": (
        "layers:\n  - a: inverted_residual(4, kernel=3)",
        None,
        "line 4: layer 'a.depthwise': depthwise_conv needs its weight",
    ),
    "both": ("onnx: model.onnx\nlayers:\n  - a: relu", None, "line 3: source must have either onnx or layers"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_says_file_line_and_layer(tmp_path: Path, name: str) -> None:
    source, weights, words = WRONG[name]
    folder = folder_of(tmp_path, source, weights)
    with pytest.raises((ManifestError, GraphError, LayertapError), match=words) as caught:
        load_model(folder, "CPU")
    assert isinstance(caught.value, ManifestError)
    assert str(tmp_path) not in str(caught.value)


def test_a_wrong_model_leaves_the_others_alone(tmp_path: Path) -> None:
    for number, (source, weights, _) in enumerate(WRONG.values()):
        folder_of(tmp_path, source, weights, f"wrong{number}")
    folder_of(tmp_path, SMALL, WEIGHTS, "right")
    infos = {info.name: info for info in open_repository(tmp_path).infos()}
    assert infos.pop("right").state is ModelState.READY
    assert {info.state for info in infos.values()} == {ModelState.FAILED}
    assert all("model.yaml" in info.reason or "safetensors" in info.reason for info in infos.values())


def test_a_weights_file_that_is_none(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "layers:\n  - a: relu\nweights: weights.safetensors")
    (folder / "weights.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(ManifestError, match=r"weights\.safetensors cannot be read as safetensors"):
        load_model(folder, "CPU")


def test_the_example_of_the_docs(tmp_path: Path) -> None:
    docs = (ROOT / "docs" / "models.md").read_text()
    (example,) = [text for text in re.findall(r"```yaml\n(.*?)```", docs, re.DOTALL) if "layers:" in text]
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "model.yaml").write_text(example)
    model = load_model(folder, "CPU")
    names = {layer.name for layer in model.planner.layers("")}
    assert {"stem.norm", "stem", "inverted_residual", "body", "pool", "looks.near", "scores"} <= names
    (scores,) = run(model, "scores", images=np.zeros((1, 3, 64, 64), np.float32))
    assert scores.shape == (1, 10)


def test_onnxruntime_opens_configured_models(tmp_path: Path) -> None:
    """Check that onnxruntime opens a configured model as a standalone model."""
    model = built_model(folder_of(tmp_path, COMPOSED))
    onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def test_the_weights_file_wins_over_a_default(tmp_path: Path) -> None:
    source = "defaults: {weight: he}\nlayers:\n  - a: conv(3, 1, bias=false)\nweights: weights.safetensors"
    model = loaded(tmp_path, source, {"a.weight": np.eye(3).reshape(3, 3, 1, 1)})
    (a,) = run(model, "a")
    np.testing.assert_array_equal(a, IMAGES)


def test_defaults_do_not_reach_into_composites(tmp_path: Path) -> None:
    source = """
defaults:
  {activation: relu, norm: instance_norm, stride: 2, padding: 1, groups: 3, multiplier: 2, repeat: 2, weight: he}
layers:
  - a: inverted_residual(3, kernel=3, expand=2, stride=1)
  - b: separable_conv(4, kernel=3, stride=1, padding=same)
"""
    model = loaded(tmp_path, source)
    assert [layer.shape for layer in model.planner.layers("") if layer.name in "ab"] == [(-1, 3, 8, 8), (-1, 4, 8, 8)]


def test_a_default_that_holds_itself_is_refused(tmp_path: Path) -> None:
    source = 'defaults: {weight: he, activation: relu, norm: "inverted_residual(3, 3)"}\nlayers:\n  - a: $norm'
    with pytest.raises(ManifestError, match=r"line 5: layer .* contains itself"):
        loaded(tmp_path, source)


def test_branches_undo_their_own_pools(tmp_path: Path) -> None:
    source = """
layers:
  - p1: max_pool(2)
  - p2: {from: input, head: softmin | max_pool(2)}
  - u1: {from: p1, head: max_unpool}
  - u2: {from: p2, head: max_unpool}
outputs: [u1, u2]
"""
    u1, p2, u2, softmin = run(loaded(tmp_path, source), "u1", "p2", "u2", "p2.softmin")
    assert (u1[u1 != 0] == IMAGES[u1 != 0]).all()
    assert (u2[u2 != 0] == softmin[u2 != 0]).all()
    assert (u2 != 0).sum() == p2.size


@pytest.mark.parametrize(
    "layers",
    [
        "  - r: {residual: {layers: [{add: relu}, {c: abs}]}}",
        "  - a: conv(3, 1, weight=he)\n  - a.weight: relu",
        "  - stem: relu | tanh\n  - stem.relu: tanh",
    ],
)
def test_names_that_meet_are_refused(tmp_path: Path, layers: str) -> None:
    with pytest.raises(ManifestError, match=r"line \d: the name '.*' is taken"):
        loaded(tmp_path, f"layers:\n{layers}")


@pytest.mark.parametrize(
    "text",
    [
        "description: !!int foo",
        "a: !!bool foo",
        "[" * 3000,
        "description: !!map [1]",
        "a: " + "9" * 5000,
    ],
)
def test_yaml_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "net"
    folder.mkdir()
    (folder / "model.yaml").write_text(text)
    with pytest.raises(ManifestError, match=r"model\.yaml"):
        load_model(folder, "CPU")


def test_free_sizes_are_joined_where_they_must_be_equal(tmp_path: Path) -> None:
    (tmp_path / "free").mkdir()
    source = "source:\n  layers:\n    - a: {residual: {layers: ['conv(3, 3, padding=1, weight=he)']}}\n"
    (tmp_path / "free" / "model.yaml").write_text(source)
    model = load_model(tmp_path / "free", "CPU")
    assert run(model, "a", images=np.zeros((1, 3, 9, 7), np.float32))[0].shape == (1, 3, 9, 7)
    (tmp_path / "wrong").mkdir()
    branches = '["conv(4, 3, weight=he)", "conv(4, 5, weight=he)"]'
    (tmp_path / "wrong" / "model.yaml").write_text(
        f"source:\n  layers:\n    - a: {{parallel: {{join: add, branches: {branches}}}}}\n"
    )
    with pytest.raises(ManifestError, match="cannot be joined by add"):
        load_model(tmp_path / "wrong", "CPU")


def test_what_a_layer_is_told_to_learn(tmp_path: Path) -> None:
    source = """
layers:
  - a: max_pool(3, padding=same)
  - b: lcn
  - c: resize(4, width=4, mode=cubic)
  - d: select([1, 0])
  - e: swish
  - f: conv(5, 1, weight=he, bias=[1, 2, 3, 4, 5])
"""
    model = loaded(tmp_path, source)
    learned = {layer.name: layer.parameters for layer in model.planner.layers("")}
    assert learned == {"input": None, "a": None, "b": None, "c": None, "d": None, "e": None, "f": 15}
    (activation,) = model.planner.layers("all:activations")
    assert (activation.name, activation.op_type) == ("e", "swish")


def test_surgery_on_a_configured_model(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "layers:\n  - a: softmin\n  - b: relu")
    text = (folder / "model.yaml").read_text()
    (folder / "model.yaml").write_text(text + "surgery: [{match: b, with: abs}]\n")
    model = load_model(folder, "CPU")
    assert [layer.module_path for layer in model.planner.layers("b")] == ["b"]
    a, b = run(model, "a", "b")
    assert_close(b, np.abs(a.astype(np.float64)))
    (folder / "model.yaml").write_text(text + "surgery: [{match: a, with: softmax}]\n")
    with pytest.raises(ManifestError, match="'a' is a softmin of several nodes"):
        load_model(folder, "CPU")
