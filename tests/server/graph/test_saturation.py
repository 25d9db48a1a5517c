"""Tests of the saturation of every operator that has bounds, against its definition in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser

from layertap.types import Array, LayerStatistics
from layertap_server.graph import COLUMNS, compile_inspection
from layertap_server.graph.saturation import NONE, saturation_of
from layertap_server.inference.statistics import summarize
from tests.models import model_folder, open_repository

MODEL = """
<ir_version: 8, opset_import: ["" : 18]>
bounded (float[batch, 3, 8, 8] image) => (float[batch, 3, 8, 8] relu) <float zero = {0.0}, float one = {1.0},
 float minus = {-1.0}, float two = {2.0}, float five = {5.0}, float six = {6.0}, float minus_six = {-6.0}> {
    sigmoid = Sigmoid (image)
    hard_sigmoid = HardSigmoid (image)
    tanh = Tanh (image)
    softsign = Softsign (image)
    erf = Erf (image)
    softmax = Softmax (image)
    softmax_of_channels = Softmax <axis = 1> (image)
    log_softmax = LogSoftmax (image)
    hardmax = Hardmax (image)
    relu6 = Clip (image, zero, six)
    hard_tanh = Clip (image, minus, one)
    over_two = Clip (image, two, five)
    below_zero = Clip (image, minus_six, zero)
    floor = Clip (image, minus)
    ceiling = Clip (image, , six)
    constant = Clip (image, one, one)
    elu = Elu (image)
    selu = Selu (image)
    softplus = Softplus (image)
    hard_swish = HardSwish (image)
    relu = Relu (image)
}
"""
NEAR = 0.01


def softmax(x: Array, axis: int) -> Array:
    """Return the softmax along an axis."""
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


def near(low: float, high: float) -> Callable[[Array], Array]:
    """Return a function that marks values near either end of a range."""
    edge = NEAR * (high - low)
    return lambda y: (y <= low + edge) | (y >= high - edge)


def rows(axis: int) -> Callable[[Array], Array]:
    """Return a function that marks all values along an axis if one is near 1."""
    return lambda y: np.broadcast_to(y.max(axis=axis, keepdims=True) >= 1 - NEAR, y.shape)


def never(y: Array) -> Array:
    """Mark no value."""
    return np.zeros(y.shape, bool)


def erf(x: Array) -> Array:
    """Return the error function, integrated numerically since NumPy does not have it."""
    steps = (np.arange(2000) + 0.5) / 2000
    return np.asarray(2 / np.sqrt(np.pi) * x * np.exp(-((x[..., None] * steps) ** 2)).mean(axis=-1))


EXPECTED: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), near(0, 1)),
    "hard_sigmoid": (lambda x: np.clip(0.2 * x + 0.5, 0, 1), near(0, 1)),
    "tanh": (np.tanh, near(-1, 1)),
    "softsign": (lambda x: x / (1 + np.abs(x)), near(-1, 1)),
    "erf": (erf, near(-1, 1)),
    "softmax": (lambda x: softmax(x, -1), rows(-1)),
    "softmax_of_channels": (lambda x: softmax(x, 1), rows(1)),
    "log_softmax": (lambda x: np.log(softmax(x, -1)), never),
    "hardmax": (lambda x: (x == x.max(axis=-1, keepdims=True)).astype(float), never),
    "relu6": (lambda x: np.clip(x, 0, 6), lambda y: y >= 6 * (1 - NEAR)),
    "hard_tanh": (lambda x: np.clip(x, -1, 1), near(-1, 1)),
    "over_two": (lambda x: np.clip(x, 2, 5), lambda y: y >= 5 - 3 * NEAR),
    "below_zero": (lambda x: np.clip(x, -6, 0), lambda y: y <= -6 * (1 - NEAR)),
    "floor": (lambda x: np.maximum(x, -1), lambda y: y <= -1),
    "ceiling": (lambda x: np.minimum(x, 6), lambda y: y >= 6),
    "constant": (np.ones_like, never),
    "elu": (lambda x: np.where(x > 0, x, np.expm1(x)), never),
    "selu": (lambda x: 1.0507 * np.where(x > 0, x, 1.67326 * np.expm1(x)), never),
    "softplus": (lambda x: np.log1p(np.exp(x)), never),
    "hard_swish": (lambda x: x * np.clip(x / 6 + 0.5, 0, 1), never),
    "relu": (lambda x: np.maximum(x, 0), never),
}


def inspected(tmp_path: Path, model: onnx.ModelProto, images: Array, layers: list[str]) -> list[LayerStatistics]:
    """Run the statistics of layers of a model."""
    folder = model_folder(tmp_path, "bounded", model).parent
    graph = open_repository(folder).get("bounded").graph
    plan = compile_inspection(graph, layers, normalization=None, image_size=None)
    session = onnxruntime.InferenceSession(plan.model, providers=["CPUExecutionProvider"])
    results = session.run(list(plan.output_names), {plan.input_name: images})
    pairs = zip(layers, results[::2], results[1::2], strict=True)
    assert all(summary.shape[1] == len(COLUMNS) for summary in results[::2])
    return [summarize(layer, summary, channels, has_channels=True) for layer, summary, channels in pairs]


@pytest.mark.parametrize("scale", [0.1, 2.0, 20.0])
def test_each_operator(tmp_path: Path, scale: float) -> None:
    images = (np.random.default_rng(0).normal(size=(2, 3, 8, 8)) * scale).astype(np.float32)
    for found in inspected(tmp_path, parser.parse_model(MODEL), images, list(EXPECTED)):
        function, is_saturated = EXPECTED[found.layer]
        expected = is_saturated(function(images.astype(np.float64))).mean()
        assert found.saturated_fraction == pytest.approx(expected, abs=1e-9), found.layer


def test_small_probabilities_are_not_saturated_and_decided_rows_are(tmp_path: Path) -> None:
    images = np.zeros((1, 3, 8, 8), np.float32)
    images[0, 0, :4, 2] = 30  # four of 24 rows saturate at one position
    found, along_channels = inspected(tmp_path, parser.parse_model(MODEL), images, ["softmax", "softmax_of_channels"])
    assert found.saturated_fraction == pytest.approx(4 / 24)
    assert along_channels.saturated_fraction == pytest.approx(4 / 64)


def test_a_rectifier_that_is_off_is_not_saturated(tmp_path: Path) -> None:
    off = np.full((1, 3, 8, 8), -50, np.float32)
    for found in inspected(tmp_path, parser.parse_model(MODEL), off, ["relu", "relu6", "elu", "hard_swish"]):
        assert found.saturated_fraction == 0
        assert found.zero_fraction == (0 if found.layer == "elu" else 1)


def test_values_that_are_not_finite_are_not_saturated(tmp_path: Path) -> None:
    images = np.full((1, 3, 8, 8), np.nan, np.float32)
    for found in inspected(tmp_path, parser.parse_model(MODEL), images, ["sigmoid", "softmax", "tanh"]):
        assert (found.saturated_fraction, found.nan_count) == (0, images.size)


@pytest.mark.parametrize("layer", ["sigmoid", "tanh", "erf"])
def test_the_derivative_has_vanished_where_it_is_saturated(layer: str) -> None:
    function, is_saturated = EXPECTED[layer]
    x = np.linspace(-8, 8, 4001)
    slope = np.abs(np.gradient(function(x), x)) / np.abs(np.gradient(function(x), x)).max()
    saturated = is_saturated(function(x))
    assert saturated.any()
    assert slope[saturated].max() < 0.07
    assert slope[~saturated].min() > 0.02


BLOCKS = """
source:
  layers:
    - first: conv(4, 1, weight=he)
    - sigmoid
    - hard_sigmoid
    - tanh
    - hard_tanh
    - relu6
    - softmax
    - softmin
    - log_softmax
    - swish
input: {resize: {size: [8, 8]}, normalize: {range: [-1, 1]}}
"""


def test_blocks_of_a_network_saturate_as_operators_do(tmp_path: Path) -> None:
    folder = tmp_path / "blocks"
    folder.mkdir()
    (folder / "model.yaml").write_text(BLOCKS)
    graph = open_repository(tmp_path).get("blocks").graph
    found = {info.name: saturation_of(graph, info.name) for info in graph.layers}
    ends = {name: (ends.low, ends.high, ends.axis) for name, ends in found.items() if ends != NONE}
    assert ends == {
        "sigmoid": (0.01, 0.99, None),
        "hard_sigmoid": (0.01, 0.99, None),
        "tanh": (-0.98, 0.98, None),
        "hard_tanh": (-0.98, 0.98, None),
        "relu6": (None, 5.94, None),
        "softmax": (None, 0.99, 1),
        "softmin": (None, 0.99, 1),
    }


def test_activations_of_several_nodes_saturate_as_one_operator(tmp_path: Path) -> None:
    """Compare x·6 clipped by Min and Max, and a hard sigmoid by Clip and Div, with the operators that they are."""
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        graph (float[N, 3, 8, 8] image) => (float[N, 3, 8, 8] other)
        <float zero = {0.0}, float six = {6.0}, float three = {3.0}> {
            x = Mul (image, six)
            low = Max (x, zero) relu6 = Min (low, six) clip = Clip (x, zero, six)
            up = Add (x, three) between = Clip (up, zero, six) hard = Div (between, six)
            operator = HardSigmoid <alpha = 0.16666667, beta = 0.5> (x)
            other = Sum (relu6, clip, hard, operator)
        }"""
    )
    images = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    relu6, clip, hard, operator = inspected(tmp_path, model, images, ["relu6", "clip", "hard", "operator"])
    assert relu6.saturated_fraction == clip.saturated_fraction > 0
    assert hard.saturated_fraction == operator.saturated_fraction > 0
