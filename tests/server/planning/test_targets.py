"""Test how targets are found, and which gradients taps may name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

from layertap.errors import (
    BadParameterError,
    BadTargetError,
    InvalidRequestError,
    LayertapError,
    NotDifferentiableError,
    UnknownLayerError,
)
from layertap.types import Array, Tap
from layertap_server.graph import Gradient, ModelGraph, Target, read, structure_of
from layertap_server.planning.plan import PlanInput
from layertap_server.planning.planner import Planner
from layertap_server.planning.selectors import Selectors
from layertap_server.planning.targets import default_target
from tests.models import branching

INPUT = PlanInput(pictures=False, size=(8, 8))


def planner_of(graph: ModelGraph, target: str = "", taps: tuple[str, ...] = ()) -> Planner:
    """Return the planner of a model."""
    selectors = Selectors(graph.layers, {"embedding": "vector"}, structure_of(graph).stages)
    return Planner(graph, graph.layers, 1, selectors, {"signature": "joined | gap"}, taps, target=target)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> ModelGraph:
    return read(branching(), tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def planner(graph: ModelGraph) -> Planner:
    return planner_of(graph)


def parse(text: str, folder: Path, **constants: Array) -> ModelGraph:
    """Return the graph of an ONNX text with constants."""
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g {text}')
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return read(model, folder)


def test_a_gradient_is_a_layer_like_any_other(planner: Planner) -> None:
    taps = ["grad:down", "grad:stage:1 | gap -> g", "grad:input", "down", "grad:op:Conv"]
    resolution = planner.resolve(taps, INPUT)
    assert [result.name for result in resolution.results] == [
        *("grad:down", "g", "grad:input", "down", "grad:conv", "grad:left"),
    ]
    assert [result.layer for result in resolution.results] == [
        *("grad:down", "grad:act", "grad:image", "down", "grad:conv", "grad:left"),
    ]
    assert [result.tensor.shape for result in resolution.results[:3]] == [("N", 6, 4, 4), ("N", 6), ("N", 3, 8, 8)]
    assert resolution.plan.target == Target("scores")
    assert resolution.plan.gradients == {Gradient(name) for name in ("down", "act", "image", "conv", "left")}
    assert resolution.plan.layers[-1] == "scores"


def test_a_backward_pass_costs_more_the_further_it_goes(planner: Planner) -> None:
    prices = [planner.resolve([tap], INPUT).operations for tap in ("scores", "grad:joined", "grad:image")]
    assert prices == sorted(set(prices))
    sizes = [planner.resolve([tap], INPUT).computed_bytes for tap in ("grad:vector", "grad:joined", "grad:image")]
    assert sizes == sorted(set(sizes))


def test_the_target_is_part_of_the_plan_and_an_index_is_not(planner: Planner) -> None:
    plans = [planner.resolve(["grad:down"], INPUT, target=target).plan for target in ("", "scores", "vector")]
    assert plans[0] == plans[1] != plans[2]
    assert plans[0].is_part_of(planner.resolve(["grad:down", "grad:down | gap"], INPUT).plan)
    assert not plans[0].is_part_of(planner.resolve(["grad:down", "grad:image"], INPUT).plan)
    assert not plans[0].is_part_of(planner.resolve(["grad:down", "grad:down | gap"], INPUT, target="vector").plan)


@pytest.mark.parametrize(
    ("target", "layer", "text"),
    [
        ("vector", "vector", "vector"),
        ("embedding", "vector", "embedding"),
        ("signature | select([1])", "joined", "joined | gap | select([1])"),
        (Tap("joined", name=""), None, ""),
        ("mean", "mean", "mean"),
    ],
)
def test_any_tap_of_a_number_or_vector_is_a_target(
    planner: Planner, target: str | Tap, layer: str | None, text: str
) -> None:
    if layer is None:
        with pytest.raises(BadTargetError, match=r"after 'joined' the tensor has shape \[N, 6, 4, 4\]"):
            planner.resolve(["grad:down"], INPUT, target=target)
        return
    found = planner.resolve(["grad:down"], INPUT, target=target).target
    assert found is not None
    assert (found.target.layer, found.text) == (layer, text)


@pytest.mark.parametrize(
    ("taps", "target", "error", "message", "field"),
    [
        (["grad:down"], "scores -> s", BadTargetError, "a target has no name", "target"),
        (["grad:down"], "grad:act", BadTargetError, "names a gradient", "target"),
        (["grad:down"], "op:Conv | gap", BadTargetError, "names 2 layers", "target"),
        (["grad:down"], "scores | z_score(column)", BadTargetError, "from one image, and z_score", "target"),
        (["grad:down"], "nowhere", UnknownLayerError, "there is no layer 'nowhere'", "target"),
        (["grad:down"], "joined | gem(nothing=0)", BadParameterError, "no parameter 'nothing'", "target"),
        (["down"], "scores", BadTargetError, "no tap has a gradient", "target"),
        (["down", "grad:joined"], "down | gap", NotDifferentiableError, "does not depend on joined", "taps[1]"),
        (["grad:grad:down"], "", InvalidRequestError, "is a gradient of a gradient", "taps[0]"),
        (["grad:nowhere"], "", UnknownLayerError, "there is no layer 'nowhere'", "taps[0]"),
        (["grad:down | batch_norm(profile=p)"], "", BadParameterError, "a tap of one layer", "taps[0]"),
        (["grad:scores | upsample(2)"], "", LayertapError, "upsample", "taps[0]"),
    ],
)
def test_a_wrong_target_or_gradient_is_refused(
    planner: Planner, taps: list[str], target: str, error: type[LayertapError], message: str, field: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        planner.resolve(taps, INPUT, target=target)
    assert caught.value.metadata["field"] == field


def test_a_selector_of_several_leaves_out_layers_without_a_gradient(planner: Planner) -> None:
    resolution = planner.resolve(["grad:all"], INPUT, target="down | gap | select([1])")
    assert [result.layer for result in resolution.results] == ["grad:image", "grad:conv", "grad:act", "grad:down"]
    assert [one.layer for one in resolution.skipped][:2] == ["grad:left", "grad:right"]
    assert "does not depend on left" in resolution.skipped[0].reason


def test_gradients_are_no_layers_of_listings_inspections_and_aliases(planner: Planner, graph: ModelGraph) -> None:
    for use in (lambda: planner.layers("grad:down"), lambda: planner.inspection(["grad:down"], INPUT)):
        with pytest.raises(InvalidRequestError, match="expected a layer, got the gradient 'grad:down'"):
            use()
    with pytest.raises(InvalidRequestError, match="expected a layer, got the gradient"):
        Selectors(graph.layers, {"mine": "grad:down"}, ())
    with pytest.raises(InvalidRequestError, match="is a form of selector"):
        Selectors(graph.layers, {"grad:mine": "down"}, ())


def test_integer_layers_and_operators_without_a_rule_are_named(tmp_path: Path) -> None:
    graph = parse(
        """(float[n, 3] x) => (float[n, 3] y) <int64 one = {1}>
        { place = ArgMax <axis = 1> (x) some = Cast <to = 1> (place) a = Exp(x) b = CumSum(a, one) c = Tanh(b)
          y = Add(c, some) }""",
        tmp_path,
    )
    planner = Planner(graph, graph.layers, 1, Selectors(graph.layers, {}, ()), {}, ())
    size = PlanInput(pictures=False, size=(3,))
    with pytest.raises(
        NotDifferentiableError, match=r"CumSum at 'b' .* The nearest layer that works is grad:b"
    ) as caught:
        planner.resolve(["grad:x"], size)
    assert caught.value.metadata["nearest"] == "b"
    with pytest.raises(NotDifferentiableError, match="values of int64, which have no gradient"):
        planner.resolve(["grad:place"], size)
    assert planner.resolve(["grad:b"], size).results[0].layer == "grad:b"


def test_the_nearest_layer_has_floating_point_numbers(tmp_path: Path) -> None:
    graph = parse(
        """(float[n, 3] x) => (float[n, 3] y)
        { whole = Cast <to = 7> (x) doubled = Add(whole, whole) sum = CumSum(doubled, one) back = Cast <to = 1> (sum)
          y = Exp(back) }""",
        tmp_path,
        one=np.array(1),
    )
    planner = Planner(graph, graph.layers, 1, Selectors(graph.layers, {}, ()), {}, ())
    with pytest.raises(NotDifferentiableError, match=r"CumSum at 'sum'.* The nearest layer that works is grad:back"):
        planner.resolve(["grad:x"], PlanInput(pictures=False, size=(3,)))


def test_without_a_size_the_details_of_nodes_decide_nothing(tmp_path: Path) -> None:
    graph = parse(
        """(float[n, 3, h, w] x) => (float[n, 3, 1, 1] y)
        { a = AveragePool <kernel_shape = [2, 2], pads = [1, 1, 0, 0]> (x) y = GlobalAveragePool(a) }""",
        tmp_path,
    )
    planner = Planner(graph, graph.layers, 1, Selectors(graph.layers, {}, ()), {}, ())
    for size in (None, (6, 8)):
        assert planner.resolve(["grad:x"], PlanInput(pictures=False, size=size)).plan.target == Target("y")


def softmax(graph: str, folder: Path) -> str:
    """Return the text of the default target of a model."""
    return default_target(parse(graph, folder)).text


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("y = Softmax(a)", "a (the input of the softmax y)"),
        ("b = Softmax(a) y = Identity(b)", "a (the input of the softmax y)"),
        ("y = Exp(a)", "y"),
        ("y = LogSoftmax(a)", "y"),
    ],
)
def test_of_a_softmax_the_input_is_the_default_target(body: str, text: str, tmp_path: Path) -> None:
    assert softmax(f"(float[n, 3] x) => (float[n, 3] y) {{ a = Tanh(x) {body} }}", tmp_path) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(float[n, 3] x) => (float[n, 3] y, float[n, 3] z) { y = Exp(x) z = Tanh(x) }", "has 2 vector outputs .y, z."),
        ("(float[n, 3, 2] x) => (float[n, 3, 2] y) { y = Exp(x) }", "has no vector output"),
        ("(float[n, 3] x) => (int64[n, 1] y) { y = ArgMax <axis = 1> (x) }", "has no vector output"),
    ],
)
def test_without_one_vector_output_the_target_must_be_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadTargetError, match=message):
        default_target(parse(text, tmp_path))


def test_the_target_of_model_yaml_is_the_default_and_is_checked(graph: ModelGraph) -> None:
    found = planner_of(graph, "vector", ("grad:down",)).resolve([], INPUT).target
    assert found is not None
    assert found.text == "vector"
    with pytest.raises(BadTargetError, match="after 'down'"):
        planner_of(graph, "down")


def test_a_model_with_a_quoted_layer_of_that_name_has_no_special_meaning(tmp_path: Path) -> None:
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[n, 3] x) => (float[n, 3] y) { y = Exp(x) }'
    )
    model.graph.node.insert(0, helper.make_node("Tanh", ["x"], ["input"]))
    model.graph.node[1].input[0] = "input"
    model.graph.output.append(helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, ["n", 3]))
    graph = read(model, tmp_path)
    planner = Planner(graph, graph.layers, 1, Selectors(graph.layers, {}, ()), {}, ())
    resolution = planner.resolve(["grad:input", "grad:x"], PlanInput(pictures=False, size=(3,)), target="y")
    assert [result.layer for result in resolution.results] == ["grad:input", "grad:x"]
