"""Tests of layer statistics computed inside the graph, against NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

from layertap.types import Array, LayerStatistics, Layout
from layertap_server.graph import ModelGraph, compile_inspection, read
from layertap_server.graph.compile import whole_with_outputs
from layertap_server.graph.saturation import Saturation, saturation_of
from layertap_server.inference.statistics import summarize

MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[n, 2, 6, 6] image) => (float[n, 2, 6, 6] soft) {
    clipped = Clip (image, low, high)
    above = Clip (image, low)
    soft = Sigmoid (image)
    halves = Cast <to = 10> (image)
    mixed = Transpose <perm = [0, 2, 3, 1]> (image)
    odd = Reshape (image, sizes)
    vector = Flatten (image)
}
"""
WEIGHTS = {"low": np.float32(-1), "high": np.float32(1), "sizes": np.array([0, 2, 2, 3, 6])}


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> ModelGraph:
    """Return the graph of the test model."""
    model = parser.parse_model(MODEL)
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in WEIGHTS.items())
    return read(model, tmp_path_factory.mktemp("weights"))


def statistics(graph: ModelGraph, layer: str, images: Array) -> LayerStatistics:
    """Run the statistics of one layer."""
    plan = compile_inspection(graph, [layer], normalization=None, image_size=None)
    session = onnxruntime.InferenceSession(plan.model, providers=["CPUExecutionProvider"])
    summary, channels = session.run(list(plan.output_names), {plan.input_name: images})
    has_channels = graph.types[layer].layout is not Layout.OTHER
    return summarize(layer, summary, channels, has_channels=has_channels)


@pytest.mark.parametrize("layer", ["image", "clipped", "soft", "halves", "mixed", "odd", "vector"])
def test_the_statistics_are_numpys(graph: ModelGraph, layer: str) -> None:
    images = np.random.default_rng(0).normal(0, 2, (3, 2, 6, 6)).astype(np.float32)
    images[:, 1] = 0
    found = statistics(graph, layer, images)
    values = {"clipped": images.clip(-1, 1), "soft": 1 / (1 + np.exp(-images))}.get(layer, images)
    assert found.mean == pytest.approx(values.mean(), rel=1e-3, abs=1e-4)
    assert found.standard_deviation == pytest.approx(values.std(), rel=1e-3)
    assert (found.min, found.max) == pytest.approx((values.min(), values.max()), rel=1e-3)
    assert found.zero_fraction == pytest.approx((values == 0).mean())
    assert found.l2_norm == pytest.approx(float(np.sqrt((values**2).sum())), rel=1e-3)
    assert found.dead_channels == {"soft": 0, "odd": 0, "vector": 36}.get(layer, 1)


def test_values_that_are_no_numbers_are_counted_and_left_out(graph: ModelGraph) -> None:
    images = np.ones((1, 2, 6, 6), np.float32)
    images[0, 0, 0, :3] = np.nan, np.inf, -np.inf
    found = statistics(graph, "image", images)
    assert (found.nan_count, found.inf_count, found.mean, found.max) == (1, 2, 1, 1)
    nothing = statistics(graph, "image", np.full((1, 2, 6, 6), np.nan, np.float32))
    assert np.isnan([nothing.min, nothing.max, nothing.mean, nothing.standard_deviation]).all()


def test_saturation_is_within_a_hundredth_of_an_end(graph: ModelGraph) -> None:
    images = np.linspace(-2, 2, 72, dtype=np.float32).reshape(1, 2, 6, 6)
    found = statistics(graph, "clipped", images)
    assert found.saturated_fraction == pytest.approx((np.abs(images) >= 0.98).mean())
    assert statistics(graph, "image", images).saturated_fraction == 0


def test_the_thresholds_of_a_layer(graph: ModelGraph) -> None:
    clipped, soft = saturation_of(graph, "clipped"), saturation_of(graph, "soft")
    assert (clipped.low, clipped.high) == pytest.approx((-0.98, 0.98))
    assert (soft.low, soft.high) == pytest.approx((0.01, 0.99))
    assert saturation_of(graph, "above") == Saturation(low=-1)
    assert saturation_of(graph, "image") == Saturation()


def test_the_whole_model_with_other_outputs(graph: ModelGraph, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(whole_with_outputs(graph, ["odd", "halves"]))
    assert [output.name for output in onnx.load(tmp_path / "m.onnx").graph.output] == ["odd", "halves"]
