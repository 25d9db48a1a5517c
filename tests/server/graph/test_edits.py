"""Test edits in compiled plans: they equal surgery on load and float64 references, and gradients go through them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

from layertap import blocks
from layertap.errors import BadEditError, ShapeMismatchError
from layertap.expression import parse_head
from layertap.types import Array
from layertap_server.graph import Edit, ModelGraph, Operation, check_edit, compile_plan, operate, read, reread
from layertap_server.graph.gradient import TARGET_INDEX, Gradient, Target
from tests.models import branching
from tests.server.graph.gradient.networks import layer_gradient
from tests.server.graph.gradient.test_target import SEQUENCE

IMAGES = np.random.default_rng(8).normal(size=(2, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> ModelGraph:
    return read(branching(), tmp_path_factory.mktemp("weights"))


def edit(text: str) -> Edit:
    """Parse an edit of the layer before the bar."""
    layer, _, head = text.partition("|")
    return Edit(layer.strip(), tuple(blocks.bind(block) for block in parse_head(head)))


def run(graph: ModelGraph, layers: list[str], *edits: str, images: Array = IMAGES) -> list[Array]:
    """Return layers with edits."""
    plan = compile_plan(
        graph, [(layer, ()) for layer in layers], normalization=None, image_size=None, edits=[*map(edit, edits)]
    )
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(graph.weights_folder))
    session = onnxruntime.InferenceSession(plan.model, options, providers=["CPUExecutionProvider"])
    return list(session.run(list(plan.output_names), {plan.input_name: images}))


def test_what_follows_computes_on_the_edited_values_and_taps_see_them(graph: ModelGraph) -> None:
    before, joined = run(graph, ["left", "joined"])
    edited, after, conv = run(graph, ["left", "joined", "conv"], "left | zero_channels([1, 4])")
    expected = before.copy()
    expected[:, [1, 4]] = 0
    np.testing.assert_array_equal(edited, expected)
    np.testing.assert_allclose(after, joined - before + expected, atol=1e-5)
    np.testing.assert_allclose(conv, run(graph, ["conv"])[0], atol=1e-6)


def test_edits_of_a_layer_apply_in_their_order(graph: ModelGraph) -> None:
    texts = ["left | add_vector([1, 1, 1, 1, 1, 1])", "left | scale_channels([0, 1, 2], factor=3)"]
    plain = run(graph, ["left"])[0]
    factor = np.array([3, 3, 3, 1, 1, 1]).reshape(-1, 1, 1)
    np.testing.assert_allclose(run(graph, ["left"], *texts)[0], (plain + 1) * factor, rtol=1e-4)
    np.testing.assert_allclose(run(graph, ["left"], *texts[::-1])[0], plain * factor + 1, rtol=1e-4)


@pytest.mark.parametrize("text", ["act | zero_channels([0, 3])", "joined | sigmoid", "vector | scale_channels([2], 5)"])
def test_an_edit_equals_surgery_on_load(text: str, graph: ModelGraph) -> None:
    change = edit(text)
    operation = Operation(change.layer, parse_head(text.partition("|")[2]), replaces=False, text=text)
    proto, _ = operate(graph, [operation], 0)
    changed = reread(graph, proto)
    for one, other in zip(
        run(changed, [change.layer, "scores"]), run(graph, [change.layer, "scores"], text), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_edits_of_layers_that_no_head_needs_cost_nothing(graph: ModelGraph) -> None:
    plan = onnx.load_from_string(
        compile_plan(graph, [("conv", ())], normalization=None, image_size=None, edits=[edit("left | relu")]).model
    )
    assert [node.op_type for node in plan.graph.node] == ["Conv"]


def test_layers_whose_batch_is_second_are_edited_batch_first(tmp_path: Path) -> None:
    model = parser.parse_model(SEQUENCE)
    random = np.random.default_rng(3)
    for name, shape in (("w", (4, 4)), ("v", (4, 5))):
        model.graph.initializer.append(numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name))
    graph, x = read(model, tmp_path), random.normal(size=(2, 3, 4)).astype(np.float32)
    plain, edited = (run(graph, ["inner"], *texts, images=x)[0] for texts in ([], ["inner | zero_channels([1])"]))
    assert edited.shape == (2, 3, 4)
    assert not edited[..., 1].any()
    np.testing.assert_array_equal(edited[..., [0, 2, 3]], plain[..., [0, 2, 3]])


def test_gradients_go_through_edits(graph: ModelGraph) -> None:
    texts = ["left | scale_channels([2], factor=-3)", "vector | tanh"]
    plan = compile_plan(
        graph,
        [(Gradient("down"), ()), (Gradient("left"), ())],
        normalization=None,
        image_size=None,
        target=Target("scores"),
        edits=[*map(edit, texts)],
    )
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(graph.weights_folder))
    session = onnxruntime.InferenceSession(plan.model, options, providers=["CPUExecutionProvider"])
    feeds = {plan.input_name: IMAGES[:1], TARGET_INDEX: np.array([1], np.int64)}
    down, left = session.run(list(plan.output_names), feeds)
    model = branching()
    for node in model.graph.node:
        node.input[:] = [{"left": "left3", "vector": "curved"}.get(name, name) for name in node.input]
    factors = np.array([1, 1, -3, 1, 1, 1], np.float32).reshape(-1, 1, 1)
    model.graph.initializer.append(numpy_helper.from_array(factors, "factors"))
    nodes = [*model.graph.node]
    index = next(i for i, node in enumerate(nodes) if "left" in node.output)
    nodes.insert(index + 1, onnx.helper.make_node("Mul", ["left", "factors"], ["left3"]))
    index = next(i for i, node in enumerate(nodes) if "vector" in node.output)
    nodes.insert(index + 1, onnx.helper.make_node("Tanh", ["vector"], ["curved"]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for found, layer in ((down, "down"), (left, "left3")):
        exact = layer_gradient(model, {"image": IMAGES[:1]}, layer, "scores", 1)
        np.testing.assert_allclose(found, exact, atol=1e-4 * np.abs(exact).max())


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("image | relu", BadEditError, "is an input of the model"),
        ("left | gap", BadEditError, r"keeps shape and dtype: 'left' has \[N, 6, 4, 4\].* results in \[N, 6\]"),
        ("left | cast(float16)", BadEditError, r"\(float32\), and its head results in .* \(float16\)"),
        ("left | zero_channels([6])", ShapeMismatchError, "there is no channel 6"),
    ],
)
def test_an_edit_that_changes_a_type_or_an_input_is_refused(
    text: str, error: type[Exception], message: str, graph: ModelGraph
) -> None:
    with pytest.raises(error, match=message):
        check_edit(graph, edit(text))
