"""Test feeds in compiled plans: a network that is cut at a layer and fed there computes the same values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

from layertap.errors import BadFeedError
from layertap.types import Array
from layertap_server.graph import Feed, ModelGraph, compile_plan, prices_of, read, with_feeds
from tests.models import branching
from tests.server.graph.gradient.test_target import SEQUENCE
from tests.server.graph.test_edits import edit

IMAGES = np.random.default_rng(8).normal(size=(2, 3, 8, 8)).astype(np.float32)
FREE = """
<ir_version: 8, opset_import: ["" : 17]>
free (float[N, 3, H, W] image) => (float[N, 4] scores) {
    conv = Conv(image, w)
    act = Relu(conv)
    left, right = Split <axis = 1> (act)
    joined = Concat <axis = 1> (right, left)
    pooled = GlobalAveragePool(joined)
    scores = Flatten(pooled)
}
"""


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> ModelGraph:
    return read(branching(), tmp_path_factory.mktemp("weights"))


def free(folder: Path) -> ModelGraph:
    """Return a network whose images have any size."""
    model = parser.parse_model(FREE)
    weights = np.random.default_rng(2).normal(size=(4, 3, 3, 3)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    return read(model, folder)


def run(graph: ModelGraph, layers: list[str], images: Array | None, fed: dict[str, Array], *edits: str) -> list[Array]:
    """Return layers of a network; without images, the plan takes the feeds alone."""
    feeds = [Feed(layer, array.shape[1:]) for layer, array in fed.items()]
    changed = with_feeds(graph, feeds)
    plan = compile_plan(
        changed,
        [(layer, ()) for layer in layers],
        normalization=None,
        image_size=None,
        batch_input="" if images is not None else feeds[0].input,
        edits=[*map(edit, edits)],
    )
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(graph.weights_folder))
    session = onnxruntime.InferenceSession(plan.model, options, providers=["CPUExecutionProvider"])
    values = {f"feed:{layer}": array for layer, array in fed.items()}
    given = values if images is None else {**values, plan.input_name: images}
    taken = {value.name for value in session.get_inputs()}
    return list(session.run(list(plan.output_names), {name: given[name] for name in given if name in taken}))


@pytest.mark.parametrize("layer", ["conv", "act", "down", "left", "joined", "vector", "scores"])
def test_a_network_that_is_fed_its_own_values_computes_the_same(layer: str, graph: ModelGraph) -> None:
    value, plain = run(graph, [layer, "scores"], IMAGES, {})
    fed, scores = run(graph, [layer, "scores"], IMAGES, {layer: value})
    np.testing.assert_array_equal(fed, value)
    np.testing.assert_array_equal(scores, plain)


def test_what_follows_a_feed_computes_on_it(graph: ModelGraph) -> None:
    before, joined = run(graph, ["left", "joined"], IMAGES, {})
    fed = np.random.default_rng(5).normal(size=before.shape).astype(np.float32)
    np.testing.assert_allclose(run(graph, ["joined"], IMAGES, {"left": fed})[0], joined - before + fed, atol=1e-5)


def test_edits_apply_after_the_feed_of_their_layer(graph: ModelGraph) -> None:
    fed = np.random.default_rng(5).normal(size=(2, 6, 4, 4)).astype(np.float32)
    edited = run(graph, ["left"], IMAGES, {"left": fed}, "left | zero_channels([2])")[0]
    assert not edited[:, 2].any()
    np.testing.assert_array_equal(edited[:, :2], fed[:, :2])


def test_a_cut_network_needs_no_images_and_nothing_before_the_cut(graph: ModelGraph) -> None:
    vector, scores = run(graph, ["vector", "scores"], IMAGES, {})
    np.testing.assert_array_equal(run(graph, ["scores"], None, {"vector": vector})[0], scores)
    changed = with_feeds(graph, [Feed("vector", vector.shape[1:])])
    plan = onnx.load_from_string(
        compile_plan(changed, [("scores", ())], normalization=None, image_size=None, batch_input="feed:vector").model
    )
    assert [value.name for value in plan.graph.input] == ["feed:vector"]
    assert "Conv" not in {node.op_type for node in plan.graph.node}


def test_one_of_several_outputs_of_a_node_is_fed(tmp_path: Path) -> None:
    graph = free(tmp_path)
    right, joined = run(graph, ["right", "joined"], IMAGES, {})
    fed = run(graph, ["right", "joined"], IMAGES, {"left": np.zeros_like(right)})
    np.testing.assert_array_equal(fed[0], right)
    np.testing.assert_array_equal(fed[1], np.concatenate([joined[:, :2], np.zeros_like(right)], 1))


def test_sizes_that_images_do_not_fix_come_from_the_feed(tmp_path: Path) -> None:
    graph = free(tmp_path)
    changed = with_feeds(graph, [Feed("act", (4, 5, 7))])
    assert changed.types["joined"].shape == ("N", 4, 5, 7)
    fed = np.random.default_rng(1).normal(size=(3, 4, 5, 7)).astype(np.float32)
    expected = fed[:, [2, 3, 0, 1]].mean((2, 3))
    np.testing.assert_allclose(run(graph, ["scores"], None, {"act": fed})[0], expected, atol=1e-6)


def test_layers_whose_batch_is_second_are_fed_batch_first(tmp_path: Path) -> None:
    model = parser.parse_model(SEQUENCE)
    random = np.random.default_rng(3)
    for name, shape in (("w", (4, 4)), ("v", (4, 5))):
        model.graph.initializer.append(numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name))
    graph, x = read(model, tmp_path), random.normal(size=(2, 3, 4)).astype(np.float32)
    last = graph.layers[-1].name
    inner, plain = run(graph, ["inner", last], x, {})
    assert inner.shape == (2, 3, 4)
    np.testing.assert_allclose(run(graph, [last], x, {"inner": inner})[0], plain, atol=1e-6)
    changed = run(graph, [last], x, {"inner": inner[::-1].copy()})[0]
    np.testing.assert_allclose(changed, plain[::-1], atol=1e-6)


def test_nothing_is_paid_for_the_layers_before_a_feed(graph: ModelGraph) -> None:
    changed = with_feeds(graph, [Feed("vector")])
    assert next(layer.macs for layer in changed.layers if layer.name == "vector") == 0
    assert prices_of(changed)["vector"] <= prices_of(graph)["vector"]


@pytest.mark.parametrize("sizes", [(6, 4, 5), (6, 4), (7, 4, 4)])
def test_a_feed_of_another_shape_is_refused(sizes: tuple[int, ...], graph: ModelGraph) -> None:
    with pytest.raises(BadFeedError, match=r"the layer 'left' has \[N, 6, 4, 4\], and its feed has") as caught:
        with_feeds(graph, [Feed("left", sizes)])
    assert caught.value.metadata["expected"] == "[N, 6, 4, 4]"
